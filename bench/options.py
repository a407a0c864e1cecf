"""How and where a run is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data.base import DataContext
from .events import Event, Listener, silent


@dataclass(frozen=True)
class Options:
    """How and where a run is done; nothing in it may change a number.

    Attributes:
        out: the run folder; None: ``results/<suite name>`` below the current folder.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        executor: ``processes`` or ``serial``; None: processes on the CPU, serial on a GPU.
        jobs: worker processes; None: one per core.
        data_root: folder with (or for) the files of datasets.
        offline: never open a connection.
        images: store and show reconstructions and private pictures.
        plugins: files with plugins of your own.
        filters: field of a row (defense, attack, knowledge, seed) to the values to run.
        limit: run at most so many cells.
        force: patterns of defense or attack names to do again.
        keep_failed: do not try failed nodes again.
        fail_fast: stop at the first failure.
    """

    out: Path | None = None
    device: str = "auto"
    executor: str | None = None
    jobs: int | None = None
    data_root: Path | None = None
    offline: bool = False
    images: bool = True
    plugins: tuple[str, ...] = ()
    filters: Mapping[str, Collection[Any]] | None = None
    limit: int | None = None
    force: tuple[str, ...] = ()
    keep_failed: bool = False
    fail_fast: bool = False

    def context(self, folder: Path | None, listener: Listener = silent) -> DataContext:
        """Returns the surroundings of datasets; without a run folder there is no cache."""

        def tell(message: str) -> None:
            listener(Event("note", message=message))

        return DataContext(self.data_root, folder / "cache" if folder else None, self.offline, tell)
