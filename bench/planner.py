"""From a suite to a plan. It does not train, attack or read images; it asks the datasets for their fingerprints."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from .canonical import key_of
from .config.suite import DatasetSpec, Suite
from .data._overlap import refuse_overlap
from .data.base import DataContext, DataInfo, Dataset
from .errors import ConfigError
from .knowledge import level
from .labels import Labelled, sweep_labels
from .plan import Plan
from .plan_rows import RowBuilder
from .plugins import DATASETS, METRICS, identity
from .twins import twins_of


def open_datasets(suite: Suite, context: DataContext) -> dict[str, tuple[Dataset, DataInfo]]:
    """Prepares every dataset of a suite, so that all problems of files appear before any work.

    Raises:
        DataError: of the first dataset that cannot be used.
    """
    specs = [*suite.dataset, *([suite.other] if suite.other else [])]
    names = sweep_labels([Labelled(s.name, {**s.params, **{f"n_{k}": v for k, v in s.sizes.items()}}) for s in specs])
    opened = {}
    for spec, name in zip(specs, names, strict=True):
        if name not in opened:
            cls = DATASETS.get(spec.name)
            dataset = cls(cls.Params(**spec.params), spec.sizes, context)
            opened[name] = (dataset, dataset.prepare())
    return opened


def make_plan(suite: Suite, context: DataContext | None = None) -> Plan:
    """Returns the plan of a suite.

    Raises:
        DataError: if a dataset cannot be used, or auxiliary images of the levels ``-other`` are private images.
        ConfigError: if auxiliary images of the levels ``-other`` have another shape, or an attack reads an attribute that no
            dataset has.
    """
    context = context or DataContext()
    opened = open_datasets(suite, context)
    names = list(opened)
    plan = Plan(suite.model_dump(mode="json"))
    plan.datasets = {
        name: {"image_shape": list(info.image_shape), "classes": list(info.classes), "sizes": dict(info.sizes)}
        for name, (_, info) in opened.items()
    }
    plan.metrics = {m.name: metric_key(m.name, m.params) for m in suite.metrics}
    specs: list[DatasetSpec] = [*suite.dataset, *([suite.other] if suite.other else [])]
    identities = {
        name: _dataset_identity(spec.name, dataset)
        for (name, (dataset, _)), spec in zip(opened.items(), specs, strict=False)
    }
    _check_measured(plan, names[: len(suite.dataset)], identities)
    other = names[-1] if suite.other else None
    if other is not None:
        _check_other(suite, opened, other)
    builder = RowBuilder(suite, plan, opened, identities, other)
    for name in names[: len(suite.dataset)]:
        builder.dataset(name)
    plan.twins = twins_of(plan.nodes)
    return plan


def _check_measured(plan: Plan, names: Sequence[str], identities: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses one dataset with two counts of measured images: what is measured on a target is found by its dataset."""
    for one, other in itertools.combinations(names, 2):
        counts = [plan.datasets[name]["sizes"]["measure"] for name in (one, other)]
        if identities[one] == identities[other] and counts[0] != counts[1]:
            raise ConfigError(
                [
                    f"dataset: {one} and {other} are one dataset, of which {counts[0]} and {counts[1]} images would be "
                    "measured; give both the same sizes: {measure: …}"
                ]
            )


def _check_other(suite: Suite, opened: Mapping[str, tuple[Dataset, DataInfo]], other: str) -> None:
    lender, shape = opened[other][0], opened[other][1].image_shape
    for name in list(opened)[: len(suite.dataset)]:
        dataset, info = opened[name]
        if info.image_shape != shape:
            raise ConfigError(
                [
                    f"other: images of {other} have the shape {shape}, expected that of {name}, {info.image_shape}. "
                    "Set image_size (and grey) in the parameters of other."
                ]
            )
        if any(level(k).aux == "other" for k in suite.knowledge):  # else none of its images is used
            refuse_overlap((name, dataset), (other, lender))


def metric_key(name: str, params: Mapping[str, Any]) -> str:
    """Returns the key under which a metric's values are stored: name, version and parameters."""
    cls = METRICS.get(name)
    return key_of({"metric": identity(METRICS, name, cls.Params(**params))})


def _dataset_identity(name: str, dataset: Dataset) -> dict[str, Any]:
    return {**identity(DATASETS, name, dataset.params), "fingerprint": dataset.fingerprint()}
