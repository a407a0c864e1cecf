"""A run folder with made-up records: every node of a suite's plan gets drawn numbers, nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splitaudit.canonical import key_of
from splitaudit.config import load_suite
from splitaudit.config.load import dump_suite
from splitaudit.data.base import DataContext
from splitaudit.pixels import to_float
from splitaudit.plan import Node, Plan
from splitaudit.planner import make_plan, open_datasets
from splitaudit.references import reference_guesses, thumbnail_errors
from splitaudit.scoring import is_metric, score_all
from splitaudit.store import Store, new_record, write_json, write_text

SIZES = {"client_train": 64, "client_val": 16, "private": 12, "measure": 48, "aux_train": 64, "aux_val": 16}
LATENCY = {
    "edge_latency_median_ms": 0.5,
    "edge_latency_p95_ms": 3.5,
    "latency_runs": 200,
    "latency_threads": 1,
    "latency_processor": "made up",
}
COST = {
    "edge_macs": 2_900_000,
    "edge_flops": 5_800_000,
    "edge_parameters": 20_000,
    "cloud_macs": 9_000_000,
    "wire_shape": "8×8×8",
    "wire_elements": 512,
    "wire_bytes": 2048,
}

Why = Callable[[Node], str | None]
"""A node to why it failed; None where it did not."""


def suite(**change: Any) -> dict[str, Any]:
    """Returns a small suite of real plugins, changed as asked."""
    return {
        "name": "made-up",
        "description": "Made up: no number here means anything.",
        "dataset": {"name": "photos", "sizes": SIZES},
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", "noise", "siftfunnel"],
        "attacks": ["prior", "rmle", "decoder"],
        "metrics": ["mse", "ssim", "accuracy", "cost", "latency"],
        "seeds": [0, 1],
        "training": {"epochs": 1},
        **change,
    }


def store_run(
    folder: Path, made_up: dict[str, Any], why: Why = lambda node: None, *, images: bool = True
) -> tuple[Plan, dict[str, torch.Tensor]]:
    """Writes a run folder and returns its plan and private images.

    Args:
        folder: where.
        made_up: the suite.
        why: which nodes failed. What needs them gets no record.
        images: whether reconstructions are stored.
    """
    resolved = load_suite(made_up)
    opened = open_datasets(resolved, DataContext(offline=True))
    private = {label: dataset.load("private").images for label, (dataset, _) in opened.items()}
    with Store.writing(folder) as store:
        plan = make_plan(resolved, DataContext(offline=True))
        write_text(store.suite_path, dump_suite(resolved))
        write_json(folder / "plan.json", plan.dump())
        maker = _Maker(plan, to_float(next(iter(private.values()))), store, images)
        gone: set[tuple[str, str]] = set()
        for name, node in plan.nodes.items():
            reason = why(node)
            if gone.intersection(node.needs):
                gone.add(name)
            elif reason is None:
                store.write(getattr(maker, node.kind)(node))
            else:
                gone.add(name)
                error = {"type": "ValueError", "message": reason, "traceback": f"Traceback\nValueError: {reason}"}
                store.write(new_record(node.kind, node.identity, status="failed", error=error))
    return plan, private


class _Maker:
    def __init__(self, plan: Plan, truth: torch.Tensor, store: Store, images: bool) -> None:
        self.plan, self.truth, self.store, self.images = plan, truth, store, images
        self.specs = [{**m, "key": plan.metrics[m["name"]]} for m in plan.suite["metrics"]]
        self.draw = np.random.default_rng(0)
        self.strength: dict[str, float] = {}

    def reference(self, node: Node) -> dict[str, Any]:
        x = self.truth
        groups = [i // 4 for i in range(48)]
        rows = {n: score_all(self.specs, x, (g * 255).round().byte()) for n, g in reference_guesses(x)[0].items()}
        return new_record(
            "reference",
            node.identity,
            private={"labels": [0] * len(x), "names": None, "groups": groups[: len(x)]},
            measure_groups=groups,
            prior_mse=(x - x.mean(0)).square().mean((1, 2, 3)).tolist(),
            thumbnails={str(s): e.tolist() for s, e in thumbnail_errors(x).items()},
            rows=rows,
        )

    def target(self, node: Node) -> dict[str, Any]:
        self.strength[node.key] = self.draw.uniform()
        self.store.write_artifact("target", node.key, {"a": torch.zeros(1)})
        right = (self.draw.uniform(size=48) < 0.9 - 0.3 * self.strength[node.key]).astype(float).tolist()
        parts: dict[str, dict[str, Any]] = {
            "accuracy": {"values": {"accuracy": sum(right) / 48, "accuracy_n": 48}, "per_image": {"accuracy": right}},
            "cost": {"values": COST},
            "latency": {"timing_values": LATENCY},
        }
        size = next(iter(self.plan.datasets.values()))["sizes"]["measure"]
        found = {
            s["name"]: {"status": "done", "key": key_of({"measure": s["key"], "images": size}), **parts[s["name"]]}
            for s in self.specs
            if not is_metric(s["name"])
        }
        training = {"loss": [1.0], "val_accuracy": [0.5], "kept_epoch": 1, "val_rising": False}
        return new_record("target", node.identity, artifact=True, training=training, measurements=found)

    def fit(self, node: Node) -> dict[str, Any]:
        self.store.write_artifact("fit", node.key, {"a": torch.zeros(1)})
        curve = [[i, 0.1 / i] for i in range(1, 12)]
        attack = node.identity["attack"]
        if "tune" in attack:  # the settings have fits, and curves, of their own
            tried = [attack["params"], *attack["tune"]]
            errors = self.draw.uniform(0.01, 0.04, len(tried)).tolist()
            chosen = tried[min(range(len(tried)), key=errors.__getitem__)]
            notes = {"tried": len(tried), "aux_val_mse": errors, "chosen": chosen}
            info = {"notes": notes, "curves": {}, "queries": 640, "accessed": []}
            return new_record("fit", node.identity, artifact=True, info=info)
        info = {"notes": {"converged": False}, "curves": {"aux_val_mse": curve}, "queries": 640, "accessed": []}
        return new_record("fit", node.identity, artifact=True, info=info)

    def cell(self, node: Node) -> dict[str, Any]:
        strength = self.strength[node.identity["target"]]
        share = (
            1.0 if node.identity["attack"]["name"] == "prior" else 0.1 + 0.6 * strength * self.draw.uniform(0.5, 1.5)
        )
        prior = self.truth.mean(0, keepdim=True)
        guess = (self.truth + math.sqrt(min(share, 1.0)) * (prior - self.truth)).clamp(0, 1)
        stored = (guess * 255).round().byte()
        if self.images:
            self.store.write_artifact("cell", node.key, {"guess": stored})
        attack = {"notes": {}, "curves": {}, "queries": 10, "accessed": []}
        scores = score_all(self.specs, self.truth, stored)
        return new_record("cell", node.identity, artifact=self.images, scores=scores, attack=attack)
