"""The table of cells: what each attack made of each target, beside the reference rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..attack import Infers
from ..errors import PluginError
from ..plan import Plan
from ..plugins import ATTACKS
from ..references import REFERENCE_ROWS
from .advantage import cell_reading, reading_columns
from .columns import HIGH, LABELS, LOW, TIMING, TRUTH, USABLE, figure, metric_names
from .comparisons import comparison_flags
from .curves import is_share
from .fits import fits_of
from .flags import DIVERGED, NO_BETTER, NOT_CONVERGED
from .frames import Row, joined, make_frame, spread
from .headline import figure_interval, leakage, resolution, usable_information, why_not
from .reading import Records, Scores
from .targets import target_flags

SCATTER = 0.05
"""Relative rise of a loss, or fall of an accuracy, that the draws of a random defense may cause."""

TIMES = (f"{TIMING}attack_s", f"{TIMING}fit_s", f"{TIMING}score_s")


def build_cells(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per cell of the plan, then the reference rows of every dataset."""
    compared = comparison_flags(plan, records)
    # One record may serve several knowledge levels: its figures are computed once.
    known: dict[str, Row] = {}
    rows = [_row(plan, records, row, known, compared.get(i, "")) for i, row in enumerate(plan.cells)]
    rows += [_reference_row(plan, records, dataset, name) for dataset in plan.references for name in REFERENCE_ROWS]
    names = ("leakage", "equivalent_resolution", *metric_names(plan), USABLE)
    figures = [p for n in names for p in (n, n + LOW, n + HIGH)]
    figures += reading_columns(plan)
    columns = [*LABELS, "attack", "knowledge", "attack_seed", "target", "key", "status", "reason", "n_images"]
    return make_frame(rows, [*columns, *figures, "queries", "converged", "flags", *TIMES])


def attack_facts(records: Records, key: str) -> tuple[bool | None, int | None]:
    """Returns whether a done cell and its fits converged (None: nothing is said) and the queries they spent together.

    Of a tuned attack only the chosen setting's fits have a say; the queries of all that were tried were spent.
    """
    record = records.done("cell", key)
    if record is None:
        return None, None
    parts = [record["attack"], *(fit["info"] for fit in fits_of(records, record, chosen=True))]
    said = [p["notes"]["converged"] for p in parts if isinstance(p.get("notes", {}).get("converged"), bool)]
    spent = [record["attack"], *(fit["info"] for fit in fits_of(records, record))]
    return (all(said) if said else None), sum(int(p.get("queries", 0)) for p in spent)


def diverged_curves(records: Records, key: str) -> list[str]:
    """Returns the curves of a done cell and its fits that end worse than they began, or were not finite.

    Losses end above, accuracies below. A held-out cross-entropy may rise from the first epoch on, whose weights its reader
    then keeps: that is no divergence. Nor is what a way to descend does that was tried on own images and not chosen.
    """
    record = records.done("cell", key)
    if record is None:
        return []
    found: dict[str, None] = {}
    for part in (record["attack"], *(fit["info"] for fit in fits_of(records, record, chosen=True))):
        found |= dict.fromkeys(part.get("not_finite", ()))
        for name, points in part.get("curves", {}).items():
            # A sampler's error is taken at falling noise levels, each with another pull: no single loss.
            tried = "calibration_loss" in name
            if name.endswith("cross_entropy") or name.startswith("sample ") or tried or len(points) < 2:
                continue
            if is_share(name):
                if points[0][1] - points[-1][1] > SCATTER:
                    found[name] = None
                continue
            # Of what is judged on held-out images the best is kept, so a late rise does no harm.
            held_out = name.startswith(("aux_val", "stand_in_aux_val"))
            first, last = points[0][1], min(p[1] for p in points[1:]) if held_out else points[-1][1]
            if last - first > SCATTER * abs(first):
                found[name] = None
    return list(found)


def _row(plan: Plan, records: Records, labels: Mapping[str, Any], known: dict[str, Row], compared: str) -> Row:
    state = records.row_state("cell", labels)
    key = labels["key"]
    row: Row = {n: labels[n] for n in (*LABELS, "attack", "knowledge", "attack_seed")}
    row |= {"target": labels["target"] or "", "key": key or "", "status": state.status, "reason": state.reason}
    row["flags"] = ""
    if records.done("cell", key) is None:
        return row
    if key not in known:
        known[key] = _figures(plan, records, labels)
    row |= known[key]
    row["flags"] = joined([row["flags"], compared])
    return row


def _figures(plan: Plan, records: Records, labels: Mapping[str, Any]) -> Row:
    key, dataset = labels["key"], labels["dataset"]
    record = records.get("cell", key) or {}
    infers = plan.nodes["cell", key].infers
    row = _scored(plan, records, dataset, {m: records.scores(key, m) for m in metric_names(plan)}, infers)
    converged, queries = attack_facts(records, key)
    row |= {"queries": queries, "converged": converged}
    flags = [NOT_CONVERGED] if converged is False else []
    astray = diverged_curves(records, key)
    flags += [f"{DIVERGED}: {', '.join(astray)}"] if astray else []
    read = cell_reading(plan, records, dataset, key)
    row |= {**read, "reason": joined([row["reason"], str(read.get("reason", ""))])}
    low = row[("leakage" if infers == "image" else "label_advantage") + LOW]
    # Controls too: who reads a figure wants to know what it is worth. The prior is no better than itself.
    if low is not None and low <= 0 and record["identity"]["attack"]["name"] != "prior":
        flags.append(NO_BETTER)
    flags += target_flags(plan, records, labels["target"], only="accuracy")
    row["flags"] = joined([*flags, row["flags"], *record["warnings"]])
    times = {TIMING + n: s for n, s in record["timing"].items()}
    fits = fits_of(records, record)
    if fits:
        times[f"{TIMING}fit_s"] = sum(sum(fit["timing"].values()) for fit in fits)
    return row | times


def _reference_row(plan: Plan, records: Records, dataset: str, name: str) -> Row:
    reference = records.reference(dataset)
    state = reference.state
    row: Row = {"dataset": dataset, "backbone": "-", "cut": "-", "defense": "-", "attack": name, "knowledge": TRUTH}
    row |= {"target": "", "key": reference.key, "status": state.status, "reason": state.reason, "flags": ""}
    if state.status != "done":
        return row
    if name not in reference.rows:
        return row | {"status": "skipped", "reason": f"no smaller than the images ({reference.side} px)"}
    return row | _scored(plan, records, dataset, reference.rows[name])


def _scored(plan: Plan, records: Records, dataset: str, scores: Mapping[str, Scores], infers: Infers = "image") -> Row:
    """Returns the figures of what one attack found, with the reasons of what is missing."""
    reference = records.reference(dataset)
    row: Row = {"n_images": None}
    reasons, flags = [], []
    for name in metric_names(plan):
        found = scores[name]
        if found.values is not None:
            row["n_images"] = len(found.values)
        if found.reason:
            reasons.append(f"{name}: {found.reason}")
        flags += found.flags
        whole = found.whole
        row |= spread(name, None if whole is None else figure_interval(figure(name), whole, reference.groups))
    mse = scores["mse"].whole if "mse" in scores else None
    if infers == "label":
        row |= spread("leakage", None) | spread("equivalent_resolution", None) | spread(USABLE, None)
    elif mse is None:
        reasons.append("no leakage score: it needs the metric mse")
        row |= spread("leakage", None) | spread("equivalent_resolution", None) | spread(USABLE, None)
    else:
        score = leakage(mse, reference)
        row |= spread("leakage", score)
        row |= spread(USABLE, usable_information(score, math.prod(plan.datasets[dataset]["image_shape"])))
        row |= spread("equivalent_resolution", resolution(mse, reference))
        reasons.append(why_not(reference, mse))
    return row | {"reason": joined(reasons), "flags": joined(flags)}


def beats_prior(attack: str) -> bool:
    """Says whether an attack is meant to beat the prior; the prior itself is not flagged for being the prior."""
    try:
        return ATTACKS.get(attack).expected.beats_prior
    except PluginError:  # the records of a third party's attack can be read without its plugin
        return True
