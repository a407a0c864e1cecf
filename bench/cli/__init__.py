"""The command line. Commands import what they need when they run: ``--help`` does not load torch."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; a user's mistake ends in a message and exit code 2, never in a traceback."""
    from ..errors import SplitAuditError
    from .app import app

    try:
        app()
    except SplitAuditError as exc:
        print(f"splitaudit: {exc}", file=sys.stderr)
        raise SystemExit(exc.exit_code) from None
    except KeyboardInterrupt:
        print("splitaudit: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of a pipe has left (`splitaudit list | head`): that is its right.
        sys.stderr.close()
        raise SystemExit(0) from None
