"""The contract of a measure of targets, check by check."""

from __future__ import annotations

import math
from typing import get_args

import torch

from ..metric import Column, Direction, Measure, MeasureContext, Measurement
from ..split import SplitModel
from .attacking import random_defense
from .data import part
from .outcome import Check, require
from .randomness import global_generators_watched
from .targets import CPU, make, toy_target

IMAGES = 120


def check_columns(cls: type[Measure]) -> None:
    """The tables' columns, their units and their directions are known before anything is measured."""
    problems = [] if cls.columns else ["columns is empty"]
    for name, column in cls.columns.items():
        if not isinstance(column, Column):
            problems.append(f"{name} is {type(column).__name__}, expected a Column")
        elif not column.meaning.strip() or column.higher_means not in get_args(Direction):
            problems.append(f"{name} has meaning {column.meaning!r} and higher_means {column.higher_means!r}")
    require(
        not problems,
        "; ".join(problems),
        "a Column with unit, direction and meaning for every value",
        "the columns are declared on the instance, or left empty",
    )


def check_values_fill_the_columns(cls: type[Measure]) -> None:
    """What is declared is what is stored: an undeclared value is lost, a missing one leaves a hole without a reason."""
    found = measured(cls, toy_target())
    _require_columns(cls, found)


def check_missing_values_have_a_reason(cls: type[Measure]) -> None:
    """An empty cell of a table is a question; its reason is the answer."""
    found = measured(cls, toy_target())
    empty = [k for k, v in found.values.items() if v is None or (isinstance(v, float) and not math.isfinite(v))]
    require(
        not empty or found.reason,
        f"{', '.join(empty)} has no finite value and the Measurement no reason",
        "reason says in a sentence why a value is missing",
        "an early return without a reason, or a division by zero",
    )


def check_per_image_values(cls: type[Measure]) -> None:
    """Intervals over images need one value for each image of the part, in its order."""
    found = measured(cls, toy_target())
    wrong = [f"{k} ({len(v)} values)" for k, v in found.per_image.items() if k not in cls.columns or len(v) != IMAGES]
    require(
        not wrong,
        f"per_image holds {', '.join(wrong)} for {IMAGES} images",
        "one value per image for a declared column",
        "values of batches instead of images, or an undeclared name",
    )


def check_deterministic(cls: type[Measure]) -> None:
    """Measuring the same target again must give the same numbers; only timings may differ, and they are marked."""
    target = toy_target(random_defense())
    first, again = (measured(cls, target) for _ in range(2))
    timings = {k for k, column in cls.columns.items() if column.timing}
    # By their text: a value that is not a number equals itself.
    differ = [k for k, v in first.values.items() if k not in timings and repr(v) != repr(again.values.get(k))]
    differ += [
        f"per_image['{k}']"
        for k, v in first.per_image.items()
        if k not in timings and repr(v) != repr(again.per_image.get(k))
    ]
    require(
        not differ,
        f"{', '.join(differ)} differs between two measurements with the same seed",
        "equal values for equal seeds (or Column(timing=True))",
        "randomness that does not come from context.generator",
    )


def check_target_is_unchanged(cls: type[Measure]) -> None:
    """Other measures and attacks meet the same target afterwards."""
    target = toy_target()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    measured(cls, target)
    moved = [k for k, v in target.state_dict().items() if not torch.equal(v, before[k])]
    training = [name or "the target" for name, module in target.named_modules() if module.training]
    require(
        not moved and not training,
        f"measuring changed {', '.join(moved)}"
        if moved
        else f"measuring left {', '.join(training[:1])} in training mode",
        "weights, buffers and eval mode are left alone",
        "model.train(), or an optimiser that was given the target's parameters",
    )


def check_vector_features(cls: type[Measure]) -> None:
    """Not every cut gives maps: a measure that cannot read vectors leaves those cuts without its columns."""
    _require_columns(cls, measured(cls, toy_target(vector=True)))


def check_random_defense(cls: type[Measure]) -> None:
    """Random defenses are measured too, through their wire."""
    _require_columns(cls, measured(cls, toy_target(random_defense())))


def check_global_generators_are_untouched(cls: type[Measure]) -> None:
    """The order of measures must not change their numbers."""
    target = toy_target(random_defense())
    likely = "a critic is initialised outside seeded_globally, or torch.randn without a generator"
    with global_generators_watched("measure", likely):
        measured(cls, target)


MEASURE_CHECKS: tuple[Check, ...] = (
    check_columns,
    check_values_fill_the_columns,
    check_missing_values_have_a_reason,
    check_per_image_values,
    check_deterministic,
    check_target_is_unchanged,
    check_vector_features,
    check_random_defense,
    check_global_generators_are_untouched,
)


def measured(cls: type[Measure], target: SplitModel) -> Measurement:
    """Returns what a measure with cheap parameters finds on a target, over :data:`IMAGES` images."""
    context = MeasureContext(target, part("measure", IMAGES), 0, CPU, threads=torch.get_num_threads(), batch=50)
    return make(cls).measure(context)


def _require_columns(cls: type[Measure], found: Measurement) -> None:
    missing, more = sorted(set(cls.columns) - set(found.values)), sorted(set(found.values) - set(cls.columns))
    require(
        not missing and not more,
        f"the Measurement lacks {', '.join(missing) or 'nothing'} and has undeclared {', '.join(more) or 'nothing'}",
        "a value (or None) for exactly the declared columns",
        "columns and values were not changed together",
    )
