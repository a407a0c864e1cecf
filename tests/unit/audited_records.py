"""Plan and records of a made-up run: errors per image of a few cells, and what targets were measured to be."""

from __future__ import annotations

from typing import Any

import numpy as np

from splitaudit.canonical import key_of
from splitaudit.labels import defense_of
from splitaudit.plan import Node, Plan
from splitaudit.report.reading import Records

PLACE = {"dataset": "d", "backbone": "b", "cut": "c"}
GROUPS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3]
N = len(GROUPS)
NOISE = np.random.default_rng(0).uniform(0.8, 1.2, N)
PRIOR = np.ones(N)
THUMBNAILS = {1: 0.9 * PRIOR, 2: 0.6 * PRIOR, 4: 0.1 * PRIOR}
METRICS = {"mse": "k-mse", "accuracy": "k-accuracy"}

Errors = dict[tuple[str, str, int], Any]
"""(defense, attack, seed) to the mean error, or errors (N,); None: the attack failed."""


def audited(
    errors: Errors,
    accuracy: dict[str, float] | None = None,
    params: dict[str, dict[str, Any]] | None = None,
    *,
    independent: bool = False,
) -> tuple[Plan, Records]:
    """Returns plan and records of cells with errors per image: those given, or the mean error, times common noise.

    Args:
        errors: (defense, attack, seed) to the error.
        accuracy: of defenses; 0.75 where it is not given.
        params: parameters of defenses.
        independent: each measured image is a group of its own, not one of four groups.
    """
    suite = {"metrics": [{"name": n, "params": {}} for n in METRICS]}
    plan = Plan(suite, metrics=METRICS, references={"d": "r"})
    plan.datasets = {"d": {"image_shape": [3, 8, 8], "classes": ["a", "b"], "sizes": {"measure": N}}}
    data = {"name": "d"}
    plan.nodes["reference", "r"] = Node("reference", "r", {"dataset": data})
    found: dict[tuple[str, str], Any] = {
        ("reference", "r"): reference() | ({"measure_groups": None} if independent else {})
    }
    measure = key_of({"measure": METRICS["accuracy"], "images": N})
    for (defense, attack, seed), mean in errors.items():
        target, cell = f"{defense}-{seed}", f"{defense}-{attack}-{seed}"
        labels = {**PLACE, "defense": defense, "seed": seed}
        if ("target", target) not in plan.nodes:
            parts = [{"name": defense_of(defense), "params": (params or {}).get(defense, {})}]
            plan.nodes["target", target] = Node("target", target, {"dataset": data, "defense": {"parts": parts}})
            plan.targets.append({**labels, "key": target, "skip": None})
            right = (accuracy or {}).get(defense, 0.75)
            measured = {
                "key": measure,
                "status": "done",
                "reason": "",
                "flags": [],
                "values": {"accuracy": right, "accuracy_chance": 0.5},
                "timing_values": {},
                "per_image": {"accuracy": [float(i < right * N) for i in range(N)]},
            }
            training = {"loss": [1.0], "val_accuracy": [0.5], "kept_epoch": 1, "val_rising": False}
            found["target", target] = {
                "status": "done",
                "measurements": {"accuracy": measured},
                "training": training,
                "warnings": [],
                "timing": {},
            }
        identity = {"attack": {"name": attack}, "knowledge": {"edge": "query"}, "fit": None}
        plan.nodes["cell", cell] = Node("cell", cell, identity)
        plan.cells.append(
            {**labels, "attack": attack, "knowledge": "query", "attack_seed": 0, "target": target, "key": cell}
            | {"skip": None}
        )
        record: dict[str, Any] = {"status": "failed", "error": {"type": "E", "message": "no memory"}, "scores": {}}
        if mean is not None:
            values = (mean * NOISE).tolist()
            score = {"key": METRICS["mse"], "status": "done", "values": values, "reason": "", "flags": []}
            record = {"status": "done", "scores": {"mse": score}, "identity": identity, "attack": {}}
            record |= {"warnings": [], "timing": {}}
        found["cell", cell] = record
    return plan, Records(plan, lambda kind, key: found.get((kind, key)))


def at_chance(records: Records, target: str) -> None:
    """Flags the accuracy of a target as at chance: ``DEFENSE-SEED``."""
    record = records.get("target", target)
    assert record is not None
    record["measurements"]["accuracy"]["flags"] = ["accuracy at chance (0.5)"]


def failed(plan: Plan, records: Records, target: str) -> Records:
    """Returns the records of a run in which the training of one target failed: ``DEFENSE-SEED``."""
    gone = {("target", target), *(("cell", str(c["key"])) for c in plan.cells if c["target"] == target)}
    record = {"status": "failed", "error": {"type": "E", "message": "no memory"}, "scores": {}}
    return Records(plan, lambda kind, key: record if (kind, key) in gone else records.read(kind, key))


def reference() -> dict[str, Any]:
    return {
        "status": "done",
        "private": {"groups": GROUPS, "labels": [0] * N},
        "measure_groups": GROUPS,
        "prior_mse": PRIOR.tolist(),
        "thumbnails": {s: v.tolist() for s, v in THUMBNAILS.items()},
        "rows": {},
    }
