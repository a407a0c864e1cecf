"""The command line. Commands import what they need when they run: ``--help`` does not load torch."""

from __future__ import annotations

import errno
import sys

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Errors of the machine that a user can mend: no space, no permission."""


def main() -> None:
    """Runs the command line; a user's mistake ends in a message and exit code 2, never in a traceback."""
    try:
        _main()
    except KeyboardInterrupt:
        print("splitaudit: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        _forget_the_interrupt()


def _forget_the_interrupt() -> None:
    """Lets a handled Ctrl-C end in the exit code that was chosen for it.

    Where it came while some library ran code given as a string (dataclasses do), CPython takes it for unhandled for good, and
    ``python -m`` ends as killed by SIGINT whatever was raised since. The next such code clears that.
    """
    exec("")


def _main() -> None:
    from ..errors import SplitAuditError
    from .app import app
    from .output import caused_by, drop, flush

    try:
        try:
            app(prog_name="splitaudit")
        finally:
            flush()
    except SplitAuditError as exc:
        print(f"splitaudit: {exc}", file=sys.stderr)
        raise SystemExit(exc.exit_code) from None
    except (BrokenPipeError, SystemExit) as exc:
        if caused_by(exc, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # typer made an exit code of its own of it
        if not caused_by(exc, BrokenPipeError):
            raise
        # The reader of a pipe has left (`splitaudit list | head`): that is its right. The command's own code stays.
        drop(1)
        ended = exc.__context__ if isinstance(exc, BrokenPipeError) else None
        raise SystemExit(ended.code if isinstance(ended, SystemExit) else 0) from None
    except OSError as exc:
        if exc.errno not in _MACHINE:
            raise
        print(f"splitaudit: {exc}. What was complete is stored: the same command goes on.", file=sys.stderr)
        raise SystemExit(2) from None
