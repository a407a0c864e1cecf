"""Each check of a measure of targets finds the toy that breaks it, and says how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from kit_toys import Broken, ToyMeasure, collector

from splitaudit.metric import Column, MeasureContext, Measurement

TOYS: list[Broken] = []
breaks = collector(TOYS)

WIRES = ("check_vector_features", "check_random_defense")
"""What asks for the same columns behind other wires."""


@breaks("check_columns", "mean_feature has meaning ''", "unit, direction and meaning")
class Meaningless(ToyMeasure):
    """Does not say what its column means."""

    columns: ClassVar[dict[str, Column]] = {
        **ToyMeasure.columns,
        "mean_feature": replace(ToyMeasure.columns["mean_feature"], meaning=""),
    }


@breaks(
    "check_columns",
    "columns is empty",
    "left empty",
    also=["check_values_fill_the_columns", "check_per_image_values", *WIRES],
)
class Undeclared(ToyMeasure):
    """Declares no column."""

    columns: ClassVar[dict[str, Column]] = {}


def without(found: Measurement, name: str) -> Measurement:
    return replace(found, values={k: v for k, v in found.values.items() if k != name})


@breaks(
    "check_values_fill_the_columns", "lacks elements and has undeclared nothing", "exactly the declared", also=WIRES
)
class LeavesAHole(ToyMeasure):
    """Fills one of two columns."""

    def measure(self, context: MeasureContext) -> Measurement:
        return without(super().measure(context), "elements")


@breaks("check_values_fill_the_columns", "lacks nothing and has undeclared more", "changed together", also=WIRES)
class SaysMore(ToyMeasure):
    """Fills a column that nobody has declared."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return replace(found, values={**found.values, "more": 1})


@breaks("check_missing_values_have_a_reason", "mean_feature has no finite value", "why a value is missing")
class GivesNoReason(ToyMeasure):
    """Returns no value and does not say why."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return replace(found, values={**found.values, "mean_feature": None})


@breaks("check_missing_values_have_a_reason", "mean_feature has no finite value", "a division by zero")
class IsNoNumber(ToyMeasure):
    """Returns NaN and does not say why."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return replace(found, values={**found.values, "mean_feature": float("nan")})


@breaks("check_per_image_values", "mean_feature (3 values) for 120 images", "values of batches")
class OneValueABatch(ToyMeasure):
    """Gives a value for every fiftieth image."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return replace(found, per_image={"mean_feature": found.per_image["mean_feature"][::50]})


@breaks("check_per_image_values", "median (120 values)", "an undeclared name")
class UndeclaredPerImage(ToyMeasure):
    """Gives values per image of a column that it does not have."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return replace(found, per_image={"median": found.per_image["mean_feature"]})


def dice() -> float:
    own = torch.Generator()
    own.seed()
    return float(torch.rand((), generator=own))


@breaks("check_deterministic", "mean_feature differs between two measurements", "Column(timing=True)")
class RollsDice(ToyMeasure):
    """Measures something else every time."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return replace(found, values={**found.values, "mean_feature": dice()})


@breaks("check_deterministic", "per_image['mean_feature'] differs between two measurements", "context.generator")
class RollsDicePerImage(ToyMeasure):
    """Has the same mean and other values every time."""

    def measure(self, context: MeasureContext) -> Measurement:
        return replace(super().measure(context), per_image={"mean_feature": [dice()] * len(context.data)})


@breaks("check_target_is_unchanged", "measuring left the target in training mode", "model.train()")
class LeavesItTraining(ToyMeasure):
    """Does not put the eval mode back."""

    def measure(self, context: MeasureContext) -> Measurement:
        context.model.eval()
        found = super().measure(context)
        context.model.train()
        return found


@breaks("check_target_is_unchanged", "measuring changed cloud.head.1.weight", "an optimiser")
class PrunesTheCloud(ToyMeasure):
    """Changes the target for whoever comes next."""

    def measure(self, context: MeasureContext) -> Measurement:
        context.model.cloud[0][1].weight.data.mul_(0.5)
        return super().measure(context)


@breaks("check_vector_features", "IndexError", "Dimension out of range")
class NeedsMaps(ToyMeasure):
    """Takes it for granted that features have a height and a width."""

    def measure(self, context: MeasureContext) -> Measurement:
        assert context.clean_features().mean((2, 3)) is not None
        return super().measure(context)


@breaks("check_random_defense", "lacks elements", "exactly the declared columns")
class GivesUpOnRandomDefenses(ToyMeasure):
    """Leaves a column out where the defense draws."""

    def measure(self, context: MeasureContext) -> Measurement:
        found = super().measure(context)
        return without(found, "elements") if context.model.defense.stochastic else found


@breaks("check_global_generators_are_untouched", "measure changed the global random state of torch", "seeded_globally")
class WastesADraw(ToyMeasure):
    """Moves the global generator on."""

    def measure(self, context: MeasureContext) -> Measurement:
        torch.rand(1)
        return super().measure(context)


class Clock(ToyMeasure):
    """Measures another time every time and says so."""

    columns: ClassVar[dict[str, Column]] = {
        "mean_feature": replace(ToyMeasure.columns["mean_feature"], timing=True),
        "elements": ToyMeasure.columns["elements"],
    }

    def measure(self, context: MeasureContext) -> Any:
        return RollsDice.measure(RollsDice(), context)


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_measure_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_measure_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()


def test_a_timing_may_differ_where_it_is_marked() -> None:
    Broken(RollsDice, "check_deterministic", ()).is_found()
    with pytest.raises(AssertionError, match="check_deterministic lets Clock pass"):
        Broken(Clock, "check_deterministic", ()).is_found()
