"""Each check of what a defense does on the wire finds the toy that breaks it, and says how."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kit_toys import ALL, Broken, ToyDefense, collector
from pydantic import Field
from torch import nn

from splitaudit import Params
from splitaudit.split import Split

TOYS: list[Broken] = []
breaks = collector(TOYS)

COPIES = ("check_picklable", "check_copyable", "check_stored_state_restores", "check_restores_in_a_new_process")
"""What compares the outputs of two copies of a target."""


class RandomToy(ToyDefense):
    """Says that it draws."""

    @property
    def stochastic(self) -> bool:
        return True


@breaks("check_wire_shape", "the cloud half cannot take what was sent", "lift does not fill it up again", also=ALL)
class PoolsAlone(ToyDefense):
    """Halves the features' resolution, says so, and leaves the cloud with it."""

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = feature_shape
        return channels, height // 2, width // 2

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return F.avg_pool2d(z, 2)


@breaks("check_wire_shape", "protect returned shape (6, 8, 4, 4)", "declares (8, 8, 8)", "wire_shape", also=ALL)
class PoolsInSecret(ToyDefense):
    """Halves the features' resolution and does not say so."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return F.avg_pool2d(z, 2)


@breaks("check_wire_shape", "protect returned tuple", "a tensor", also=ALL)
class SendsStatistics(ToyDefense):
    """Returns the mean beside the features."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> Any:
        return z, z.mean()


@breaks("check_wire_shape", "wire_shape returned [8, 8, 8]", "a tuple of ints")
class DeclaresAList(ToyDefense):
    """Declares the right shape in the wrong form."""

    def wire_shape(self, feature_shape: tuple[int, ...]) -> Any:
        return list(feature_shape)


@breaks("check_wire_is_finite", "values of a million", "finite values for finite features")
class Exponentiates(ToyDefense):
    """Sends exponentials."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z.exp()


@breaks("check_wire_is_finite", "zeros", "norm", also=["check_calibration_survives_constant_features"])
class DividesByTheNorm(ToyDefense):
    """Projects features onto the sphere."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z / z.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


@breaks("check_wire_is_finite", "one image", also=["check_batch_equals_samples"])
class DividesByTheBatch(ToyDefense):
    """Standardises over the batch, which one image does not have."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        spread = (z - z.mean(0)).square().sum(0) / (len(z) - 1)
        return z / (spread + 1).sqrt()


class Standardises(ToyDefense):
    """Divides by a calibrated deviation."""

    def prepare(self, split: Split) -> None:
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("mean", torch.zeros(()))

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        every = torch.cat(list(features()))
        self.std.copy_(every.std())
        self.mean.copy_(every.mean())


@breaks("check_calibration_survives_constant_features", "for the same features", "deviation of zero")
class DividesZeroByZero(Standardises):
    """Centres and divides by the deviation."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z - self.mean) / self.std


@breaks("check_calibration_survives_constant_features", "for features that move", "deviation of zero")
class DividesByZero(Standardises):
    """Leaves zeros out of the division, so that only a channel that comes to life is infinite."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.where(z == 0, z, z / self.std)


@breaks("check_input_is_unchanged", "changed its input in place by up to", "z is left as it is")
class ClipsInPlace(ToyDefense):
    """Writes into the features at inference."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z.clamp(max=0.5) if self.training else z.clamp_(max=0.5)


@breaks("check_input_is_unchanged", "changed its input in place", "trailing underscore", also=ALL)
class ClipsInPlaceInTraining(ToyDefense):
    """Writes into the features, so that the training's backward pass fails."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z.clamp_(max=0.5)


@breaks(
    "check_same_generator_same_output",
    "equal generators differ by",
    "a state that changes at inference",
    also=["check_batch_equals_samples"],
)
class Drifts(RandomToy):
    """Counts its calls since the last change of mode."""

    calls = 0

    def train(self, mode: bool = True) -> Drifts:
        self.calls = 0
        return super().train(mode)

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.calls += 1
        return z * (1 + 0.1 * self.calls)


@breaks(
    "check_same_generator_same_output",
    "all randomness comes from the generator",
    "torch.randn_like",
    also=["check_global_generators_are_untouched", "check_batch_equals_samples", *COPIES],
)
class DrawsGlobally(RandomToy):
    """Ignores the generator that it is given."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + torch.randn_like(z)


@breaks("check_stochastic_is_declared", "stochastic is False", "different features", "not overridden")
class DrawsInSecret(ToyDefense):
    """Scales the whole batch by a random factor and does not say so."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z * (1 + torch.rand((), generator=generator))


@breaks("check_stochastic_is_declared", "stochastic is True", "equal features")
class OnlyClaimsToDraw(RandomToy):
    """Draws nothing."""


class FactorParams(Params):
    """Parameters of DrawsNothingAtZero."""

    width: float = Field(1.0, ge=0, description="greatest change, as a share")


@breaks("check_stochastic_is_declared", "with parameters {'width': 0.0} stochastic is True", "look at the parameters")
class DrawsNothingAtZero(RandomToy):
    """Is random with its own parameters and not with the neutral ones."""

    Params = FactorParams

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"width": 0.0}

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z * (1 + self.params.width * torch.rand((), generator=generator))


@breaks("check_batch_equals_samples", "the protect gives other values for a batch", "statistics of the batch")
class CentresTheBatch(ToyDefense):
    """Takes the batch's mean off."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z - z.mean(0)


@breaks("check_batch_equals_samples", "the edge gives other values for a batch", "each image is treated by itself")
class NormalisesTheBatch(ToyDefense):
    """Ends the edge with a batch normalisation that keeps no running statistics."""

    def wrap(self, split: Split) -> Split:
        blocks = OrderedDict(split.edge.named_children())
        blocks["norm"] = nn.BatchNorm2d(split.feature_shape()[0], track_running_stats=False)
        return Split(split.info, nn.Sequential(blocks), split.cloud)


class BrightestFirst(nn.Module):
    """Divides each image by its brightest value, then does what another block does."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x / x.amax((1, 2, 3), keepdim=True))


@breaks("check_wire_is_finite", "black images", "finite values for finite features and images")
class DividesByTheBrightest(ToyDefense):
    """Has an edge of its own, whose images are never black."""

    def wrap(self, split: Split) -> Split:
        blocks = OrderedDict(split.edge.named_children())
        blocks["normalize"] = BrightestFirst(blocks["normalize"])
        return Split(split.info, nn.Sequential(blocks), split.cloud)


@breaks("check_batch_equals_samples", "for the first image when the others change")
class AddsNoiseOfTheBatchsScale(RandomToy):
    """Draws noise as strong as the batch's features are."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + z.std() * torch.empty_like(z).normal_(generator=generator)


@breaks("check_global_generators_are_untouched", "the defense changed the global random state of torch", "never seeds")
class WastesADraw(ToyDefense):
    """Moves the global generator on and does nothing with what it drew."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        torch.rand(1)
        return z


@breaks("check_inference_leaves_state_alone", "inference changed defense.calls", "without asking self.training")
class CountsAtInference(ToyDefense):
    """Counts its calls in a buffer."""

    def prepare(self, split: Split) -> None:
        self.register_buffer("calls", torch.zeros(()))

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.calls += 1
        return z


@breaks("check_inference_leaves_state_alone", "inference changed the training mode of a module")
class WakesUp(ToyDefense):
    """Goes into training mode by itself."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.train()
        return z


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_defense_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_broken_defense_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()
