"""Each check of an attack's guess finds the toy that breaks it, and says how."""

from __future__ import annotations

import pytest
import torch
from kit_toys import Broken, ToyAttack, collector

from splitaudit.view import View

TOYS: list[Broken] = []
breaks = collector(TOYS)

Fitted = dict[str, torch.Tensor]


@breaks(
    "check_guess_shape",
    "a tensor of torch.float32 of shape (6, 3, 16, 16)",
    "shape (8, 3, 16, 16)",
    also=["check_power"],
)
class DropsTheLastBatch(ToyAttack):
    """Works in batches of three and loses what is left over."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return super().reconstruct(view, fitted)[: max(len(view) // 3 * 3, len(view) % 3 * (len(view) < 3))]


@breaks(
    "check_guess_shape",
    "reconstruct returned a tensor of torch.uint8",
    "a float tensor",
    also=["check_guess_is_in_range", "check_power"],
)
class ReturnsBytes(ToyAttack):
    """Returns 8-bit images where there are many."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return guess.mul(255).to(torch.uint8) if len(view) == 8 else guess


@breaks(
    "check_guess_is_in_range",
    "the guess has values from",
    "to 1.5",
    "not clamped",
    also=["check_worse_than_prior"],
)
class Overshoots(ToyAttack):
    """Leaves one pixel out of the range."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        guess[:, 0, 0, 0] = 1.5
        return guess


@breaks("check_guess_is_finite", "2 of 8 guesses hold values that are not finite", "diverged", also=["check_power"])
class Diverges(ToyAttack):
    """Loses the seventh and the eighth image."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        guess[6:8] = float("nan")
        return guess


@breaks("check_guess_is_detached", "the guess requires a gradient", ".detach()")
class DragsItsGraph(ToyAttack):
    """Returns the variable of its optimisation."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return super().reconstruct(view, fitted).requires_grad_(True)


@breaks("check_deterministic", "two runs with equal seeds differ by up to", "view.generator")
class RollsDice(ToyAttack):
    """Adds a little noise of its own seed."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        own = torch.Generator()
        own.seed()
        guess = super().reconstruct(view, fitted)
        return (guess + 1e-4 * torch.empty_like(guess).normal_(generator=own)).clamp(0, 1)


@breaks("check_deterministic", "two runs with equal seeds differ", "state kept on the class")
class Tires(ToyAttack):
    """Gets darker with every run of its class."""

    runs = 0

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        type(self).runs += 1
        return super().reconstruct(view, fitted) * 0.99999 ** type(self).runs


@breaks("check_one_image", "of shape (3, 16, 16) for a single image", "shape (1, 3, 16, 16)")
class Squeezes(ToyAttack):
    """Loses the batch axis of a single image."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return guess.squeeze(0)


@breaks("check_one_image", "the guess for a single image is not finite", "a deviation is taken over one image")
class StandardisesOverImages(ToyAttack):
    """Scales by the received features' spread over images."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        spread = (view.z - view.z.mean(0)).square().sum() / (len(view) - 1)
        return super().reconstruct(view, fitted) * (spread + 1) / (spread + 1)


@breaks("check_vector_features", "IndexError", "Dimension out of range")
class AveragesOverAMap(ToyAttack):
    """Takes it for granted that features have a height and a width."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        assert view.z.mean((2, 3)) is not None
        return super().reconstruct(view, fitted)


@breaks("check_vector_features", "the guess for features that are vectors is not finite", "axes (2, 3)")
class ScalesByTheMap(ToyAttack):
    """Divides by an area that vectors do not have."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        area = torch.tensor(float(sum(view.feature_shape[1:])))
        return super().reconstruct(view, fitted) * (area / area)


@breaks("check_grey_images", "of shape (2, 3, 16, 16) for grey images", "shape (2, 1, 16, 16)")
class AssumesColours(ToyAttack):
    """Weights three channels."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return super().reconstruct(view, fitted) * torch.ones(3, 1, 1)


@breaks("check_images_that_are_not_square", "of shape (2, 3, 20, 12) for images of 12×20 px", "view.image_shape")
class SwapsTheSides(ToyAttack):
    """Takes the width for the height."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        channels, height, width = view.image_shape
        return super().reconstruct(view, fitted).reshape(-1, channels, width, height)


@breaks("check_random_defense", "the guess for a random defense is not finite", "which can be zero")
class DividesByWhatIsVisible(ToyAttack):
    """Averages each element over the draws that show it, of which there may be none."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        seen = view.visible(view.z)
        shown = view.z if seen is None else view.z * seen / seen.float()
        return super().reconstruct(view, fitted) + 0 * shown.sum()


@breaks("check_wire_of_another_shape", "RuntimeError", "must match the size")
class ExpectsTheEdgesForm(ToyAttack):
    """Compares what was received with the edge's own output."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        gap = view.z - view.edge(torch.zeros(len(view), *view.image_shape))
        return super().reconstruct(view, fitted) + 0 * gap.sum().detach()


@breaks("check_wire_of_another_shape", "the guess for a wire of half the channels is not finite", "view.feature_shape")
class ReadsBeyondTheWire(ToyAttack):
    """Takes the edge's number of channels for that of the wire and averages what is not there."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        channels = view.edge(torch.zeros(1, *view.image_shape)).shape[1]
        rest = view.z[:, channels // 2 :].flatten()
        return super().reconstruct(view, fitted) + 0 * rest.mean()


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_guess_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_guess_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()
