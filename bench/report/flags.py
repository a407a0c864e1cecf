"""Validity flags: what they mean in plain words, and where they were raised."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..scoring import OUTSIDE
from .columns import PLACE, TRUTH
from .frames import select

NOT_CONVERGED = "not converged"
NO_BETTER = "no better than the prior"
WORST_NO_BETTER = f"even the strongest attack is {NO_BETTER}"
DIVERGED = "diverged"
WEAK_WHITE_BOX = "white-box weaker than black-box"
DEEPER = "a deeper cut leaks more"
FALSE_SECURITY = "false security"
BETTER_BLIND = "weaker than without account of the defense"
CHANCE = "accuracy at chance"

EXPLAINED: dict[str, str] = {
    NOT_CONVERGED: "The attack or its training was still improving when it stopped: a longer one may leak more.",
    DIVERGED: (
        "A loss of the attack, or of its training, ends above where it began, an accuracy below, or one holds values that are "
        "not finite: the attack is no measure of what leaks."
    ),
    NO_BETTER: (
        "The interval of the leakage score (of the advantage, for attacks on labels) reaches 0: nothing shows that this attack "
        "beats a constant guess."
    ),
    WEAK_WHITE_BOX: (
        "An attack that needs the edge's weights (in the summary: the best such) leaks less than the best one without them, "
        "beyond the interval. Who knows more can always do as well as who knows less, so it is too weak here: the true worst "
        "case is at least that of the attack without them."
    ),
    DEEPER: (
        "At a deeper cut of the same backbone behind the same defense the best attack leaks more, beyond the interval. What a "
        "deeper layer knows the shallower one knows too, if it is the same network (here each cut has a training of its own): "
        "most likely the attack at the shallower cut is too weak."
    ),
    FALSE_SECURITY: (
        "An attack that ignores the defense leaks less than the same attack that takes it into account, beyond the interval: "
        "who judges the defense by the former sees a protection that is not there."
    ),
    BETTER_BLIND: (
        "The same attack leaks more, beyond the interval, if it ignores the defense. Who knows the defense can always do as if "
        "there were none, so the attack is too weak here (at levels of queries it has defended features alone, the other has "
        "clean ones)."
    ),
    CHANCE: "The defended model does not do its task: its privacy costs everything.",
    "validation accuracy still rising": "Training ended early: a longer one may change accuracy and leakage.",
    "mutual information": (
        "The estimator cannot be believed here (at its ceiling, or its critic is too weak): only the bound is shown. "
        "Two targets at the ceiling are not shown to be equal."
    ),
    "features were reduced": (
        "Features or images were projected to fewer dimensions before the estimate: it is of the projection, which tells no "
        "more than the whole."
    ),
    "reduced features": "Counted on a projection of the features: not comparable with a count on all of them.",
    "entropy": "The estimate is of fewer images than there are, or there is none and its reason stands beside it.",
    "Fisher information": (
        "There is no figure, for the reason named: the wire has no gradient that says what it does (as of rounding), there are "
        "too few images, or features have no scale."
    ),
    "reconstruction floor": "There is no floor, for the reason named: nothing is known of how small an error could be.",
    "effective information volume": "Every element is non-zero, as with noise: the count says nothing about leakage.",
    "constant features": "The wire carries the same features for every image.",
    OUTSIDE: "The attack returned values outside [0, 1], which were clipped.",
}
"""Beginning of a flag (or a word in it) to its explanation."""


def explain(flag: str) -> str:
    """Returns what a flag means in plain words; empty where nobody has said."""
    return next((text for start, text in EXPLAINED.items() if start in flag), "")


@dataclass(frozen=True)
class Raised:
    """What is known of one kind of flag.

    Attributes:
        kind: the flag, without what it is about.
        where: (what it is about or empty, place and knowledge level, defenses).
    """

    kind: str
    where: tuple[tuple[str, str, str], ...]


def kind_of(flag: str) -> str:
    """Returns the kind of a flag: what stands before its colon."""
    return flag.split(": ")[0]


def raised_in(row: Mapping[Any, Any]) -> list[str]:
    """Returns the flags of a row of a table."""
    text = row.get("flags")
    return [f for f in text.split("; ") if f] if isinstance(text, str) else []


Places = dict[tuple[str, str], dict[str, dict[str, None]]]
"""(What a flag is about, its place) to level of knowledge to defenses."""


def collect(summary: pd.DataFrame, cells: pd.DataFrame | None = None) -> list[Raised]:
    """Returns the flags of the summary by kind, in the order in which they appear.

    Args:
        summary: the table.
        cells: the table of cells, if the kinds that are raised there alone are to follow, each about its attack.
    """
    found = _by_kind(summary)
    if cells is not None:
        found |= _by_kind(cells, but=set(found), about="attack")
    return [Raised(kind, tuple(_merged(places))) for kind, places in found.items()]


def _by_kind(table: pd.DataFrame, but: Collection[str] = (), about: str | None = None) -> dict[str, Places]:
    """Returns kind to where it was raised in a table; about what a column says, if one is named, else what the flag does."""
    found: dict[str, Places] = {}
    table = select(table, table["knowledge"] != TRUTH)  # rows from the truth are at no place of their own
    many = len(table[list(PLACE)].drop_duplicates()) > 1
    for row in table.to_dict("records"):
        place = ", ".join(row[n] for n in PLACE) if many else ""
        for flag in raised_in(row):
            kind = kind_of(flag)
            if kind in but:
                continue
            what = row[about] if about else flag.removeprefix(kind).removeprefix(": ")
            levels = found.setdefault(kind, {}).setdefault((what, place), {})
            levels.setdefault(row["knowledge"], {})[row["defense"]] = None
    return found


def _merged(places: Mapping[tuple[str, str], Mapping[str, Mapping[str, None]]]) -> Iterator[tuple[str, str, str]]:
    """Yields (about, where, defenses); levels with the same defenses are named together."""
    for (about, place), levels in sorted(places.items()):
        alike: dict[str, list[str]] = {}
        for level, names in levels.items():
            alike.setdefault(", ".join(names), []).append(level)
        for names, some in alike.items():
            yield about, "; ".join(t for t in (place, " and ".join(some)) if t), names
