"""A summary of every record in one file, so that the state of thousands is known without opening them.

``index.jsonl`` is derived: it may be deleted, cut or out of date, and costs no more than re-reading the records whose
stamp differs. Its first line names its version; each further line is the summary of a record as it was written, and the
last line about a record counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .atomic import write_text
from .layout import Name, Stamp
from .schema import KINDS, Kind

_HEAD = {"index_version": 1}
_SPARE = 1000
"""Superseded lines that are put up with, where there are not as many living ones."""


@dataclass(frozen=True)
class Entry:
    """What is known of a record without opening it.

    Attributes:
        kind: target, fit, cell or reference.
        key: the record's key.
        status: ``done``, ``failed``, or ``incomplete``: the record says done, but its artifact is gone.
        artifact: whether the record has an artifact.
        error: type and first line of what went wrong, or None.
        duration: seconds, all stages together.
        measurements: for targets, measure to key, of those that are done.
        scores: for cells and reference rows, metric to key, of those that are done.
        unavailable: measure or metric to key, of those that cannot have a value.
    """

    kind: Kind
    key: str
    status: str
    artifact: bool
    error: str | None = None
    duration: float = 0.0
    measurements: dict[str, str] = field(default_factory=dict)
    scores: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def summarise(record: dict[str, Any]) -> Entry:
    """Returns the entry of a checked record."""
    error = record["error"]
    measured, scored = record.get("measurements", {}), record.get("scores", {})
    for row in record.get("rows", {}).values():  # every reference row has the same metrics
        scored = row
    found = measured | scored
    return Entry(
        kind=record["kind"],
        key=record["key"],
        status=record["status"],
        artifact=record["artifact"],
        error=None if error is None else f"{error['type']}: {error['message']}".splitlines()[0],
        duration=float(sum(record["timing"].values())),
        measurements={name: m["key"] for name, m in measured.items() if m["status"] == "done"},
        scores={name: s["key"] for name, s in scored.items() if s["status"] == "done"},
        unavailable={name: f["key"] for name, f in found.items() if f["status"] == "unavailable"},
    )


class Index:
    """The entries of a run folder with their stamps, in memory and in ``index.jsonl``.

    Args:
        path: the file.
        writable: whether to keep the file up to date; only the holder of the lock may.
    """

    def __init__(self, path: Path, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self.entries: dict[Name, Entry] = {}
        self._stamps: dict[Name, Stamp] = {}
        self._superseded = 0
        self._sound = self._load()

    def refresh(self, found: dict[Name, Stamp], read: Callable[[Name], Entry | None]) -> None:
        """Brings the entries in line with the record files.

        Args:
            found: every record file with its stamp.
            read: opens one record; None if it is gone.
        """
        gone = self.entries.keys() - found.keys()
        changed = [name for name, stamp in found.items() if self._stamps.get(name) != stamp]
        for name in gone:
            self._forget(name)
        lines: list[str] = []
        for name in changed:
            entry = read(name)
            if entry is None:
                self._forget(name)
            else:
                lines.append(self._keep(entry, found[name]))
        if not self.writable:
            return
        if not self._sound or self._superseded > max(_SPARE, len(self.entries)):
            self._rewrite()
        else:
            self._append(lines)

    def put(self, entry: Entry, stamp: Stamp) -> None:
        """Enters a record that was just written."""
        self._append([self._keep(entry, stamp)])

    def _keep(self, entry: Entry, stamp: Stamp) -> str:
        name = (entry.kind, entry.key)
        self._superseded += name in self.entries
        self.entries[name], self._stamps[name] = entry, stamp
        return _line(entry, stamp)

    def _forget(self, name: Name) -> None:
        self._superseded += self.entries.pop(name, None) is not None
        self._stamps.pop(name, None)

    def _load(self) -> bool:
        """Reads the file as far as it can be understood; says whether all of it could."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return False
        head, *lines = text.split("\n")
        if head != json.dumps(_HEAD):
            return False
        sound = bool(lines) and lines.pop() == ""  # a last line without its end was cut off
        for line in lines:
            parsed = _parsed(line)
            if parsed is None:
                sound = False
            else:
                self._keep(*parsed)
        return sound

    def _append(self, lines: list[str]) -> None:
        if lines:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("".join(lines))

    def _rewrite(self) -> None:
        lines: Iterable[str] = (_line(entry, self._stamps[name]) for name, entry in sorted(self.entries.items()))
        write_text(self.path, json.dumps(_HEAD) + "\n" + "".join(lines))
        self._superseded, self._sound = 0, True


_TYPES: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "artifact": (bool,),
    "error": (str, type(None)),
    "duration": (int, float),
    "measurements": (dict,),
    "scores": (dict,),
    "unavailable": (dict,),
    "mtime_ns": (int,),
    "size": (int,),
}
_NAMES = {f.name for f in fields(Entry)} | set(Stamp._fields)


def _line(entry: Entry, stamp: Stamp) -> str:
    return json.dumps({**vars(entry), **stamp._asdict()}, separators=(",", ":")) + "\n"


def _parsed(line: str) -> tuple[Entry, Stamp] | None:
    """Returns what a line says, or None where it is not a whole line of this version."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != _NAMES:
        return None
    if value["kind"] not in KINDS or value["status"] not in ("done", "failed"):
        return None
    if not all(isinstance(value[name], types) for name, types in _TYPES.items()):
        return None
    return Entry(**{k: v for k, v in value.items() if k not in Stamp._fields}), Stamp(value["mtime_ns"], value["size"])
