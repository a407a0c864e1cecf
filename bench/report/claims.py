"""Statements of papers, tested on what a suite measured: the figure as published, the figures found, the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from .. import stats
from ..config.claims import Claim, ClaimFigure
from ..plan import Plan
from .claims_sides import Side, Sides
from .claims_verdict import (
    FAILS,
    HOLDS,
    INFINITE,
    ONLY_PUBLISHED,
    OPEN,
    PERFECT,
    Candidate,
    compared,
    decide,
    shown,
    together,
    weigh,
)
from .columns import HIGH, LOW, PLACE
from .frames import Row, joined, make_frame
from .reading import Records

COLUMNS = (*PLACE, "claim", "says", "published", "estimator", "decides", "figure", "attack", "defense", "baseline")
COLUMNS += tuple(f"{side}_value{end}" for side in ("defense", "baseline") for end in ("", LOW, HIGH))
COLUMNS += ("compare", "threshold", "value", f"value{LOW}", f"value{HIGH}")
COLUMNS += ("interval", "verdict", "overall", "accuracy", "baseline_accuracy", "note")

OPEN_ENDS = ("value", *(side + end for side in ("value", "defense_value", "baseline_value") for end in (LOW, HIGH)))
"""Columns that are empty where they are infinite: a limit that is none. The figures of both sides say so themselves."""

# Accuracies are means of many images: a drop of exactly the limit must not exceed it by rounding.
ROUNDING = 1e-9


def build_claims(plan: Plan, records: Records, targets: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per place, claim and figure.

    A figure is compared with every baseline that is of use. A comparison's interval is paired over private images (or
    images of ``measure``) where the figure is a mean over them, else the widest that the ends of both figures' own
    intervals allow; a figure that has none decides nothing, unless it is arithmetic. A comparison *holds* or *does not
    hold* if the whole interval lies on one side of the threshold, else it is *not decided*. The figure's verdict is
    *does not hold* if any baseline refutes the claim, *holds* if all baselines do, else *not decided*: also where a
    baseline has no figure. ``overall`` weighs the figures: a claim holds if every trustworthy figure with a vote says so.
    """
    claims = [Claim.model_validate(c) for c in plan.suite.get("claims", [])]
    rows: list[Row] = []
    places = list(dict.fromkeys(tuple(str(r[n]) for n in PLACE) for r in plan.targets))
    for place in places:
        at: dict[str, str] = dict(zip(PLACE, place, strict=True))
        tester = _Tester(Sides(plan, records, targets, cells, at), records, at["dataset"])
        for claim in claims:
            found = [tester.figure(claim, figure) for figure in claim.figures]
            overall = _overall(found)
            rows += [at | r | {"overall": overall} for r in found]
    return make_frame(rows, COLUMNS)


def _overall(found: Sequence[Row]) -> str:
    """Returns the verdict on a claim; where only published figures hold, the first row's note counts them."""
    votes = [(str(r["estimator"]), str(r["verdict"])) for r in found if r["decides"]]
    overall = weigh(votes)
    if overall == ONLY_PUBLISHED:
        published = [v for e, v in votes if e == "published"]
        count = f"{published.count(HOLDS)} of {len(published)} published figures hold"
        found[0]["note"] = joined([found[0]["note"], count])
    return overall


class _Tester:
    """Tests claims at one place of the matrix."""

    def __init__(self, sides: Sides, records: Records, dataset: str) -> None:
        self.sides = sides
        self.reference = records.reference(dataset)

    def figure(self, claim: Claim, figure: ClaimFigure) -> Row:
        """Returns the row of one figure of a claim."""
        threshold = f">= {claim.at_least:g}" if claim.at_least is not None else f"<= {claim.at_most:g}"
        row: Row = {"claim": claim.name, "says": claim.says, "published": claim.published, "compare": claim.compare}
        row |= {"estimator": figure.estimator, "decides": figure.decides, "figure": figure.column}
        row |= {"threshold": threshold, "verdict": OPEN, "defense": claim.defense, "baseline": "", "attack": ""}
        row |= {"interval": "", "accuracy": self.sides.accuracy(claim.defense)}
        mine = self.sides.side(claim.defense, figure)
        notes = [figure.note, mine.note, mine.unsure, *self.usefulness(claim)]
        attacks = {claim.defense: mine.attack}
        if mine.known:
            candidates, missing = self.candidates(claim, figure, mine, notes)
            verdict = together([c.verdict for c in candidates] + [OPEN] * missing)
            # That a useless defense leaks little proves nothing; that it is not accurate is shown all the same.
            useless = self.sides.at_chance(claim.defense) and figure.column != "accuracy"
            row["verdict"] = OPEN if useless else verdict
            if candidates:
                c = shown(claim, candidates)
                attacks[c.label] = c.side.attack
                row |= {"baseline": c.label, "attack": joined([mine.attack, c.side.attack]), "interval": c.over}
                row |= {"defense_value": mine.value, "baseline_value": c.side.value, "value": c.interval.value}
                row |= _ends("defense_value", mine) | _ends("baseline_value", c.side)
                row |= {"value" + LOW: c.interval.low, "value" + HIGH: c.interval.high}
                row |= {"baseline_accuracy": self.sides.accuracy(c.label)}
                infinite = math.isinf(c.interval.low) and c.interval.low == c.interval.high
                why = PERFECT if claim.compare == "difference" else INFINITE
                notes += [c.side.note, why if infinite else ""]
        row["note"] = joined([*notes, *self.sides.doubts(attacks)])
        return {name: None if name in OPEN_ENDS and _infinite(value) else value for name, value in row.items()}

    def candidates(
        self, claim: Claim, figure: ClaimFigure, mine: Side, notes: list[str]
    ) -> tuple[list[Candidate], int]:
        """Returns the comparisons with baselines of use, and how many of these have no figure; adds to the notes."""
        found, missing, useless, unjudged = [], 0, [], []
        for label in dict.fromkeys(claim.against):
            usable = self.usable(claim, label)
            if usable is False:
                useless.append(label)
                continue
            side = self.sides.side(label, figure)
            if not self.sides.planned(label):
                notes.append(side.note)
                continue
            interval, over = compared(claim, mine, side, self.groups(figure))
            if interval is None:
                missing += 1
                notes.append(f"no figure of {label}: {side.note or 'it cannot be compared'}")
                continue
            verdict = decide(claim, interval.low, interval.high)
            if usable is None and verdict == FAILS:
                unjudged.append(label)
            open_ = mine.unsure or side.unsure or label in unjudged
            found.append(Candidate(label, side, interval, over, OPEN if open_ else verdict))
            notes.append(side.unsure)
        if useless:
            notes.append(f"not compared with {', '.join(useless)}: they lose too much accuracy")
        if unjudged:
            notes.append(f"whether {', '.join(unjudged)} lost too much accuracy is not known")
        return found, missing

    def usable(self, claim: Claim, label: str) -> bool | None:
        """Says whether a baseline keeps enough accuracy to be compared with; None where that cannot be known.

        It does if it loses at most ``usable_drop``, or is not told to be less accurate than the defense: that is how the
        two would be compared at equal accuracy.
        """
        drop = self.drop(label)
        if claim.usable_drop is None or self.as_accurate(label, claim.defense):
            return True
        return None if drop is None else drop <= claim.usable_drop + ROUNDING

    def as_accurate(self, label: str, defense: str) -> bool:
        """Says whether a baseline's accuracy is at least the defense's, or not distinguishable from it on the same images."""
        accuracy = ClaimFigure.model_validate({"column": "accuracy"})
        mine, other = self.sides.side(defense, accuracy), self.sides.side(label, accuracy)
        if mine.value is None or other.value is None:
            return False
        if other.value >= mine.value - ROUNDING:
            return True
        if mine.errors is None or other.errors is None or mine.errors.shape != other.errors.shape:
            return False
        return stats.paired_difference(mine.errors, other.errors, self.groups(accuracy)).low <= 0

    def usefulness(self, claim: Claim) -> list[str]:
        """Returns what is to be said of the accuracy of the claim's own defense."""
        notes, drop = [], self.drop(claim.defense)
        if claim.usable_drop is not None and drop is not None and drop > claim.usable_drop + ROUNDING:
            notes.append(f"{claim.defense} itself loses {100 * drop:.1f} points")
        if self.sides.at_chance(claim.defense):
            notes.append(f"{claim.defense} is useless: no evidence")
        return notes

    def drop(self, label: str) -> float | None:
        """Returns the accuracy that a defense loses against none."""
        undefended, known = self.sides.accuracy("none"), self.sides.accuracy(label)
        return None if undefended is None or known is None else undefended - known

    def groups(self, figure: ClaimFigure) -> Any:
        """Returns the groups of dependent images behind a figure."""
        return self.reference.measure_groups if figure.column == "accuracy" else self.reference.groups


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _ends(name: str, side: Side) -> Row:
    """Returns the limits of a figure that has no errors per image, whose interval would not be that of the comparison."""
    return {} if side.errors is not None or side.kind else {name + LOW: side.low, name + HIGH: side.high}
