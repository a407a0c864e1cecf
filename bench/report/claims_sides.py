"""The two sides of a claim's comparison: the figure of a defense over all its seeds, with what can be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from .. import stats
from ..config.claims import ClaimFigure
from ..labels import ignores_defense, labels_meant
from ..plan import Plan
from .columns import HIGH, LOW, TRUTH, measure_columns, measure_names, metric_names
from .flags import CHANCE
from .frames import joined, select
from .headline import by_seed
from .lacks import Tried, decided_elsewhere
from .reading import Array, Records
from .targets import accuracy_per_image

AT = " at "
"""Between an attack and its level of knowledge."""

EXACT, SINGLE = "exact", "single"
VALUES = ("ok", "constant")
"""Statuses that leave a value: a constant wire carries exactly 0 nats."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        value: the figure, mean over seeds; None where there is none.
        low: lower limit of what it can be; NaN where nothing is known.
        high: upper limit; infinite where only a lower one is known.
        errors: per image, (S, N), where the figure is a mean over images.
        attack: the attack that it belongs to, with its level of knowledge where there are several.
        note: why it is missing or censored.
        kind: ``exact`` (arithmetic), ``single`` (measured once, no interval), or empty.
        seeds: trainings behind it.
        unsure: why it may not be the figure that is meant (a stronger attack is missing); it decides nothing then.
        trainings: of a figure of targets, seed to (value, lower, upper end) of each training; empty where it has none.
    """

    value: float | None
    low: float = math.nan
    high: float = math.nan
    errors: Array | None = None
    attack: str = ""
    note: str = ""
    kind: str = ""
    seeds: int = 0
    unsure: str = ""
    trainings: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Says whether there is a figure or a limit of it."""
        return not (math.isnan(self.low) or math.isnan(self.high))


class Sides:
    """Finds the sides of comparisons at one place of the matrix.

    Args:
        plan: the plan.
        records: its records.
        targets: the table of targets.
        cells: the table of cells.
        place: dataset, backbone and cut.
    """

    def __init__(
        self, plan: Plan, records: Records, targets: pd.DataFrame, cells: pd.DataFrame, place: Mapping[str, str]
    ) -> None:
        self.plan, self.records = plan, records
        # Of the whole suite: a name means the same attack at every place.
        self._attacks = [str(a) for a, k in zip(cells["attack"], cells["knowledge"], strict=True) if k != TRUTH]
        self.targets, self.cells = (_at(f, place) for f in (targets, cells))
        # Without a key a row was never to be run: the attack or defense cannot exist there.
        self.cells = select(self.cells, (self.cells["knowledge"] != TRUTH) & (self.cells["key"] != ""))
        columns = {n: column for m in measure_names(plan) for n, column in measure_columns(m).items()}
        self._statuses = {n: column.status for n, column in columns.items()}
        self._exact = {n for n, column in columns.items() if column.higher_means == "more cost" and not column.timing}
        self.accuracy = cache(self._accuracy)
        self._tried: dict[str, Tried] = {}
        self._groups = records.reference(place["dataset"]).groups

    def planned(self, defense: str) -> bool:
        """Says whether a defense is to be trained at this place."""
        return bool((self._of(defense)["key"] != "").any())

    def side(self, defense: str, figure: ClaimFigure) -> Side:
        """Returns the figure of a defense, over all seeds of its targets."""
        targets = self._of(defense)
        if not self.planned(defense):
            return Side(None, note=f"'{defense}' is not in the suite")
        if set(targets["status"]) != {"done"}:
            return Side(None, note=f"'{defense}' is not done for every seed")
        if figure.column == "accuracy":
            rows = [accuracy_per_image(self.plan, self.records, str(k)) for k in targets["key"]]
            return _of_images([r for r in rows if r is not None], len(targets), "", seeds=len(targets))
        if figure.column in list(self.targets):
            return self._of_targets(targets, figure)
        return self._of_cells(defense, figure)

    def at_chance(self, defense: str) -> bool:
        """Says whether a training of a defense ended with its accuracy at chance."""
        return any(CHANCE in str(f) for f in _column(self._of(defense), "flags"))

    def doubts(self, attacks: Mapping[str, str]) -> list[str]:
        """Returns which trainings and attacks had not come to their end, from defense to its attack (or an empty text)."""
        rising = joined(self._rising(d) for d in attacks).replace("; ", ", ")
        early = ", ".join(f"{a} on {d}" for d, a in attacks.items() if a and self._stopped_early(d, a))
        out = [f"validation accuracy still rising: {rising}"] if rising else []
        return [*out, f"not converged: {early}"] if early else out

    def _of(self, defense: str) -> pd.DataFrame:
        return select(self.targets, self.targets["defense"] == defense)

    def _accuracy(self, defense: str) -> float | None:
        """Returns the mean accuracy of a defense over seeds."""
        return self.side(defense, ClaimFigure.model_validate({"column": "accuracy"})).value

    def _rising(self, defense: str) -> str:
        targets = self._of(defense)
        rose = sum(not pd.isna(v) and bool(v) for v in _column(targets, "val_rising"))
        if not rose:
            return ""
        return defense if rose == len(targets) else f"{defense} ({rose} of {len(targets)} seeds)"

    def _stopped_early(self, defense: str, attack: str) -> bool:
        name, _, level = attack.partition(AT)
        cells = select(self.cells, (self.cells["defense"] == defense) & (self.cells["attack"] == name))
        cells = select(cells, cells["knowledge"] == level) if level else cells
        return any(not pd.isna(v) and not v for v in _column(cells, "converged"))

    def _of_cells(self, defense: str, figure: ClaimFigure) -> Side:
        if figure.column not in metric_names(self.plan) or "mse" not in metric_names(self.plan):
            return Side(None, note=f"{figure.column} is not measured")
        cells = select(self.cells, self.cells["defense"] == defense)
        if figure.attack is not None:
            meant = labels_meant(figure.attack, self._attacks)
            if len(meant) > 1:
                return Side(None, note=f"{figure.attack} names several attacks: {', '.join(meant)}")
            cells = select(cells, cells["attack"].isin(meant))
        else:
            counts = [not ignores_defense(str(a)) for a in cells["attack"]]
            cells = select(cells, np.array(counts, dtype=bool))
        seeds = set(self._of(defense)["seed"])
        # Attacks that read labels make no reconstruction: none is missing.
        cells = select(cells, np.array([not self._reads_labels(k) for k in cells["key"]], dtype=bool))
        found = {who: self._scores(of, "mse", seeds) for who, of in self._by_level(cells).items()}
        errors = {a: v for a, v in found.items() if v}
        if not errors:
            return Side(None, note=f"no complete cell of {figure.attack or 'any attack'} on '{defense}'")
        strongest = min(errors, key=lambda a: float(np.mean(errors[a])))
        rows = errors[strongest]
        if figure.column != "mse":
            rows = self._scores(self._by_level(cells)[strongest], figure.column, seeds)
        if not rows:
            return Side(None, note=f"{figure.column} of {strongest} on '{defense}' is not complete")
        missing = [f"{a} on {defense}" for a in found if a not in errors]
        spared = [] if figure.attack else [f"{a} on {defense}" for a in self._spared(defense)]
        unsure = [f"strongest attack not known, not complete: {', '.join(missing)}"] if missing else []
        unsure += [f"strongest on another defense and not made here: {', '.join(spared)}"] if spared else []
        return _of_images(rows, 0, strongest, joined(unsure), seeds=len(seeds))

    def _spared(self, defense: str) -> list[str]:
        """Returns which attacks a defense is spared that decide the worst case of another one."""
        if not self._tried:
            for name in dict.fromkeys(map(str, self.targets["defense"])):
                self._tried[name] = self._tried_on(name)
        others = [tried for name, tried in self._tried.items() if name != defense]
        return decided_elsewhere(self._tried[defense], others, self._groups)

    def _tried_on(self, defense: str) -> Tried:
        cells = select(self.cells, self.cells["defense"] == defense)
        counts = [
            bool(k) and not ignores_defense(str(a)) and not self._reads_labels(k)
            for a, k in zip(cells["attack"], cells["key"], strict=True)
        ]
        by, errors = self._by_level(select(cells, np.array(counts, dtype=bool))), dict[str, Array]()
        for who, of in by.items():
            # A wire without randomness has one level where another has several: attacks are compared by their names.
            name, rows = who.partition(AT)[0], self._scores(of, "mse", set(self._of(defense)["seed"]))
            if rows and (name not in errors or np.mean(rows) < errors[name].mean()):
                errors[name] = np.stack(rows)
        return Tried(frozenset(who.partition(AT)[0] for who in by), errors, defense == "none")

    def _by_level(self, cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Returns the cells of each attack, apart where its levels of knowledge have cells of their own.

        What an attacker with less knowledge leaves is no repetition of what one with more does: they are never averaged.
        """
        out = {}
        for attack in dict.fromkeys(map(str, cells["attack"])):
            # A cell that serves several knowledge levels stands in several rows: it counts once.
            mine = select(cells, cells["attack"] == attack).drop_duplicates("key")
            levels = list(dict.fromkeys(map(str, mine["knowledge"])))
            for level in levels:
                name = attack if len(levels) == 1 else f"{attack}{AT}{level}"
                out[name] = select(mine, mine["knowledge"] == level)
        return out

    def _reads_labels(self, key: Any) -> bool:
        name: Any = ("cell", str(key))
        return name in self.plan.nodes and self.plan.nodes[name].infers == "label"

    def _scores(self, mine: pd.DataFrame, metric: str, seeds: set[int]) -> list[Array]:
        """Returns the values per image of an attack's cells, a row per seed; nothing if a seed or an image lacks them."""
        if set(mine["status"]) != {"done"}:
            return []
        values = [self.records.scores(str(k), metric).whole for k in mine["key"]]
        rows = [(int(s), v) for s, v in zip(mine["seed"], values, strict=True) if v is not None]
        if len(rows) < len(mine) or {s for s, _ in rows} != seeds:
            return []
        return list(by_seed(rows))

    def _of_targets(self, targets: pd.DataFrame, figure: ClaimFigure) -> Side:
        column, status, seeds = figure.column, self._statuses.get(figure.column, ""), len(targets)
        if figure.high is not None:
            low, high = (_numbers(targets, c) for c in (column, figure.high))
            if not low or not high:
                return Side(None, note=f"{column} or {figure.high} has no value")
            if any(one > other for one, other in zip(low, high, strict=True)):
                return Side(None, note=f"{column} is above {figure.high}: one of the bounds is wrong")
            return Side(None, min(low), max(high), note="bounds", seeds=seeds)
        words = joined(str(s) for s in _column(targets, status) if s not in VALUES)
        if words:
            limits = _end(targets, column, LOW)
            low = min(limits) if limits else math.nan
            return Side(None, low, math.inf, note=f"{column}: {words}, no value", seeds=seeds)
        values = _numbers(targets, column)
        if not values:
            return Side(None, note=f"{column} has no value")
        mean = float(np.mean(values))
        if column in self._exact and len(set(values)) == 1:
            return Side(mean, mean, mean, kind=EXACT)
        lows, highs = (_end(targets, column, end) for end in (LOW, HIGH))
        if not (lows and highs):
            if seeds == 1:
                return Side(mean, mean, mean, kind=SINGLE)
            lows = highs = values
        each = dict(zip(map(int, targets["seed"]), zip(values, lows, highs, strict=True), strict=True))
        return Side(mean, *_over_seeds(values, lows, highs), seeds=seeds, trainings=each)


def _of_images(rows: Sequence[Array], expected: int, attack: str, unsure: str = "", *, seeds: int) -> Side:
    if not rows or len(rows) < expected:
        return Side(None, note="not measured")
    stacked = np.stack(list(rows))
    mean = float(stacked.mean())
    return Side(mean, mean, mean, stacked, attack, unsure=unsure, seeds=seeds)


def _over_seeds(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of an interval of the mean of seeds, each with its own interval.

    Student's part of the seeds and the mean half-width within them are added as squares, as in :mod:`splitaudit.stats`.
    What is nowhere negative is not made so.
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return lows[0], highs[0]
    student = float(stdtrit(n - 1, (1 + stats.LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(n))
    low = mean - math.hypot(mean - float(np.mean(lows)), student)
    high = mean + math.hypot(float(np.mean(highs)) - mean, student)
    return (max(low, 0.0) if min(lows) >= 0 else low), high


def _column(frame: pd.DataFrame, column: str) -> list[Any]:
    """Returns a column's values; nothing if the table has no such column."""
    return frame[column].tolist() if column in list(frame) else []


def _numbers(frame: pd.DataFrame, column: str) -> list[float]:
    """Returns a column's values if every row has one, else nothing: no mean over survivors."""
    if column not in list(frame):
        return []
    values: Any = pd.to_numeric(frame[column], errors="coerce")
    return [] if values.isna().any() else [float(v) for v in values]


def _end(frame: pd.DataFrame, column: str, end: str) -> list[float]:
    """Returns an end of a column's interval; columns named by their unit leave it out there (mi_mine_nats, mi_mine_lo)."""
    return _numbers(frame, column + end) or _numbers(frame, column.removesuffix("_nats") + end)


def _at(frame: pd.DataFrame, place: Mapping[str, str]) -> pd.DataFrame:
    for name, value in place.items():
        frame = select(frame, frame[name] == value)
    return frame
