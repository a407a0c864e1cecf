"""Statements of papers, tested on what a suite measured: the figure as published, the figures found, the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from ..config.claims import Claim, ClaimFigure
from ..plan import Plan
from ..stats import Interval
from .columns import HIGH, LOW, PLACE, TRUTH, measure_columns, measure_names
from .frames import Row, joined, make_frame
from .headline import by_seed
from .reading import Array, Records
from .targets import accuracy_per_image

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
ONLY_PUBLISHED = "holds only under the published estimator"

COLUMNS = (*PLACE, "claim", "says", "published", "estimator", "figure", "attack", "defense", "baseline")
COLUMNS += ("defense_value", "baseline_value", "compare", "threshold", "value", f"value{LOW}", f"value{HIGH}")
COLUMNS += ("interval", "verdict", "overall", "accuracy", "baseline_accuracy", "note")


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        value: the figure, mean over seeds; None where there is none.
        low: lower limit of what it can be.
        high: upper limit; infinite where only a lower one is known.
        errors: per image, (S, N), where the figure is a mean over images.
        attack: the attack that it belongs to.
        note: why it is missing or censored.
    """

    value: float | None
    low: float = math.nan
    high: float = math.nan
    errors: Array | None = None
    attack: str = ""
    note: str = ""


def build_claims(plan: Plan, records: Records, targets: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per place, claim and figure.

    A figure's comparison has an interval: paired over private images (or images of ``measure``) where the figure is a mean
    over them, else the widest that the ends of both figures' own intervals allow. Its verdict is *holds* or *does not
    hold* if the whole interval lies on one side of the threshold, else *not decided*. ``overall`` weighs the figures: a
    claim holds if every trustworthy figure says so.
    """
    claims = [Claim.model_validate(c) for c in plan.suite.get("claims", [])]
    rows: list[Row] = []
    places = list(dict.fromkeys(tuple(str(r[n]) for n in PLACE) for r in plan.targets))
    for place in places:
        tester = _Tester(plan, records, targets, cells, dict(zip(PLACE, place, strict=True)))
        for claim in claims:
            found = [tester.figure(claim, figure) for figure in claim.figures]
            overall = weigh([(str(r["estimator"]), str(r["verdict"])) for r in found])
            rows += [dict(zip(PLACE, place, strict=True)) | r | {"overall": overall} for r in found]
    return make_frame(rows, COLUMNS)


def weigh(verdicts: Sequence[tuple[str, str]]) -> str:
    """Returns the verdict on a claim from (estimator, verdict) of its figures."""
    trusted = {v for e, v in verdicts if e == "trustworthy"}
    published = {v for e, v in verdicts if e == "published"}
    if not trusted:
        return next(iter(published)) if len(published) == 1 else OPEN
    if trusted == {HOLDS}:
        return HOLDS
    if FAILS in trusted:
        return ONLY_PUBLISHED if published == {HOLDS} else FAILS
    return OPEN


def decide(claim: Claim, low: float, high: float) -> str:
    """Returns what an interval of the comparison says of a claim."""
    if math.isnan(low) or math.isnan(high):
        return OPEN
    if claim.at_least is not None:
        return HOLDS if low >= claim.at_least else FAILS if high < claim.at_least else OPEN
    limit = float(claim.at_most or 0.0)
    return HOLDS if high <= limit else FAILS if low > limit else OPEN


def compared(claim: Claim, mine: Side, other: Side, groups: Any = None) -> tuple[Interval | None, str]:
    """Returns the comparison of two sides and what its interval is over.

    Args:
        claim: says how they are compared.
        mine: the defense's side.
        other: the baseline's side.
        groups: of the images, where both sides have errors per image.
    """
    a, b = (other, mine) if claim.compare == "inverse ratio" else (mine, other)
    if a.errors is not None and b.errors is not None and a.errors.shape == b.errors.shape:
        if claim.compare == "difference":
            return stats.paired_difference(a.errors, b.errors, groups), _over(a.errors)
        if not b.errors.mean() > 0:
            return None, ""
        less = stats.ratio_interval(a.errors, b.errors, groups)
        return Interval(1 - less.value, 1 - less.high, 1 - less.low), _over(a.errors)
    low_a, high_a, low_b, high_b = a.low, a.high, b.low, b.high
    if claim.compare == "difference":
        low, high = low_a - high_b, high_a - low_b
        value = math.nan if a.value is None or b.value is None else a.value - b.value
    else:
        low = low_a / high_b if high_b > 0 else math.nan
        high = high_a / low_b if low_b > 0 else math.inf
        value = a.value / b.value if a.value is not None and b.value else math.nan
    if math.isnan(low) and math.isnan(high):
        return None, ""
    exact = (low_a, low_b) == (high_a, high_b)
    return Interval(value, low, high), "exact" if exact else "ends of both figures"


def _over(errors: Array) -> str:
    """Returns what a paired interval of errors (S, N) is over; with one seed the training's own noise is not in it."""
    return "images and seeds, paired" if len(errors) > 1 else "images, paired; one seed: training noise not included"


class _Tester:
    """Finds the sides of comparisons at one place of the matrix."""

    def __init__(
        self, plan: Plan, records: Records, targets: pd.DataFrame, cells: pd.DataFrame, place: dict[str, str]
    ) -> None:
        self.plan, self.records, self.place = plan, records, place
        self.targets, self.cells = (_at(f, place) for f in (targets, cells))
        self.reference = records.reference(place["dataset"])
        self.statuses = {
            name: column.status for m in measure_names(plan) for name, column in measure_columns(m).items()
        }

    def figure(self, claim: Claim, figure: ClaimFigure) -> Row:
        """Returns the row of one figure of a claim."""
        threshold = f">= {claim.at_least:g}" if claim.at_least is not None else f"<= {claim.at_most:g}"
        row: Row = {"claim": claim.name, "says": claim.says, "published": claim.published, "compare": claim.compare}
        row |= {"estimator": figure.estimator, "figure": figure.column, "threshold": threshold, "verdict": OPEN}
        row |= {"defense": claim.defense, "baseline": "", "attack": "", "interval": ""}
        row["accuracy"] = self.accuracy(claim.defense)
        mine = self.side(claim.defense, figure)
        usable, useless = self.baselines(claim)
        notes = [figure.note, mine.note]
        if useless:
            notes.append(f"not compared with {', '.join(useless)}: they lose too much accuracy")
        candidates = []
        for label in usable:
            side = self.side(label, figure)
            interval, over = compared(claim, mine, side, self.groups(figure))
            if interval is None:
                notes.append(f"{label}: {side.note or 'no figure'}")
            else:
                candidates.append((label, side, interval, over))
        if mine.note and mine.value is None and math.isnan(mine.low):
            candidates = []
        if candidates:
            # The claim is put to its hardest test: the baseline under which the comparison looks worst for it.
            sign = 1 if claim.at_least is not None else -1
            label, side, interval, over = min(candidates, key=lambda c: sign * _centre(c[2]))
            row |= {"baseline": label, "attack": joined([mine.attack, side.attack]), "interval": over}
            row |= {"defense_value": mine.value, "baseline_value": side.value, "value": interval.value}
            row |= {"value" + LOW: interval.low, "value" + HIGH: interval.high}
            row |= {"verdict": decide(claim, interval.low, interval.high), "baseline_accuracy": self.accuracy(label)}
            notes.append(side.note)
        row["note"] = joined(notes)
        return row

    def side(self, defense: str, figure: ClaimFigure) -> Side:
        """Returns the figure of a defense, over all seeds of its targets."""
        targets = self.targets[self.targets["defense"] == defense]
        if targets.empty:
            return Side(None, note=f"'{defense}' is not in the suite")
        if (targets["status"] != "done").any():
            return Side(None, note=f"'{defense}' is not done for every seed")
        if figure.column == "accuracy":
            rows = [accuracy_per_image(self.plan, self.records, str(k)) for k in targets["key"]]
            return _of_images([r for r in rows if r is not None], len(targets), "")
        if figure.column in self.targets:
            return self._of_targets(targets, figure)
        return self._of_cells(defense, figure)

    def accuracy(self, defense: str) -> float | None:
        """Returns the mean accuracy over seeds."""
        side = self.side(defense, ClaimFigure(column="accuracy"))
        return side.value

    def baselines(self, claim: Claim) -> tuple[list[str], list[str]]:
        """Returns the baselines that the claim is compared with, and those that lose too much accuracy."""
        undefended = self.accuracy("none")
        useless = [
            label
            for label in claim.against
            if claim.usable_drop is not None
            and undefended is not None
            and (known := self.accuracy(label)) is not None
            and undefended - known > claim.usable_drop
        ]
        return [label for label in claim.against if label not in useless], useless

    def groups(self, figure: ClaimFigure) -> Any:
        """Returns the groups of dependent images behind a figure."""
        return self.reference.measure_groups if figure.column == "accuracy" else self.reference.groups

    def _of_cells(self, defense: str, figure: ClaimFigure) -> Side:
        cells = self.cells[(self.cells["defense"] == defense) & (self.cells["knowledge"] != TRUTH)]
        if figure.attack is not None:
            cells = cells[cells["attack"] == figure.attack]
        seeds = set(self.targets[self.targets["defense"] == defense]["seed"])
        errors = {a: v for a in dict.fromkeys(cells["attack"]) if (v := self._scores(cells, str(a), "mse", seeds))}
        if not errors:
            return Side(None, note=f"no complete cell of {figure.attack or 'any attack'} on '{defense}'")
        strongest = min(errors, key=lambda a: float(np.mean(errors[a])))
        rows = errors[strongest] if figure.column == "mse" else self._scores(cells, strongest, figure.column, seeds)
        side = _of_images(rows, 0, strongest)
        return side if rows else Side(None, note=f"{figure.column} of {strongest} on '{defense}' is not complete")

    def _scores(self, cells: pd.DataFrame, attack: str, metric: str, seeds: set[int]) -> list[Array]:
        """Returns the values per image of an attack, a row per seed; nothing if a seed or an image lacks them."""
        # A cell that serves several knowledge levels stands in several rows: it counts once.
        mine = cells[cells["attack"] == attack].drop_duplicates("key")
        values = [self.records.scores(str(k), metric).whole if k else None for k in mine["key"]]
        rows = [(int(s), v) for s, v in zip(mine["seed"], values, strict=True) if v is not None]
        if len(rows) < len(mine) or {s for s, _ in rows} != seeds:
            return []
        return list(by_seed(rows))

    def _of_targets(self, targets: pd.DataFrame, figure: ClaimFigure) -> Side:
        column, status = figure.column, self.statuses.get(figure.column, "")
        if figure.high is not None:
            low, high = (_numbers(targets, c) for c in (column, figure.high))
            if not low or not high:
                return Side(None, note=f"{column} or {figure.high} has no value")
            return Side(None, float(np.mean(low)), float(np.mean(high)), note="bounds")
        if status and (targets[status] != "ok").any():
            limits = _end(targets, column, LOW)
            words = joined(str(s) for s in targets[status])
            return Side(None, min(limits) if limits else math.nan, math.inf, note=f"{column}: {words}, no value")
        values = _numbers(targets, column)
        if not values:
            return Side(None, note=f"{column} has no value")
        mean = float(np.mean(values))
        low, high = (_end(targets, column, end) for end in (LOW, HIGH))
        if low and high:
            return Side(mean, float(np.mean(low)), float(np.mean(high)))
        return Side(mean, min(values), max(values))


def _of_images(rows: Sequence[Array], expected: int, attack: str) -> Side:
    if not rows or (expected and len(rows) < expected):
        return Side(None, note="not measured")
    stacked = np.stack(list(rows))
    mean = float(stacked.mean())
    return Side(mean, mean, mean, stacked, attack)


def _numbers(frame: pd.DataFrame, column: str) -> list[float]:
    """Returns a column's values if every row has one, else nothing: no mean over survivors."""
    if column not in frame or frame[column].isna().any():
        return []
    return [float(v) for v in frame[column]]


def _end(frame: pd.DataFrame, column: str, end: str) -> list[float]:
    """Returns an end of a column's interval; columns named by their unit leave it out there (mi_mine_nats, mi_mine_lo)."""
    return _numbers(frame, column + end) or _numbers(frame, column.removesuffix("_nats") + end)


def _centre(interval: Interval) -> float:
    if not math.isnan(interval.value):
        return interval.value
    return interval.low if math.isinf(interval.high) else (interval.low + interval.high) / 2


def _at(frame: pd.DataFrame, place: Mapping[str, str]) -> pd.DataFrame:
    for name, value in place.items():
        frame = frame[frame[name] == value]
    return frame
