"""Runs pyright over the package as it lies once installed; prints what it finds and exits with its code."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Checks the four source folders as the one package that they are once installed."""
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "splitaudit"
        # The mapping of pyproject.toml as folders: an editable install's finder is invisible to type checkers.
        package.mkdir()
        for item in (ROOT / "bench").iterdir():
            (package / item.name).symlink_to(item)
        for name in ("attacks", "defenses", "metrics"):
            (package / name).symlink_to(ROOT / name, target_is_directory=True)
        command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(package)]
        return subprocess.run(command, cwd=temporary, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
