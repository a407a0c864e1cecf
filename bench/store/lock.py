"""One run at a time in one results folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from ..errors import StoreError

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # a lock on Windows forbids reading what it covers: cover a byte that is never written

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as exc:
            raise BlockingIOError from exc
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RunLock:
    """Holds a run folder for the length of a ``with`` block.

    The kernel drops the lock when its process ends, however it ends: a killed run blocks nobody. The file itself stays,
    because removing it would let two runs hold two files of the same name. It says who holds the lock and decides
    nothing.

    Args:
        folder: the run folder; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "run.lock"
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        """Takes the lock at once.

        Raises:
            StoreError: another run holds it, the file system has no locks, or the folder cannot be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as exc:
            raise StoreError(f"{self.folder}: cannot be written ({exc}). Choose another folder with --out.") from exc
        try:
            self._take(descriptor)
            holder = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            os.ftruncate(descriptor, 0)
            os.write(descriptor, (json.dumps(holder) + "\n").encode())
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # what it says is only for people; the lock is dropped by closing
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, descriptor: int) -> None:
        try:
            _take(descriptor)
        except BlockingIOError as exc:
            raise StoreError(
                f"{self.folder}: is in use by {self._holder()}. One run at a time may write to a results folder. "
                "Wait for it to end, or choose another folder with --out."
            ) from exc
        except OSError as exc:
            raise StoreError(
                f"{self.folder}: its file system cannot lock files ({exc}), so two runs could write at once. "
                "Choose a folder on a local disk with --out."
            ) from exc

    def _holder(self) -> str:
        """Returns who holds the lock, in words; the holder may not have signed yet."""
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']} (since {holder['started']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
