"""Claims, records and tables for the tests of claims, without a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from splitaudit.config.claims import Claim
from splitaudit.plan import Plan
from splitaudit.report.claims import build_claims

BASE = {
    "name": "c",
    "says": "s",
    "published": "p",
    "defense": "new",
    "against": ["old"],
    "figures": [{"column": "mse"}],
}
PLACE = {"dataset": "d", "backbone": "b", "cut": "c"}
N = 200


def claim(**given: Any) -> Claim:
    limit = {} if {"at_least", "at_most"} & set(given) else {"at_least": 1.3}
    return Claim.model_validate(BASE | limit | given)


class Measured:
    """Stands in for the records: errors per image by cell, accuracy per image by target."""

    def __init__(self, errors: dict[str, Any], accuracy: dict[str, Any]) -> None:
        self.errors, self.right = errors, accuracy

    def reference(self, dataset: str) -> Any:
        return SimpleNamespace(groups=None, measure_groups=None)

    def scores(self, key: str, metric: str) -> Any:
        return SimpleNamespace(whole=self.errors.get(key) if metric == "mse" else None)

    def measured(self, key: str, measure: str) -> Any:
        found = {"per_image": {"accuracy": self.right[key]}, "values": {}} if measure == "accuracy" else None
        return found, SimpleNamespace(status="done")


def results(
    errors: dict[str, float], accuracy: dict[str, float] | None = None, **columns: dict[str, Any]
) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Returns records, targets and cells of defenses with an error each; the decoder is the strongest attack."""
    noise = np.random.default_rng(0).uniform(0.8, 1.2, N)
    right = {d: (accuracy or {}).get(d, 0.9) for d in errors}
    per_image = {f"{d}-decoder": e * noise for d, e in errors.items()} | {
        f"{d}-weak": 3 * e * noise for d, e in errors.items()
    }
    records = Measured(per_image, {d: [float(i < right[d] * N) for i in range(N)] for d in errors})
    targets = [
        {**PLACE, "defense": d, "seed": 0, "key": d, "status": "done", **{c: v.get(d) for c, v in columns.items()}}
        for d in errors
    ]
    cells = [
        {**PLACE, "defense": d, "seed": 0, "attack": a, "knowledge": "query", "key": f"{d}-{a}", "status": "done"}
        for d in errors
        for a in ("decoder", "weak")
    ]
    return records, pd.DataFrame(targets), pd.DataFrame(cells)


def rows_of(made: Claim, found: tuple[Any, pd.DataFrame, pd.DataFrame]) -> list[dict[str, Any]]:
    metrics = [{"name": n, "params": {}} for n in ("mse", "accuracy", "mutual_information", "cost")]
    plan = Plan({"metrics": metrics, "claims": [made.model_dump(mode="json")]}, targets=[dict(PLACE)])
    return build_claims(plan, *found).to_dict("records")
