"""The store of a run folder: records, their artifacts, and what is done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from . import layout
from .atomic import read_metadata, read_tensors, to_json, write_tensors, write_text
from .index import Entry, Index, summarise
from .layout import Name
from .lock import RunLock
from .records import parse, validate
from .schema import KINDS, Kind

if TYPE_CHECKING:
    import torch


class Store:
    """The records and artifacts of one run folder.

    ``Store(folder)`` touches no file: enough for a worker, which reads and writes artifacts. :meth:`open` is for
    reading what is there, also while a run goes on. :meth:`writing` is for the one process that writes records.

    Args:
        folder: the run folder, ``results/<suite>``.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.suite_path = self.folder / "suite.yaml"
        self._writer = False
        self._index: Index | None = None

    @classmethod
    def open(cls, folder: Path | str) -> Store:
        """Returns the store of a folder that holds results, for reading.

        Raises:
            StoreError: there are none.
        """
        store = cls(folder)
        if not (store.folder / "records").is_dir():
            raise StoreError(
                f"{store.folder}: holds no results, expected a folder that 'splitaudit run' wrote. Check the path, "
                "or run first."
            )
        return store

    @classmethod
    @contextlib.contextmanager
    def writing(cls, folder: Path | str) -> Iterator[Store]:
        """Makes the folder where needed and gives the store that writes to it, for the length of a ``with`` block.

        Takes the run lock, removes what killed processes left half-written and brings the index up to date. Workers may
        only be started inside the block.

        Raises:
            StoreError: another run holds the folder, it cannot be written, or a record in it cannot be read.
        """
        store = cls(folder)
        try:
            (store.folder / "records").mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{store.folder}: cannot be made ({exc}). Choose another folder with --out.") from exc
        with RunLock(store.folder):
            layout.remove_temporaries(store.folder)
            store._writer = True
            try:
                store._refreshed()
                yield store
            finally:
                store._writer, store._index = False, None

    # -- records --------------------------------------------------------------------------------------------------

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes a record, over an older one of the same key; its artifact must be there already.

        A record without an artifact leaves none behind.

        Raises:
            StoreError: wrong shape, a number that is not finite, a missing artifact, or a store opened for reading.
        """
        index = self._writable()
        # What is checked is what will be read back: JSON knows no tuples and no keys but texts.
        complete = validate(json.loads(to_json(record, "record")))
        kind, key = complete["kind"], complete["key"]
        artifact = self.artifact_path(kind, key)
        if complete["artifact"] and not artifact.is_file():
            raise StoreError(
                f"{kind} {key}: its artifact {artifact} is missing. Write artifacts first, the record last."
            )
        path = self.record_path(kind, key)
        write_text(path, to_json(complete, "record"))
        index.put(summarise(complete), layout.stamp(path))
        if not complete["artifact"]:
            artifact.unlink(missing_ok=True)

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns a record in the current format, or None if there is none.

        Raises:
            StoreError: the file is damaged or newer than the program; the text names it and says what to do.
        """
        path = self.record_path(kind, key)
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as exc:
            raise StoreError(f"{path}: is not text ({exc}). Delete the file: the next run does it again.") from exc
        except OSError as exc:
            raise StoreError(f"{path}: cannot be read ({exc}). Check its permissions and the disk.") from exc
        record = parse(text, str(path))
        if (record["kind"], record["key"]) != (kind, key):
            raise StoreError(
                f"{path}: holds {record['kind']} {record['key']}, expected what its name says. Delete the file: the "
                "next run does it again."
            )
        return record

    def delete(self, kind: str, key: str) -> None:
        """Deletes a record, then its artifact; nothing happens where there is none.

        Raises:
            StoreError: the store is not writing.
        """
        self._writable()
        self.record_path(kind, key).unlink(missing_ok=True)  # its line in the index is ignored from now on
        self.artifact_path(kind, key).unlink(missing_ok=True)

    def records(self, kind: Kind) -> Iterator[dict[str, Any]]:
        """Yields every record of a kind, failed ones too, in the order of their keys."""
        for name in sorted(n for n in layout.stored_records(self.folder) if n[0] == kind):
            record = self.read(*name)
            if record is not None:
                yield record

    def record_path(self, kind: str, key: str) -> Path:
        """Returns where a record lies."""
        return layout.record_path(self.folder, kind, key)

    # -- artifacts ------------------------------------------------------------------------------------------------

    def artifact_path(self, kind: str, key: str) -> Path:
        """Returns where the tensors of a record lie."""
        return layout.artifact_path(self.folder, kind, key)

    def write_artifact(
        self, kind: str, key: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes the tensors of a record; any process may, before the record is written."""
        write_tensors(self.artifact_path(kind, key), tensors, metadata)

    def read_artifact(self, kind: str, key: str, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
        """Returns the tensors of a record on a device.

        Raises:
            StoreError: there are none, or the file is damaged.
        """
        return read_tensors(self.artifact_path(kind, key), device)

    def artifact_metadata(self, kind: str, key: str) -> dict[str, str]:
        """Returns the metadata that the artifact was written with."""
        return read_metadata(self.artifact_path(kind, key))

    # -- state ----------------------------------------------------------------------------------------------------

    def status(self) -> dict[Name, Entry]:
        """Returns what is known of every record, by kind and key, without opening those that the index knows.

        A done record whose artifact is gone is ``incomplete``: neither done nor failed, to be done again.

        Raises:
            StoreError: records that cannot be read, all of them named.
        """
        artifacts = layout.stored_artifacts(self.folder)
        entries = dict(sorted(self._refreshed().entries.items(), key=_order))
        for name, entry in entries.items():
            if entry.artifact and name not in artifacts:
                entries[name] = dataclasses.replace(entry, status="incomplete", error="its artifact is missing")
        return entries

    def outdated(self, planned: Collection[Name]) -> list[Name]:
        """Returns the stored records that a plan does not have, by kind and key: left by older versions or configs."""
        planned = set(planned)
        return [name for name in self.status() if name not in planned]

    def _refreshed(self) -> Index:
        if self._index is None:
            self._index = Index(self.folder / "index.jsonl", self._writer)
        problems: list[str] = []

        def read(name: Name) -> Entry | None:
            try:
                record = self.read(*name)
            except StoreError as exc:
                problems.append(str(exc))
                return None
            return None if record is None else summarise(record)

        self._index.refresh(layout.stored_records(self.folder), read)
        if problems:
            more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
            raise StoreError("\n".join([*problems[:10], *more]))
        return self._index

    def _writable(self) -> Index:
        if not self._writer or self._index is None:
            raise StoreError(
                f"{self.folder}: was opened for reading. Records are written inside Store.writing(folder)."
            )
        return self._index


def _order(item: tuple[Name, Entry]) -> tuple[int, str]:
    (kind, key), _ = item
    return KINDS.index(kind), key
