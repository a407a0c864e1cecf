"""All tables of a run, from its plan and records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plan import Plan
from .adaptive_gap import build_adaptive
from .advantage import build_attributes
from .cells import build_cells
from .claims import build_claims
from .columns import LABELS, metric_names
from .criterion import build_criterion
from .frames import make_frame
from .matched import build_matched, build_pairs
from .reading import Read, Records
from .spared import spared_targets
from .summary import build_summary
from .targets import build_targets
from .tuning import build_tuned
from .worst_case import build_worst_case


@dataclass(frozen=True)
class Results:
    """The tables of a run.

    Attributes:
        targets: a row per target.
        cells: a row per cell and knowledge level, and the reference rows.
        summary: a row per defense and knowledge level: the worst case over attacks.
        worst_case: a row per defense, knowledge level and metric: the strongest attack by it, and the per-image envelope.
        matched: a row per defense, knowledge level and allowed drop of accuracy: its setting with the least leakage.
        pairs: a row per knowledge level and two defenses: can their leakage be told apart?
        attributes: a row per defense, knowledge level and attribute that attacks read: the best reader.
        per_image: a row per cell, knowledge level and private image.
        criterion: a row per dataset and quantity: does it predict how well the strongest attack does?
        claims: a row per claim of the suite and figure that decides it.
        tuned: a row per cell of a tuned attack: what its choice of settings gained on the attacker's own images.
        adaptive: a row per defense, level and attack that ran with and without account of the defense: what the latter hides.
        spared: keys of targets on which an attack that decides elsewhere was not made; they have no part in the criterion.
        suite: the resolved suite as plain values.
    """

    targets: pd.DataFrame
    cells: pd.DataFrame
    summary: pd.DataFrame
    worst_case: pd.DataFrame
    matched: pd.DataFrame
    pairs: pd.DataFrame
    attributes: pd.DataFrame
    per_image: pd.DataFrame
    criterion: pd.DataFrame
    claims: pd.DataFrame
    tuned: pd.DataFrame
    adaptive: pd.DataFrame
    spared: frozenset[str]
    suite: dict[str, Any]


def build_tables(plan: Plan, read: Read) -> tuple[Results, Records]:
    """Returns every table, and the records that they were made from."""
    records = Records(plan, read)
    targets, cells = build_targets(plan, records), build_cells(plan, records)
    summary, spared = build_summary(plan, records), spared_targets(plan, records)
    results = Results(
        targets=targets,
        cells=cells,
        summary=summary,
        worst_case=build_worst_case(plan, records),
        matched=build_matched(plan, records, summary),
        pairs=build_pairs(plan, records, summary),
        attributes=build_attributes(plan, records),
        per_image=build_per_image(plan, records),
        criterion=build_criterion(plan, targets, cells, spared),
        spared=spared,
        claims=build_claims(plan, records, targets, cells),
        tuned=build_tuned(plan, records),
        adaptive=build_adaptive(plan, records),
        suite=plan.suite,
    )
    return results, records


def build_per_image(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per cell and private image with the per-image metrics; only cells that are done have rows."""
    metrics = metric_names(plan)
    rows = []
    for cell in plan.cells:
        if not records.done("cell", cell["key"]):
            continue
        reference = records.reference(cell["dataset"])
        labels = {n: cell[n] for n in (*LABELS, "attack", "knowledge", "attack_seed")}
        scores = {m: records.scores(cell["key"], m).values for m in metrics}
        count = max((len(v) for v in scores.values() if v is not None), default=0)
        for i in range(count):
            row = {**labels, "image": i}
            row["group"] = reference.groups[i] if reference.groups else None
            row["label"] = reference.labels[i] if reference.labels else None
            row["prior_mse"] = float(reference.prior[i]) if reference.prior is not None else None
            row |= {m: None if v is None else float(v[i]) for m, v in scores.items()}
            rows.append(row)
    head = (*LABELS, "attack", "knowledge", "attack_seed", "image", "group", "label", "prior_mse")
    return make_frame(rows, [*head, *metrics])
