"""Each check of a per-image metric finds the toy that breaks it, and says how."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit_toys import ALL, Broken, ToyMetric, collector, error

TOYS: list[Broken] = []
breaks = collector(TOYS)

Images = torch.Tensor


@breaks("check_meta_data", "label is ''", "what an axis says")
class Nameless(ToyMetric):
    """Has no label."""

    label = ""


@breaks("check_meta_data", "higher_means is 'more cost'", "'more leakage' or 'less leakage'")
class MeansCost(ToyMetric):
    """Compares images and speaks of cost."""

    higher_means = "more cost"


@breaks("check_meta_data", "unit is None", "expected a string")
class Unitless(ToyMetric):
    """Has no unit where a pure number has an empty one."""

    unit: Any = None


@breaks("check_meta_data", "bounds are (1.0, 0.0)", "(lowest, highest)", also=["check_values_are_within_bounds"])
class UpsideDown(ToyMetric):
    """Has its bounds the wrong way round."""

    bounds = (1.0, 0.0)


@breaks("check_meta_data", "best is 2.0, outside bounds (0.0, 1.0)", also=["check_perfect_copy_is_best"])
class BestOutOfBounds(ToyMetric):
    """Has a best value that nothing can have."""

    best = 2.0


@breaks("check_one_value_per_image", "of shape (12, 1) for 12 images", "an axis is kept")
class KeepsAnAxis(ToyMetric):
    """Returns a column."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return error(truth, guess)[:, None]


@breaks("check_one_value_per_image", "of shape () for 12 images", "averaged over the batch", also=ALL)
class PoolsTheBatch(ToyMetric):
    """Returns one number for all images."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return error(truth, guess).mean()


@breaks("check_permuted_images_permute_values", "when the images are put in another order", "values that are sorted")
class Sorts(ToyMetric):
    """Sorts its values."""

    set_wise = True

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return error(truth, guess).sort().values


@breaks("check_split_batches_change_nothing", "when the batch is divided", "set_wise = True")
class Averages(ToyMetric):
    """Gives every image the batch's mean."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        values = error(truth, guess)
        return values.mean().expand_as(values)


@breaks("check_perfect_copy_is_best", "metric(x, x) is 0.01", "the declared best, 0", "a constant under a root")
class RootWithAConstant(ToyMetric):
    """Keeps its gradient finite at the price of its end."""

    bounds = (0.0, 2.0)

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return (error(truth, guess) + 1e-4).sqrt()


@breaks("check_degradation_moves_as_declared", "values that fall", "higher_means is the wrong way round")
class PointsTheOtherWay(ToyMetric):
    """Says that errors are leakage."""

    higher_means = "more leakage"


@breaks("check_degradation_moves_as_declared", "gives 0, 0, 0, 0", "values that rise")
class NeverMoves(ToyMetric):
    """Finds every guess perfect."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return 0 * error(truth, guess)


@breaks("check_values_are_within_bounds", "black for white has values from 1 to 1", "bounds (0.0, 0.5)")
class LeavesItsBounds(ToyMetric):
    """Declares narrower bounds than it keeps."""

    bounds = (0.0, 0.5)


@breaks("check_values_are_within_bounds", "black for black has the value NaN", "a flat image has no variance")
class DividesByTheVariance(ToyMetric):
    """Divides by the variance of the truth."""

    bounds = (0.0, float("inf"))

    def per_sample(self, truth: Images, guess: Images) -> Images:
        """A flat truth makes it infinite."""
        return error(truth, guess) / truth.flatten(1).var(1).where(truth.flatten(1).amax(1) != 1, 1.0)


@breaks("check_values_are_within_bounds", "an infinite value and the docstring does not say so")
class SilentlyInfinite(ToyMetric):
    """Computes decibels."""

    bounds = (float("-inf"), float("inf"))
    best = float("inf")
    higher_means = "more leakage"

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return -error(truth, guess).log10()


@breaks(
    "check_agrees_with_its_reference", "differ from skimage.metrics.mean_squared_error by up to", "agreement to 1e-4"
)
class SumsOverChannels(ToyMetric):
    """Sums over channels and says that a library does so too."""

    bounds = (0.0, 3.0)
    reference = "skimage.metrics.mean_squared_error"

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return 3 * error(truth, guess)


@breaks("check_agrees_with_its_reference", "'skimage.metrics.mean_sqared_error' cannot be imported", "a misspelt name")
class MisspellsItsReference(ToyMetric):
    """Names a function that does not exist."""

    reference = "skimage.metrics.mean_sqared_error"


@breaks("check_integer_images_are_refused", "8-bit images are accepted and give", "a TypeError or ValueError")
class TakesBytes(ToyMetric):
    """Converts whatever it gets."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return error(truth.float(), guess.float())


@breaks("check_integer_images_are_refused", "refused with the message 'no bytes'", "float images in [0, 1]")
class RefusesCurtly(ToyMetric):
    """Does not say what it expects."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        if not truth.is_floating_point():
            raise ValueError("no bytes")
        return error(truth, guess)


@breaks("check_integer_images_are_refused", "refused with the message", "check the images first")
class LeavesItToTorch(ToyMetric):
    """Lets a function further down complain."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        return (truth - guess).square().flatten(1).mean(1)


@breaks("check_inputs_are_unchanged", "changed its arguments in place", "an in-place operation")
class ClipsInPlace(ToyMetric):
    """Writes into the images."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        error(truth, guess)  # refuses bytes
        return error(truth.clamp_(0.1, 0.9), guess.clamp_(0.1, 0.9))


@breaks("check_deterministic", "two calls differ by up to", "a random number")
class RollsDice(ToyMetric):
    """Samples so well that only equality gives it away."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        own = torch.Generator()
        own.seed()
        return error(truth, guess) * (1 - 1e-5 * torch.rand(len(truth), generator=own))


@breaks("check_deterministic", "per_sample changed the global random state of torch", "a generator of their own")
class WastesADraw(ToyMetric):
    """Moves the global generator on."""

    def per_sample(self, truth: Images, guess: Images) -> Images:
        torch.rand(1)
        return error(truth, guess)


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_metric_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_metric_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()
