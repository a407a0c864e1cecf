"""What is known of images beside their class: a table in the folder of ``imagefolder``."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .base import LABEL

FILE = "file"
"""Head of the column that names the files."""

MOST = 1000
"""Greatest number of values of an attribute; a column of numbers or names is none."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of a folder's images.

    Attributes:
        values: attribute to the names of its values, sorted.
        of_file: attribute to the index of its value for each file, in the order of the files.
        sha256: of the table's bytes.
    """

    values: dict[str, tuple[str, ...]]
    of_file: dict[str, list[int]]
    sha256: str


def read_attributes(path: Path, names: Sequence[str]) -> Attributes:
    """Reads a CSV table: a column ``file`` (path relative to the root, forward slashes), every other column an attribute.

    Args:
        path: of the table.
        names: of the images, relative to the root; every one needs a line, lines of other files are not read.

    Raises:
        DataError: no such file, no column ``file`` or none beside it, images without a line or with two, empty values,
            an attribute with a single value or more than a thousand.
    """
    try:
        raw = path.read_bytes()
        head, *lines = [row for row in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"imagefolder: attributes: {path} cannot be read ({exc}). Expected CSV text in UTF-8.") from exc
    heads = [h.strip() for h in head]
    if FILE not in heads or len(heads) < 2 or len(set(heads)) < len(heads) or "" in heads:
        raise DataError(
            f"imagefolder: attributes: {path} has the columns {', '.join(heads) or 'none'}. Expected '{FILE}' (path "
            "relative to the folder, as train/cat/1.png) and one column for each attribute, each with a name of its own."
        )
    if LABEL in heads:
        raise DataError(
            f"imagefolder: attributes: {path}: '{LABEL}' is the class of an image; give the column another name."
        )
    known: dict[str, dict[str, str]] = {}
    for line in lines:
        if len(line) != len(heads):
            raise DataError(
                f"imagefolder: attributes: {path}: the line of {line[0]} has {len(line)} values. Expected {len(heads)}: "
                f"{', '.join(heads)}."
            )
        row = dict(zip(heads, line, strict=True))
        if row[FILE] in known:
            raise DataError(
                f"imagefolder: attributes: {path} has two lines for {row[FILE]}. Expected one for each image."
            )
        known[row[FILE]] = row
    missing = [n for n in names if n not in known]
    if missing:
        raise DataError(
            f"imagefolder: attributes: {path} has no line for {len(missing)} of {len(names)} images, the first is "
            f"{missing[0]}. Paths are relative to the folder, with forward slashes."
        )
    values, of_file = {}, {}
    for head in heads:
        if head != FILE:
            values[head], of_file[head] = _column(path, head, [(n, known[n][head]) for n in names])
    return Attributes(values, of_file, hashlib.sha256(raw).hexdigest())


def _column(path: Path, head: str, found: Sequence[tuple[str, str | None]]) -> tuple[tuple[str, ...], list[int]]:
    empty = next((name for name, value in found if not value), None)
    if empty is not None:
        raise DataError(
            f"imagefolder: attributes: {path}: '{head}' of {empty} is empty. Expected a value for each image."
        )
    values = tuple(sorted({str(value) for _, value in found}))
    if not 2 <= len(values) <= MOST:
        raise DataError(
            f"imagefolder: attributes: {path}: '{head}' has {len(values)} values. Expected 2 to {MOST}; leave out the column "
            "if it is no attribute."
        )
    index = {value: i for i, value in enumerate(values)}
    return values, [index[str(value)] for _, value in found]
