"""Defenses at equal accuracy: the least worst-case leakage at an allowed drop, the Pareto front's hypervolume, pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from ..labels import defense_of
from ..plan import Plan
from .columns import HIGH, LOW, PLACE
from .flags import CHANCE
from .frames import Row, joined, make_frame, spread
from .headline import leakage_difference, note_on, values_over_seeds, why_not
from .plot_trade_off import pareto
from .reading import Array, Records, Reference
from .summary import accuracy_over_seeds
from .texts import NOT_DISTINGUISHABLE, present, said
from .usefulness import DROPS, at_chance

UNTESTED = "interpolated, not tested"

NO_DROP = "what it loses is not known"
"""That no setting can stand at any drop: its accuracy, or that of none, is not there for every seed."""

LOSES = "loses more"
"""That no setting loses so little; with :data:`NOT_DISTINGUISHABLE` where the interval of the least loss reaches it."""

AND = " and "
"""Between the labels of two settings around an interpolated figure: no label holds a space."""


@dataclass(frozen=True)
class Setting:
    """A defense with one set of parameters, at one place and knowledge level.

    Attributes:
        row: its row of the summary.
        errors: of its worst attack, (S, N).
        params: its parameters, by part and name.
    """

    row: Mapping[str, Any]
    errors: Array
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        return str(self.row["defense"])

    @property
    def leakage(self) -> float:
        return float(self.row["leakage"])

    @property
    def drop(self) -> float:
        """Accuracy of none less this one's, in shares of images; no number where it is not known."""
        return 0.0 if self.label == "none" else float(self.row["accuracy_drop"]) if self.costed else math.nan

    @property
    def costed(self) -> bool:
        """Whether it is known what it loses against none."""
        return self.label == "none" or present(self.row["accuracy_drop"])

    @property
    def useful(self) -> bool:
        """Whether it still does its task, whatever it loses."""
        return not at_chance(self.row)

    @property
    def seeds(self) -> int:
        return int(self.row["seeds"])


def build_matched(plan: Plan, records: Records, summary: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per place, knowledge level, defense and allowed drop of accuracy.

    The settings of a defense are its rows in the suite (a sweep). Of those that lose at most the allowed drop against
    ``none``, the one with the least worst-case leakage stands for it; ``best_measured`` names the least of these over all
    defenses. Between two measured settings that are neighbours in the one number in which they differ, leakage is
    interpolated linearly over the drop where that is lower, and marked; the measured setting and its test stay beside it. Where
    no setting of a sweep loses more than is allowed, stronger ones might leak less (``sweep_ends``). A setting of which
    something is missing has no part,
    and ``incomplete`` counts these; one whose accuracy is at chance stands for nothing and is on no front, and one of
    which nobody knows what it loses (no ``none`` or no accuracy of every seed) stands for nothing either. None of them is
    interpolated across, nor is 0, where many a strength does nothing.
    """
    rows = [row for group in _groups(plan, records, summary) for row in _rows(plan, records, group)]
    shown, tested = (
        [p for n in names for p in (n, n + LOW, n + HIGH)]
        for names in (("leakage", "accuracy_drop"), ("measured_leakage", "leakage_above_best"))
    )
    head = [*PLACE, "knowledge", "defense", "settings", "allowed_drop", "best_measured", "setting", "attack"]
    figures = ["interpolated", *shown, "measured_setting", *tested, "sweep_ends", "note"]
    return make_frame(rows, [*head, *figures, "hypervolume", "hypervolume_within", "on_front", "incomplete"])


def build_pairs(plan: Plan, records: Records, summary: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per place, knowledge level and two defenses: the differences of leakage and of accuracy, paired."""
    rows, known = [], dict[tuple[str, ...], Row]()
    right = {at: accuracy_over_seeds(plan, records, targets) for at, targets in _targets(plan).items()}
    for group in _groups(plan, records, summary):
        for a, b in itertools.combinations(group.settings, 2):
            place = {n: a.row[n] for n in PLACE}
            row = {**place, "knowledge": a.row["knowledge"], "defense": a.label, "other": b.label}
            one, other = (right[*(str(v) for v in place.values()), s.label] for s in (a, b))
            at = (*(str(v) for v in place.values()), a.label, b.label)  # the same at every level of knowledge
            if at not in known:
                known[at] = _told_apart(one, other, records.reference(str(place["dataset"])))
            rows.append({**row, **_compared(records, a, b), **known[at]})
    figures = [p for n in ("leakage_difference", "accuracy_difference") for p in (n, n + LOW, n + HIGH)]
    head = [*PLACE, "knowledge", "defense", "other"]
    return make_frame(rows, [*head, *figures[:3], "note", *figures[3:], "accuracy_note"])


def _targets(plan: Plan) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Returns place and defense to its targets, one a seed."""
    out: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for target in plan.targets:
        out.setdefault(tuple(str(target[n]) for n in (*PLACE, "defense")), []).append(target)
    return out


def _told_apart(one: Array | None, other: Array | None, reference: Reference) -> Row:
    """Returns the accuracy of one defense less that of another, from which images (S, N) each classifies rightly."""
    if one is None or other is None or one.shape != other.shape or reference.state.status != "done":
        return {}
    found = stats.share_difference(one, other, reference.measure_groups)
    return spread("accuracy_difference", found) | {"accuracy_note": note_on(found, len(one))}


@dataclass(frozen=True)
class _Group:
    """What may be compared: the settings of one place and knowledge level.

    Attributes:
        place: dataset, backbone, cut and knowledge level.
        settings: those of which nothing is missing.
        lacking: defense to the parameters of its incomplete settings.
        names: the defenses, in the order of the summary.
    """

    place: Mapping[str, Any]
    settings: Sequence[Setting]
    lacking: Mapping[str, Sequence[Mapping[str, Any]]]
    names: Sequence[str]


def _groups(plan: Plan, records: Records, summary: pd.DataFrame) -> list[_Group]:
    params, cells = _parameters(plan), dict[tuple[str, ...], list[dict[str, Any]]]()
    for cell in plan.cells:
        cells.setdefault(tuple(str(cell[n]) for n in _CELL), []).append(cell)
    out = []
    for _, rows in summary.groupby([*PLACE, "knowledge"], sort=False):
        settings, lacking = [], dict[str, list[Mapping[str, Any]]]()
        for row in rows.to_dict("records"):
            at = (*(str(row[n]) for n in _CELL[:-1]), str(row["worst_attack"]))
            found = _setting(records, row, cells.get(at, []), params)
            if found is None:
                label = str(row["defense"])
                lacking.setdefault(defense_of(label), []).append(params.get(label, {}))
            else:
                settings.append(found)
        names = list(dict.fromkeys(defense_of(str(label)) for label in rows["defense"]))
        out.append(_Group({n: rows[n].iloc[0] for n in (*PLACE, "knowledge")}, settings, lacking, names))
    return out


_CELL = (*PLACE, "defense", "knowledge", "attack")
"""What the cells of one attack on one defense share over seeds."""


def _setting(
    records: Records,
    row: Mapping[Any, Any],
    cells: Sequence[Mapping[str, Any]],
    params: Mapping[str, Mapping[str, Any]],
) -> Setting | None:
    if not present(row["leakage"]) or said(row, "incomplete") != "-":
        return None
    errors = values_over_seeds(records, cells, "mse", {c["seed"] for c in cells})
    return None if errors is None else Setting(row, errors, params[str(row["defense"])])


def _rows(plan: Plan, records: Records, group: _Group) -> list[Row]:
    families: dict[str, list[Setting]] = {name: [] for name in group.names}
    for setting in group.settings:
        families[defense_of(setting.label)].append(setting)
    uncosted = {n: [s.params for s in some if not s.costed] for n, some in families.items()}
    front = set(pareto([(s.leakage, _accuracy(s)) for s in group.settings if s.useful and present(s.row["accuracy"])]))
    base = next((s for s in group.settings if s.label == "none"), None)
    chosen = {
        (name, drop): min((s for s in some if s.useful and s.drop <= drop), key=lambda s: s.leakage, default=None)
        for name, some in families.items()
        for drop in DROPS
    }
    out = []
    for name, some in families.items():
        lacking = group.lacking.get(name, ())
        shared: Row = {**group.place, "defense": name, "settings": len(some), "incomplete": len(lacking)}
        classes, useful = len(plan.datasets[str(group.place["dataset"])]["classes"]), [s for s in some if s.useful]
        shared["hypervolume"] = _hypervolume(useful, base, classes)
        within = [s for s in useful if s.drop <= DROPS[-1]]
        known = all(s.costed for s in useful)
        shared["hypervolume_within"] = _hypervolume(within, base, classes) if known else None
        shared["on_front"] = any(s.useful and (s.leakage, _accuracy(s)) in front for s in some)
        for drop in DROPS:
            mine = chosen[name, drop]
            best = min((s for (_, d), s in chosen.items() if d == drop and s), key=lambda s: s.leakage, default=None)
            row: Row = {**shared, "allowed_drop": drop, "interpolated": False}
            row["best_measured"] = best.label if best else ""
            row["sweep_ends"] = _ends(some, lacking, drop)
            unknown = [*lacking, *uncosted[name]]
            if mine is not None:
                row |= {"setting": mine.label, "attack": mine.row["worst_attack"]}
                row |= _copied(mine.row, "leakage") | {"measured_setting": mine.label}
                row |= {f"measured_{name}": value for name, value in _copied(mine.row, "leakage").items()}
                row |= {"accuracy_drop": 0.0} if mine.label == "none" else _copied(mine.row, "accuracy_drop")
            if mine is not None and best is not None and mine is not best:
                row |= _compared(records, mine, best, "leakage_above_best")
            elif mine is None:
                row["note"] = _why_none(some, drop)
            between = _between([s for s in some if s.costed], unknown, drop)
            if between is not None and (mine is None or between[0] < mine.leakage):
                row |= dict.fromkeys(n + end for n in ("leakage", "accuracy_drop") for end in (LOW, HIGH))
                row |= {"leakage": between[0], "accuracy_drop": drop, "setting": between[1], "attack": ""}
                row |= {"interpolated": True, "note": joined([UNTESTED, str(row.get("note", "") if mine else "")])}
            out.append(row)
    return out


def _ends(settings: Sequence[Setting], lacking: Sequence[Mapping[str, Any]], drop: float) -> bool:
    """Says whether a sweep stops before an allowed drop, so that its least leakage there is an upper limit."""
    return len(settings) > 1 and not lacking and all(s.drop <= drop for s in settings)


def _why_none(settings: Sequence[Setting], drop: float) -> str:
    """Returns why no setting stands for a defense at a drop of accuracy."""
    if not settings:
        return ""  # what is incomplete is counted
    if not any(s.costed for s in settings):
        return NO_DROP
    if any(s.drop <= drop for s in settings):
        return CHANCE
    least = min((s for s in settings if s.costed), key=lambda s: s.drop)
    low = least.row["accuracy_drop" + LOW]
    return f"{LOSES}, {NOT_DISTINGUISHABLE}" if present(low) and float(low) <= drop else LOSES


def _copied(row: Mapping[str, Any], name: str) -> Row:
    return {c: row[c] for c in (name, name + LOW, name + HIGH)}


def _accuracy(setting: Setting) -> float:
    return float(setting.row["accuracy"])


def _compared(records: Records, a: Setting, b: Setting, name: str = "leakage_difference") -> Row:
    """Returns the leakage of a less that of b, paired over images and seeds, and whether they can be told apart."""
    if a.errors.shape != b.errors.shape:
        return {"note": "not over the same seeds"}
    reference = records.reference(str(a.row["dataset"]))
    found = leakage_difference(a.errors, b.errors, reference)
    if found is None:
        return {"note": why_not(reference, a.errors)}
    return {name: found.value, name + LOW: found.low, name + HIGH: found.high, "note": note_on(found, a.seeds)}


def _between(
    settings: Sequence[Setting], lacking: Sequence[Mapping[str, Any]], drop: float
) -> tuple[float, str] | None:
    """Returns the leakage at a drop of accuracy between two neighbouring settings, the least one, and what lies around it.

    Args:
        settings: of one defense. Those at chance are no ends, and still lie between others.
        lacking: parameters of its settings that are incomplete or of unknown drop, which lie between others too.
        drop: the drop of accuracy.
    """
    best: tuple[float, str] | None = None
    every = [*(s.params for s in settings), *lacking]
    for a, b in itertools.combinations([s for s in settings if s.useful], 2):
        key = _one_number(a.params, b.params)
        if key is None or not min(a.drop, b.drop) < drop < max(a.drop, b.drop):
            continue
        low, high = sorted((a.params[key], b.params[key]))
        if low < 0 < high:
            continue  # at 0 a penalty or noise is none at all: the line between them does not pass there
        if any(_one_number(a.params, c) == key and low < c[key] < high for c in every):
            continue  # no neighbours
        share = (drop - a.drop) / (b.drop - a.drop)
        value = a.leakage + share * (b.leakage - a.leakage)
        if best is None or value < best[0]:
            best = value, f"between {a.label}{AND}{b.label}"
    return best


def _one_number(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """Returns the parameter in which two settings differ, if one alone and a fractional number: others have no between."""
    differ = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)]
    if len(differ) != 1 or not all(isinstance(s.get(differ[0]), float) for s in (a, b)):
        return None
    return differ[0]


def _hypervolume(settings: Sequence[Setting], base: Setting | None, classes: int) -> float | None:
    """Returns the area of (kept accuracy, privacy) that a defense's settings dominate, in [0, 1].

    Kept accuracy is (a - c)/(a₀ - c), with c that of always naming the most frequent class (1/classes where an earlier
    version of the measure did not count it) and a₀ that of none; privacy is 1
    less the leakage score; both are clipped to [0, 1], the corner is (0, 0). None without ``none``, or where ``none`` is at
    chance. Settings at chance are left out before.
    """
    if base is None or not base.useful or not present(base.row["accuracy"]):
        return None
    counted = base.row.get("accuracy_chance")
    chance = float(counted) if counted is not None and present(counted) else 1 / classes
    if _accuracy(base) <= chance:
        return None
    points = [
        (
            float(np.clip((_accuracy(s) - chance) / (_accuracy(base) - chance), 0, 1)),
            float(np.clip(1 - s.leakage, 0, 1)),
        )
        for s in settings
        if present(s.row["accuracy"])
    ]
    area, reached = 0.0, 0.0
    for kept, private in sorted(points, reverse=True):  # by falling accuracy, each adds the privacy that it has more
        area += kept * max(0.0, private - reached)
        reached = max(reached, private)
    return area


def _parameters(plan: Plan) -> dict[str, dict[str, Any]]:
    """Returns the label of each defense to its parameters, ``part.name`` to the value."""
    out = {}
    for row in plan.targets:
        if row["key"]:
            parts = plan.nodes["target", row["key"]].identity["defense"]["parts"]
            out[str(row["defense"])] = {f"{p['name']}.{k}": v for p in parts for k, v in p["params"].items()}
    return out
