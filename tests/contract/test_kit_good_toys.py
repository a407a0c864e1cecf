"""A toy of each kind that keeps its contract passes every check, also where it does much."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kit_toys import ToyAttack, ToyDefense, ToyDescent, ToyMeasure, ToyMetric, ToyQueries
from pydantic import Field
from torch import nn

from splitaudit import Params
from splitaudit.attack import INVERTIBLE, Attack, Expected
from splitaudit.defense import Defense
from splitaudit.metric import Measure, Metric
from splitaudit.split import Split
from splitaudit.testing import Blind, Oracle, Outcome, check_attack, check_defense, check_metric, check_plugin


class ShrinkParams(Params):
    """Parameters of Shrink."""

    share: float = Field(0.5, ge=0, le=1, description="share of each channel's mean that is taken off")


class Shrink(ToyDefense):
    """Uses every hook of a defense that draws nothing: a calibrated statistic, a penalty and a helper network."""

    Params = ShrinkParams
    acts_on_wire = True
    helpers = ("spy",)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"share": 0.0}

    def prepare(self, split: Split) -> None:
        shape = split.feature_shape()
        self.register_buffer("mean", torch.zeros(shape[0], *[1] * (len(shape) - 1)))
        self.spy = nn.Linear(shape[0], 1)
        self._optimizer: torch.optim.Optimizer | None = None

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        every = torch.cat(list(features()))
        self.mean.copy_(every.transpose(0, 1).flatten(1).mean(1).reshape(self.mean.shape))

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        self._optimizer = self._optimizer or torch.optim.SGD(self.spy.parameters(), lr=0.1)
        self._optimizer.zero_grad()
        F.mse_loss(self.spy(pooled(z))[:, 0], x.flatten(1).mean(1)).backward()
        self._optimizer.step()

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        return self.params.share * self.spy(pooled(z)).square().mean() if self.params.share else None

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z - self.params.share * self.mean


def pooled(z: torch.Tensor) -> torch.Tensor:
    return z.flatten(2).mean(2)


class HoleParams(Params):
    """Parameters of Holes."""

    rate: float = Field(0.3, ge=0, lt=1, description="probability of a hole")


class Holes(ToyDefense):
    """Pools the features and makes random holes in them, which everyone can see."""

    Params = HoleParams
    acts_on_wire = True

    @property
    def stochastic(self) -> bool:
        return self.params.rate > 0

    def wrap(self, split: Split) -> Split:
        return Split(split.info, split.edge, nn.Sequential(nn.Upsample(scale_factor=2), *split.cloud))

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = feature_shape
        return channels, height // 2, width // 2

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        small = F.avg_pool2d(z, 2)
        keep = torch.empty_like(small).uniform_(generator=generator) >= self.params.rate
        return torch.where(keep, small, -1.0)

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received != -1

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return F.avg_pool2d(z, 2)


class HissParams(Params):
    """Parameters of Hiss."""

    sigma: float = Field(1.0, ge=0, description="standard deviation of the noise")


class Hiss(ToyDefense):
    """Adds noise and does nothing else, and nothing at all without noise."""

    Params = HissParams
    acts_on_wire = True
    additive = True

    @property
    def stochastic(self) -> bool:
        return self.params.sigma > 0

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"sigma": 0.0}

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + self.params.sigma * torch.empty_like(z).normal_(generator=generator) if self.params.sigma else z

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z


class Signal(ToyMetric):
    """Computes −10 log₁₀ of the mean squared error; infinity for a perfect copy."""

    unit = "dB"
    label = "peak signal-to-noise ratio"
    bounds = (0.0, float("inf"))
    best = float("inf")
    higher_means = "more leakage"
    reference = "skimage.metrics.peak_signal_noise_ratio(data_range=1)"

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        return -10 * super().per_sample(truth, guess).log10()


class Quick(ToyAttack):
    """Keeps its claims with the parameters for tests too."""

    expected = Expected(dict.fromkeys(INVERTIBLE, 1e-6), cheap_suffices=True)


GOOD = [ToyDefense, Shrink, Holes, Hiss, ToyAttack, Quick, ToyDescent, ToyQueries, Blind, ToyMetric, Signal, ToyMeasure]


@lru_cache
def outcomes(cls: Any, size: Any) -> list[Outcome]:
    return check_plugin(cls, size=size)


@pytest.mark.parametrize("cls", GOOD)
def test_a_good_toy_passes_every_check(cls: Any) -> None:
    assert [o for o in outcomes(cls, "fast") if not o.passed] == []


@pytest.mark.full
@pytest.mark.parametrize("cls", GOOD)
def test_a_good_toy_passes_the_longer_checks(cls: Any) -> None:
    assert [o for o in outcomes(cls, "full") if not o.passed] == []


@pytest.mark.parametrize("kind", [Defense, Attack, Metric, Measure])
def test_every_check_has_something_to_say_about_some_good_toy(kind: type) -> None:
    found = [o for cls in GOOD if issubclass(cls, kind) for o in outcomes(cls, "fast")]
    assert {o.check for o in found if o.applies} == {o.check for o in found}


def test_the_oracle_breaks_only_the_rules_that_every_cheat_breaks() -> None:
    failed = {o.check for o in outcomes(Oracle, "fast") if not o.passed}
    assert failed == {"check_honesty", "check_cannot_peek"}


@pytest.mark.parametrize(
    ("entrance", "wrong"), [(check_defense, ToyMetric), (check_attack, ToyDefense), (check_metric, Blind)]
)
def test_an_entrance_of_one_kind_refuses_the_others(entrance: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"got .*{wrong.__name__}.*expected a subclass of"):
        entrance(wrong)


@pytest.mark.parametrize("cls", [ToyMetric, ToyMeasure])
def test_metrics_and_measures_have_one_entrance(cls: Any) -> None:
    assert [o.check for o in check_metric(cls, size="fast")] == [o.check for o in outcomes(cls, "fast")]
