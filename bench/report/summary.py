"""The summary: one row per defense and knowledge level, over seeds, with the worst case over attacks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from ..knowledge import split_draws
from ..labels import ignores_defense
from ..plan import Plan
from . import lacks
from .cells import attack_facts, diverged_curves
from .columns import HIGH, LOW, PLACE, TIMING, USABLE, figure, measure_columns, measure_names, metric_names
from .comparisons import comparison_flags
from .flags import DIVERGED, NOT_CONVERGED, WORST_NO_BETTER
from .frames import Row, joined, make_frame, spread
from .headline import (
    figure_interval,
    leakage,
    leakage_difference,
    note_on,
    resolution,
    usable_information,
    values_over_seeds,
)
from .promised import promised, promised_columns
from .reading import Array, Records, Reference
from .targets import accuracy_per_image, measure_reasons, target_flags, target_values

SELECTION = "greatest mean leakage over seeds; selected with the truth in hand"
_MI = "mi_mine_nats"
_BOUNDS = ("mi_lower_nats", "mi_upper_nats")
# Without these two, figures of suites with other noises or wires of other sizes would be compared.
_BOUNDS_OF = ("mi_cap_nats", "mi_sigma_over_rms")


@dataclass(frozen=True)
class _Group:
    """The cells of one place, defense and knowledge level.

    Attributes:
        indices: of the plan's rows of cells.
        cells: those rows.
        targets: the plan's rows of targets.
        errors: attack to errors (S, N) of every attack that is there for all seeds: nothing is averaged over survivors.
        lacking: what is missing, each in words; without it the true worst case may be higher.
    """

    indices: Sequence[int]
    cells: Sequence[Mapping[str, Any]]
    targets: Sequence[Mapping[str, Any]]
    errors: Mapping[str, Array]
    lacking: Sequence[str]

    @property
    def tried(self) -> lacks.Tried:
        return lacks.Tried(lacks.made_in(self.cells), self.errors, self.cells[0]["defense"] == "none")

    @property
    def worst(self) -> str | None:
        """The attack with the least mean error."""
        return self.tried.strongest


def build_summary(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per dataset, backbone, cut, defense and knowledge level, in the order of the plan."""
    groups = _groups(plan, records)
    compared = comparison_flags(plan, records, worst_case=True)
    rows = [_row(plan, records, group, groups, compared) for group in groups.values()]
    measured = [
        c for n in measure_names(plan) for c in measure_columns(n) if c != "accuracy" and not c.startswith(TIMING)
    ]
    timings = [c for n in measure_names(plan) for c in measure_columns(n) if c.startswith(TIMING)]
    figures = [p for n in metric_names(plan, "image") for p in (n, n + LOW, n + HIGH)]
    columns = [*PLACE, "defense", "knowledge", "worst_attack", "selection"]
    columns += [p for n in ("leakage", "equivalent_resolution", USABLE) for p in (n, n + LOW, n + HIGH)]
    columns += [*figures, *(f"leakage_envelope{s}" for s in ("", LOW, HIGH))]
    columns += [*(f"leakage_change{s}" for s in ("", LOW, HIGH)), "leakage_change_note"]
    columns += [*(f"accuracy{s}" for s in ("", LOW, HIGH)), *(f"accuracy_drop{s}" for s in ("", LOW, HIGH))]
    columns += ["accuracy_drop_note", "mi_nats", "mi_text", *(b for b in (*_BOUNDS, *_BOUNDS_OF) if b in measured)]
    columns += [*(c for c in measured if not c.startswith("mi_")), *promised_columns(rows), "flags"]
    columns += ["seeds", "cells_done", "cells_failed", "cells_skipped", "cells_not_run", "incomplete", *timings]
    return make_frame(rows, dict.fromkeys(columns))


def _groups(plan: Plan, records: Records) -> dict[tuple[str, ...], _Group]:
    """Returns place, defense and knowledge level to what is there."""
    some: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(plan.cells):
        if not ignores_defense(row["attack"]):
            some.setdefault(tuple(row[n] for n in (*PLACE, "defense", "knowledge")), []).append(i)
    groups = {at: _group(plan, records, indices) for at, indices in some.items()}
    beside: dict[tuple[str, ...], dict[str, lacks.Tried]] = {}
    for (*place, defense, level), group in groups.items():
        beside.setdefault((*place, level), {})[defense] = group.tried
    spared: dict[tuple[str, ...], list[str]] = {}
    for (*place, defense, level), group in groups.items():
        others = [tried for other, tried in beside[*place, level].items() if other != defense]
        if group.errors:
            images = records.reference(place[0]).groups
            found = lacks.decided_elsewhere(beside[*place, level][defense], others, images)
            spared[*place, defense, level] = lacks.in_words(found, group.cells)
    return {at: replace(g, lacking=[*g.lacking, *spared.get(at, [])]) for at, g in groups.items()}


def _group(plan: Plan, records: Records, indices: Sequence[int]) -> _Group:
    cells = [plan.cells[i] for i in indices]
    targets = [t for t in plan.targets if all(t[n] == cells[0][n] for n in (*PLACE, "defense"))]
    seeds, errors = {t["seed"] for t in targets}, dict[str, Array]()
    for attack in dict.fromkeys(str(c["attack"]) for c in cells):
        found = values_over_seeds(records, [c for c in cells if c["attack"] == attack], "mse", seeds)
        if found is not None:
            errors[attack] = found
    lacking = lacks.missing(plan, records, cells, "mse", errors)
    for target in targets:
        if records.done("target", target["key"]):
            lacking += measure_reasons(plan, records, target["key"], owed_only=True)
    return _Group(indices, cells, targets, errors, lacking)


def _row(
    plan: Plan,
    records: Records,
    group: _Group,
    groups: Mapping[tuple[str, ...], _Group],
    compared: Mapping[int, str],
) -> Row:
    cells, targets, errors, worst = group.cells, group.targets, group.errors, group.worst
    first = cells[0]
    place = {n: first[n] for n in (*PLACE, "defense")}
    reference = records.reference(first["dataset"])
    row: Row = {**place, "knowledge": first["knowledge"], "seeds": len(targets), "incomplete": joined(group.lacking)}
    row |= _counts(records, cells)
    if worst is not None:
        row |= {"worst_attack": worst, "selection": SELECTION}
        score = leakage(errors[worst], reference)
        row |= spread("leakage", score)
        elements = math.prod(plan.datasets[first["dataset"]]["image_shape"])
        row |= spread(USABLE, usable_information(score, elements))
        row |= spread("equivalent_resolution", resolution(errors[worst], reference))
        row |= spread("leakage_envelope", leakage(np.min(np.stack(list(errors.values())), axis=0), reference))
        row |= _metrics(plan, records, cells, worst, reference)
        row |= _change(group, groups.get((*(first[n] for n in PLACE), "none", first["knowledge"])), reference)
    row |= _targets(plan, records, targets, place, reference)
    # A level may grant several draws: the same image sent again, at a price.
    row |= promised(plan, records, [t["key"] for t in targets], split_draws(first["knowledge"])[1])
    flags = [f for i in group.indices if (f := compared.get(i, ""))]
    flags += [
        f"{NOT_CONVERGED}: {c['attack']}" for c in cells if c["key"] and attack_facts(records, c["key"])[0] is False
    ]
    flags += [f"{DIVERGED}: {c['attack']}" for c in cells if c["key"] and diverged_curves(records, c["key"])]
    low = row.get(f"leakage{LOW}")
    if low is not None and -math.inf < low <= 0:  # of a single image nothing is known, and that is said elsewhere
        # Of the prior itself, too: nothing that was tried tells the images from one another.
        flags.append(f"{WORST_NO_BETTER}: {worst}")
    flags += [f for t in targets if t["key"] for f in target_flags(plan, records, t["key"])]
    return row | {"flags": joined(flags)}


def _counts(records: Records, cells: Sequence[Mapping[str, Any]]) -> Row:
    states = [records.row_state("cell", c) for c in cells]
    return {
        "cells_done": sum(s.status == "done" for s in states),
        "cells_failed": sum(s.status == "failed" for s in states),
        "cells_skipped": sum(s.status == "skipped" for s in states),
        "cells_not_run": sum(s.status == "not run" for s in states),
    }


def _metrics(plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]], worst: str, reference: Reference) -> Row:
    row: Row = {}
    chosen = [c for c in cells if c["attack"] == worst]
    for name in metric_names(plan, "image"):
        values = values_over_seeds(records, chosen, name, {c["seed"] for c in chosen})
        row |= spread(name, None if values is None else figure_interval(figure(name), values, reference.groups))
    return row


def _change(group: _Group, control: _Group | None, reference: Reference) -> Row:
    """Returns the change of leakage against ``none``; without a verdict where either is incomplete."""
    if control is None or control is group or group.worst is None or control.worst is None:
        return {}
    errors, undefended = group.errors[group.worst], control.errors[control.worst]
    if errors.shape != undefended.shape:
        return {}
    difference = leakage_difference(errors, undefended, reference)
    note = note_on(difference, len(control.targets), known=not group.lacking and not control.lacking)
    return spread("leakage_change", difference) | {"leakage_change_note": note}


def _targets(
    plan: Plan,
    records: Records,
    targets: Sequence[Mapping[str, Any]],
    place: Mapping[str, Any],
    reference: Reference,
) -> Row:
    row: Row = {}
    accuracy = accuracy_over_seeds(plan, records, targets)
    groups = reference.measure_groups
    known = reference.state.status == "done"
    if accuracy is not None and known:
        row |= spread("accuracy", stats.share_interval(accuracy, groups))
        undefended = [r for r in plan.targets if all(r[n] == v for n, v in {**place, "defense": "none"}.items())]
        control = accuracy_over_seeds(plan, records, undefended)
        if control is not None and control.shape == accuracy.shape and place["defense"] != "none":
            drop = stats.share_difference(control, accuracy, groups)
            row |= spread("accuracy_drop", drop) | {"accuracy_drop_note": note_on(drop, len(targets))}
    values = [target_values(plan, records, t["key"]) if records.done("target", t["key"]) else {} for t in targets]
    row |= _information(values)
    statuses = {n: c.status for m in measure_names(plan) for n, c in measure_columns(m).items()}
    own = {
        c for v in values for c in v if c in (*_BOUNDS, *_BOUNDS_OF) or (c != "accuracy" and not c.startswith("mi_"))
    }
    for column in dict.fromkeys(c for v in values for c in v if c in own):
        # A limit is no value: one seed at an estimator's ceiling leaves no mean.
        censored = statuses.get(column) and any(v.get(statuses[column]) != "ok" for v in values)
        row[column] = None if censored else _mean([v.get(column) for v in values])
    return row


def accuracy_over_seeds(plan: Plan, records: Records, targets: Sequence[Mapping[str, Any]]) -> Array | None:
    """Returns which measured images (S, N) the targets of one defense classify rightly; None where any of them lacks it."""
    rows = [accuracy_per_image(plan, records, t["key"]) if records.done("target", t["key"]) else None for t in targets]
    if not rows or any(r is None for r in rows):
        return None
    return np.stack([r for r in rows if r is not None])


def _information(values: Sequence[Mapping[str, Any]]) -> Row:
    """Returns the mutual information as a number only if every seed has one, and always in words."""
    if not any("mi_mine_status" in v for v in values):
        return {"mi_nats": None, "mi_text": ""}
    numbers = [v.get(_MI) for v in values]
    known = [float(n) for n in numbers if n is not None]
    text = joined(_mi_words(v) for v in values)
    if len(known) == len(numbers):
        mean = sum(known) / len(known)
        if len(known) == 1:
            around = f"[{values[0]['mi_mine_lo']:.2f}, {values[0]['mi_mine_hi']:.2f}]"
        else:
            # Each seed's interval is for the sampling of its own test images: the mean of seeds has none.
            around = f"(seeds {min(known):.2f} to {max(known):.2f})"
        return {"mi_nats": mean, "mi_text": f"{mean:.2f} {around}"}
    return {"mi_nats": None, "mi_text": text}


def _mi_words(values: Mapping[str, Any]) -> str:
    status = str(values.get("mi_mine_status") or "not measured").replace("_", " ")
    if values.get(_MI) is not None:
        return f"{values[_MI]:.2f}"
    low, ceiling = values.get("mi_mine_lo"), values.get("mi_ceiling_nats")
    high = values.get("mi_upper_nats")
    certified = f">= {low:.2f} " if low is not None else ""
    if low is not None and high is not None and high > low:
        certified = f"{low:.2f} to {high:.2f} "
    top = f" {ceiling:.2f}" if ceiling is not None and status == "at ceiling" else ""
    return f"{certified}({status}{top})"


def _mean(values: Sequence[Any]) -> Any:
    """Returns the mean of numbers, the common text, or None where a seed has no value."""
    if any(v is None for v in values):
        return None
    if all(isinstance(v, int | float) for v in values):
        mean = sum(values) / len(values)
        return int(mean) if all(isinstance(v, int) for v in values) and mean == int(mean) else mean
    return joined(str(v) for v in values)
