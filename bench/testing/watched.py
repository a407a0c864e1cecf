"""A View that notes who reaches into it from outside: names with an underscore are not granted to any attack."""

from __future__ import annotations

import sys
from typing import Any

from ..pairs import Pairs
from ..public_defense import PublicDefense
from ..view import View

_INSIDE = (View.__module__, PublicDefense.__module__, Pairs.__module__, __name__.rpartition(".")[0])


class _Watched:
    """Notes every inner name that code outside the framework's view reads, as ``name (module:line)``."""

    trespasses: list[str]

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__" or (name.startswith("_") and not name.endswith("__")):
            caller = sys._getframe(1)
            module = str(caller.f_globals.get("__name__"))
            if not module.startswith(_INSIDE):
                self.trespasses.append(f"{name} ({module}:{caller.f_lineno})")
        return super().__getattribute__(name)


class WatchedPairs(_Watched, Pairs):
    """Pairs that note who reaches into them."""

    def __init__(self, pairs: Pairs, trespasses: list[str]) -> None:
        super().__init__(pairs._images, pairs._draw)
        self.trespasses = trespasses


class WatchedView(_Watched, View):
    """A View that notes who reaches into it and into its pairs."""

    def __init__(self, **given: Any) -> None:
        self.trespasses = []
        super().__init__(**given)

    def pairs(self, part: str, *, flips: bool = False, batch: int = 256) -> Pairs:
        return WatchedPairs(super().pairs(part, flips=flips, batch=batch), self.trespasses)
