"""What every column of the tables means: unit, direction, meaning. Axes, tooltips and documentation all read it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..attack import Infers
from ..errors import PluginError
from ..metric import Column, Direction, LabelMetric, Measure, Metric
from ..plan import Plan
from ..plugins import METRICS

TIMING = "timing_"
"""Prefix of every column whose numbers differ between two runs of the same thing."""

LOW, HIGH = "_lo", "_hi"
"""Suffixes of the ends of a 95 % interval."""

LABELS = ("dataset", "backbone", "cut", "defense", "seed")
PLACE = ("dataset", "backbone", "cut")
"""What a figure has one file per."""

USABLE = "v_info_nats"
"""Usable information of an attack: from cells, so that it is computed with the tables."""

TRUTH = "truth (reference)"
"""The knowledge of rows that were computed from the private images themselves."""


@dataclass(frozen=True)
class Figure:
    """How a per-image figure is named, scaled and read.

    Attributes:
        name: its column.
        label: what an axis says, without the unit.
        unit: empty for pure numbers.
        higher_means: its direction.
        bounds: least and greatest possible value.
    """

    name: str
    label: str
    unit: str
    higher_means: Direction
    bounds: tuple[float, float] = (float("-inf"), float("inf"))

    @property
    def axis(self) -> str:
        """The text of an axis: label, unit and direction."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}: {self.direction}" if self.direction else f"{self.label}{unit}"

    @property
    def direction(self) -> str:
        """What a higher value means, in words; empty where it means neither."""
        return "" if self.higher_means == "neither" else f"higher means {self.higher_means}"


LEAKAGE = Figure("leakage", "leakage score", "", "more leakage", (float("-inf"), 1.0))
RESOLUTION = Figure("equivalent_resolution", "equivalent resolution", "px", "more leakage", (0.0, float("inf")))
HEADLINE = (LEAKAGE, RESOLUTION)


def figure(name: str) -> Figure:
    """Returns how a per-image figure is read. A metric whose plugin is not installed here keeps its bare name."""
    for known in HEADLINE:
        if known.name == name:
            return known
    cls = _metric(name)
    if cls is None or not issubclass(cls, Metric | LabelMetric):
        return Figure(name, name, "", "neither")
    return Figure(name, cls.label or name, cls.unit, cls.higher_means, cls.bounds)


def metric_names(plan: Plan, what: Infers | None = None) -> list[str]:
    """Returns the suite's per-image metrics in order; those that judge images or labels alone where ``what`` says so."""
    names = [m["name"] for m in plan.suite["metrics"] if not is_measure(m["name"])]
    return [n for n in names if what in (None, judges(n))]


def judges(name: str) -> Infers:
    """Returns what a per-image metric judges; one whose plugin is not installed here is taken for one of images."""
    cls = _metric(name)
    return "label" if cls is not None and issubclass(cls, LabelMetric) else "image"


def measure_names(plan: Plan) -> list[str]:
    """Returns the suite's measures of targets in order."""
    return [m["name"] for m in plan.suite["metrics"] if is_measure(m["name"])]


def is_measure(name: str) -> bool:
    """Says whether a registered name measures targets; an unknown one is taken for a metric of images."""
    cls = _metric(name)
    return cls is not None and issubclass(cls, Measure)


def measure_columns(name: str) -> dict[str, Column]:
    """Returns the columns that a measure fills; timings carry the prefix of timing columns."""
    cls = _metric(name)
    columns: dict[str, Column] = getattr(cls, "columns", {})
    return {(TIMING + c if column.timing else c): column for c, column in columns.items()}


def timing_columns(frame: pd.DataFrame) -> list[str]:
    """Returns the columns that differ between two runs of the same thing: seconds and latencies."""
    return [c for c in frame.columns if str(c).startswith(TIMING)]


def describe(plan: Plan) -> dict[str, dict[str, tuple[str, str]]]:
    """Returns table to column to (unit, meaning), for documentation and tooltips."""
    from . import meanings

    metrics: dict[str, tuple[str, str]] = {}
    for name in metric_names(plan):
        f = figure(name)
        metrics |= interval(name, f.unit, f"{f.label}, mean over the private images; {f.direction or 'no direction'}")
    measures = {
        c: (column.unit, column.meaning) for name in measure_names(plan) for c, column in measure_columns(name).items()
    }
    return {
        "targets": meanings.TARGETS | measures,
        "cells": meanings.CELLS | metrics,
        "summary": meanings.SUMMARY | metrics | measures,
        "worst_case": meanings.WORST_CASE,
        "matched": meanings.MATCHED,
        "pairs": meanings.PAIRS,
        "attributes": meanings.ATTRIBUTES,
        "criterion": meanings.CRITERION,
        "claims": meanings.CLAIMS,
        "tuned": meanings.TUNED,
        "adaptive": meanings.ADAPTIVE,
        "per_image": meanings.PER_IMAGE | {n: (figure(n).unit, f"{figure(n).label} of this image") for n in metrics},
    }


def column_words(suite: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the columns of a suite's metrics and measures are called where their names would tell a reader nothing.

    A metric has a label, a column of a measure the beginning of its meaning.
    """
    out = {f.name: f.label for f in HEADLINE} | {"accuracy": "accuracy", USABLE: "usable information"}
    for name in dict.fromkeys(str(m["name"]) for m in suite.get("metrics", [])):
        if is_measure(name):
            out |= {c: column.words for c, column in measure_columns(name).items() if c not in out}
        else:
            out[name] = figure(name).label
    return out


def interval(name: str, unit: str, meaning: str) -> dict[str, tuple[str, str]]:
    """Returns the descriptions of a figure and of the ends of its interval."""
    return {
        name: (unit, meaning),
        name + LOW: (unit, f"lower end of the 95 % interval of {name}"),
        name + HIGH: (unit, f"upper end of the 95 % interval of {name}"),
    }


def _metric(name: str) -> Any:
    try:
        return METRICS.get(name)
    except PluginError:  # the records of a third party's metric can be read without its plugin
        return None
