"""Where things lie in a run folder, and what lies there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..canonical import KEY_LENGTH
from ..errors import StoreError
from .atomic import is_temporary
from .schema import KINDS, Kind

Name = tuple[Kind, str]
"""Kind and key: what identifies a record in a folder."""

_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


class Stamp(NamedTuple):
    """What tells that a file was replaced: modification time in nanoseconds, size in bytes."""

    mtime_ns: int
    size: int


def record_path(folder: Path, kind: str, key: str) -> Path:
    """Returns ``records/<kind>/<k0k1>/<key>.json``.

    Raises:
        StoreError: for an unknown kind or something that is no key.
    """
    return _path(folder / "records", kind, key, ".json")


def artifact_path(folder: Path, kind: str, key: str) -> Path:
    """Returns ``artifacts/<kind>/<k0k1>/<key>.safetensors``.

    Raises:
        StoreError: for an unknown kind or something that is no key.
    """
    return _path(folder / "artifacts", kind, key, ".safetensors")


def stamp(path: Path) -> Stamp:
    """Returns a file's stamp."""
    info = path.stat()
    return Stamp(info.st_mtime_ns, info.st_size)


def stored_records(folder: Path) -> dict[Name, Stamp]:
    """Returns the stamp of every record file; files of any other name are not ours and left alone."""
    found: dict[Name, Stamp] = {}
    for name, entry in _files(folder / "records", ".json"):
        try:
            info = entry.stat()
        except FileNotFoundError:  # deleted by a run that goes on meanwhile
            continue
        found[name] = Stamp(info.st_mtime_ns, info.st_size)
    return found


def stored_artifacts(folder: Path) -> set[Name]:
    """Returns the names of all artifact files."""
    return {name for name, _ in _files(folder / "artifacts", ".safetensors")}


def remove_temporaries(folder: Path) -> int:
    """Removes what killed processes left behind and returns how many files; only for the holder of the lock."""
    removed = 0
    for parent, _, files in os.walk(folder):
        for name in filter(is_temporary, files):
            Path(parent, name).unlink(missing_ok=True)
            removed += 1
    return removed


def _path(root: Path, kind: str, key: str, ending: str) -> Path:
    if kind not in KINDS or not _KEY.fullmatch(key):
        raise StoreError(f"got {kind} {key!r}, expected one of {', '.join(KINDS)} and {KEY_LENGTH} hex digits")
    return root / kind / key[:2] / (key + ending)


def _files(root: Path, ending: str) -> Iterator[tuple[Name, os.DirEntry[str]]]:
    for kind in KINDS:
        for shelf in _entries(root / kind):
            if not shelf.is_dir():
                continue
            for entry in _entries(shelf.path):
                key = entry.name.removesuffix(ending)
                if key != entry.name and _KEY.fullmatch(key) and key[:2] == shelf.name:
                    yield (kind, key), entry


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
