"""What each image file holds (content hash, size, colour, pixels), remembered between runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from ._files import ImageFile
from ._pixels import is_grey

_FORMAT = 1

MANY = 5_000
"""New files whose reading takes long enough to be told."""

SHOWN = 10
"""Files that an error names."""


@dataclass(frozen=True)
class FileFacts:
    """What the header and the bytes of a file say.

    Attributes:
        sha256: hash of the bytes.
        height, width: in px.
        grey: one channel instead of three.
    """

    sha256: str
    height: int
    width: int
    grey: bool


def facts_of(
    root: Path, files: Sequence[ImageFile], cache: Path | None, tell: Callable[[str], None] | None = None
) -> list[FileFacts]:
    """Returns the facts of every file; those whose path, size and time are in the cache are not read again.

    Args:
        root: the dataset's folder; decides the name of the cache file.
        files: what to read.
        cache: folder for the cache; None: no cache.
        tell: is told if many files have to be read.

    Raises:
        DataError: files that cannot be read or are no images, all in one message; the cache folder cannot be written.
    """
    place = None if cache is None else _place(cache, "files", root)
    known = {} if place is None else _read(place)
    if tell is not None and len(files) - len(known) >= MANY:
        tell(f"Reading {len(files):,} image files to know what they hold; a run folder remembers it.")
    fresh: dict[str, list] = {}
    facts, problems = [], []
    for file in files:
        stat = file.path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        old = known.get(file.name)
        try:
            found = old[1] if old is not None and old[0] == stamp else _inspect(file.path)
        except DataError as exc:
            problems.append(str(exc))
            continue
        fresh[file.name] = [stamp, list(astuple(found))]
        facts.append(found)
    if place is not None and {name: [s, list(astuple(f))] for name, (s, f) in known.items()} != fresh:
        _write(place, fresh)
    _report(problems)
    return facts


def _inspect(path: Path) -> FileFacts:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            return FileFacts(hashlib.sha256(data).hexdigest(), image.height, image.width, is_grey(image))
    except DataError as exc:
        raise DataError(f"imagefolder: {path}: {exc}") from exc
    except Exception as exc:  # decoders raise anything; it is shown with the file's name
        raise DataError(unreadable(path, exc)) from exc


def pixel_hashes(
    root: Path,
    files: Sequence[ImageFile],
    facts: Sequence[FileFacts],
    decode: Callable[[ImageFile], np.ndarray],
    conversion: str,
    cache: Path | None,
) -> list[str]:
    """Returns a hash of each file's pixels as they are used; equal for copies saved with other metadata.

    Files of equal bytes are decoded once, and those whose bytes are in the cache are not decoded again.

    Args:
        root: the dataset's folder; decides the name of the cache file.
        files: what to decode.
        facts: of the files.
        decode: returns a file's pixels, uint8.
        conversion: says how files are decoded; another one has a cache file of its own.
        cache: folder for the cache; None: no cache.

    Raises:
        DataError: files that cannot be decoded, all in one message; the cache folder cannot be written.
    """
    place = None if cache is None else _place(cache, "pixels", root, conversion)
    known = {} if place is None else _read_pixels(place)
    fresh: dict[str, str] = {}
    problems = []
    for file, fact in zip(files, facts, strict=True):
        if fact.sha256 not in fresh:
            old = known.get(fact.sha256)
            try:
                fresh[fact.sha256] = hashlib.sha256(decode(file).tobytes()).hexdigest() if old is None else old
            except DataError as exc:
                problems.append(str(exc))
    if place is not None and fresh != known:
        _write(place, fresh)
    _report(problems)
    return [fresh[fact.sha256] for fact in facts]


def _report(problems: Sequence[str]) -> None:
    """Raises one error for all files that are no images, so that a folder is mended in one go."""
    if problems:
        more = len(problems) - SHOWN
        raise DataError(
            "\n".join([*problems[:SHOWN], *([f"imagefolder: and {more} more such files."] if more > 0 else [])])
        )


def _place(cache: Path, what: str, root: Path, more: str = "") -> Path:
    text = os.fsencode(root.resolve()) + more.encode()
    return cache / f"{what}-{hashlib.sha256(text).hexdigest()[:16]}.json"


def unreadable(path: Path, exc: Exception) -> str:
    """Returns the message for a file that is no readable image."""
    # Pillow names the buffer that it was given, an address in memory.
    why = "Pillow knows no such format" if isinstance(exc, UnidentifiedImageError) else f"{type(exc).__name__}: {exc}"
    return f"imagefolder: {path} is not a readable image ({why}). Replace or remove it."


def _read(place: Path) -> dict[str, tuple[list[int], FileFacts]]:
    """Returns what the cache file holds; nothing if it is missing, damaged or of another format."""
    try:
        stored = json.loads(place.read_bytes())
        if stored["format"] != _FORMAT:
            return {}
        known = {name: (list(stamp), FileFacts(*values)) for name, (stamp, values) in stored["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a cache only saves time: it is rebuilt from the files
    sound = all(
        isinstance(f.sha256, str) and type(f.height) is int and type(f.width) is int and type(f.grey) is bool
        for _, f in known.values()
    )
    return known if sound else {}


def _read_pixels(place: Path) -> dict[str, str]:
    try:
        stored = json.loads(place.read_bytes())
        known = stored["files"] if stored["format"] == _FORMAT else {}
        return known if all(isinstance(v, str) and len(v) == 64 for v in known.values()) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(place: Path, files: Mapping[str, object]) -> None:
    text = json.dumps({"format": _FORMAT, "files": files}, separators=(",", ":"))
    temporary: str | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, suffix=".tmp")
        with os.fdopen(handle, "w") as out:
            out.write(text)
        os.replace(temporary, place)
        temporary = None
    except OSError as exc:
        raise DataError(f"imagefolder: the cache {place} cannot be written ({exc}). Choose a writable folder.") from exc
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
