"""Attacks that read labels, and the metrics that judge them: weak, dishonest and misdeclared toys are found."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kit_toys import Broken, by_size, collector

from splitaudit.attacks.attribute import Attribute
from splitaudit.metric import LabelMetric
from splitaudit.testing.data import CLASSES, part
from splitaudit.view import View

TOYS: list[Broken] = []
breaks = collector(TOYS)

METRIC_TOYS: list[Broken] = []
metric_breaks = collector(METRIC_TOYS)

Fitted = dict[str, torch.Tensor]


class ToyReader(Attribute):
    """The built-in reader, to break one clause at a time."""

    source = "toy"


@breaks("check_reads", "is read rightly", "at least 0.2 more", "too few epochs", also=["check_reads_any_scale"])
class ReadsNothing(ToyReader):
    """Holds all values for equally likely."""

    def infer(self, view: View, fitted: Fitted) -> torch.Tensor:
        return torch.zeros_like(super().infer(view, fitted))


@breaks("check_reads_any_scale", "multiplied by 0.001", "without regard to the scale")
class DiesOfSmallFeatures(ToyReader):
    """Gives up where features are too small for it."""

    def infer(self, view: View, fitted: Fitted) -> torch.Tensor:
        scores = super().infer(view, fitted)
        return scores if float(view.z.abs().max()) > 0.05 else torch.zeros_like(scores)


@breaks("check_reads_nothing_from_nothing", "on constant features", "95 % interval", "around the View")
class KnowsTheLabels(ToyReader):
    """Has the classes of the private images from elsewhere."""

    def infer(self, view: View, fitted: Fitted) -> torch.Tensor:
        return F.one_hot(part("private", len(view), view.image_shape).labels, CLASSES).float()


class ToyLabelMetric(LabelMetric):
    """1 where the value with the greatest score is the image's."""

    source = "toy"
    label = "accuracy"

    def per_sample(self, truth: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return (scores.argmax(1) == truth).float()


@metric_breaks("check_label_meta_data", "label ''", "what an axis says")
class Nameless(ToyLabelMetric):
    """Leaves its axis without a name."""

    label = ""


@metric_breaks("check_one_value_per_label", "of shape ()", "one value per image")
class Averages(ToyLabelMetric):
    """Averages over the batch."""

    def per_sample(self, truth: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return super().per_sample(truth, scores).mean()


@metric_breaks("check_right_is_told_from_wrong", "all right differ by 1", "less leakage")
class UpsideDown(ToyLabelMetric):
    """Says that reading more rightly is less leakage."""

    higher_means = "less leakage"


@pytest.mark.parametrize("toy", [*by_size(TOYS, "fast"), *METRIC_TOYS], ids=str)
def test_a_weak_or_dishonest_reader_and_a_misdeclared_metric_are_found(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", by_size(TOYS, "full"), ids=str)
def test_a_reader_that_a_scale_blinds_is_found(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", [*TOYS, *METRIC_TOYS], ids=str)
def test_a_broken_toy_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else("all")
