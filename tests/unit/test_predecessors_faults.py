"""A test for each fault of earlier suites' attacks, named after it: built-in attacks have none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from splitaudit.api import run
from splitaudit.attack import Attack
from splitaudit.attacks.decoder import Decoder
from splitaudit.data.base import Part
from splitaudit.options import Options
from splitaudit.plugins import ATTACKS
from splitaudit.testing import attacked, control_target
from splitaudit.testing.attacking import ScaledWire, Sizes
from splitaudit.testing.data import SHAPE, part, toy_part
from splitaudit.testing.hidden import peek

SIZES = Sizes(private=6, aux_train=64, aux_val=16)
STRONG = ("linear", "decoder", "rmle", "refine")
"""The attacks that decide most worst cases; the contract holds every attack to the same in the full suite."""

AT_LENGTH = {"refine": pytest.mark.slow}
"""Where the contract's own check is enough for the full suite."""


def cheap(name: str) -> Any:
    cls = ATTACKS.get(name)
    return cls, cls.cheap()


def guess_of(name: str, private: Part, target: Any = "orthogonal") -> torch.Tensor:
    cls, params = cheap(name)
    return attacked(cls, target, params=params, sizes=SIZES, private=private).guess


@pytest.fixture(scope="module")
def images() -> Part:
    return part("private", 6)


@pytest.mark.full
@pytest.mark.parametrize("name", STRONG)
def test_fault_oracle_selection(name: str, images: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIMBA keeps the iterate with the best SSIM to the private image; SiftFunnel, CEM and ResSFL the epoch.

    Whatever the truth is, the same features give the same guess: the truth is exchanged after the features were made.
    """
    received: list[torch.Tensor] = []
    from splitaudit.testing import attacking

    real = attacking.receive

    def once(*args: Any) -> torch.Tensor:
        if not received:
            received.append(real(*args))
        return received[0]

    monkeypatch.setattr(attacking, "receive", once)
    first = guess_of(name, images)
    assert torch.equal(guess_of(name, toy_part(6, seed=99)), first)


def test_fault_training_on_the_scored_features(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIMBA trains its decoder on the loader that it is scored on. In a run, what is fitted has no received features."""
    seen: dict[str, list[int]] = {"fit": [], "reconstruct": []}
    fit, reconstruct = Decoder.fit, Decoder.reconstruct

    def fitting(self: Decoder, view: Any) -> Any:
        seen["fit"].append(len(view))
        return fit(self, view)

    def reconstructing(self: Decoder, view: Any, fitted: Any) -> Any:
        seen["reconstruct"].append(len(view))
        return reconstruct(self, view, fitted)

    monkeypatch.setattr(Decoder, "fit", fitting)
    monkeypatch.setattr(Decoder, "reconstruct", reconstructing)
    suite = {**toy, "defenses": ["none"], "attacks": toy["attacks"][2:], "metrics": ["mse"]}
    run(suite, out=tmp_path, options=Options(executor="serial", device="cpu", offline=True))
    assert seen == {"fit": [0], "reconstruct": [toy["dataset"]["sizes"]["private"]]}


@pytest.mark.full
@pytest.mark.parametrize("name", STRONG)
def test_fault_an_attack_that_does_not_look_at_the_features(name: str, images: Part) -> None:
    """SIMBA's discriminator attack replaces the received features by random numbers."""
    other = Part(images.images.flip(0), images.labels.flip(0))
    guess, turned = guess_of(name, images), guess_of(name, other)
    # Who reads the features finds the images in their new order (random draws of the start apart).
    assert float((turned.flip(0) - guess).square().mean()) < 0.2 * float((turned - guess).square().mean())


@pytest.mark.full
@pytest.mark.parametrize("name", STRONG)
def test_fault_the_truth_returned_as_the_guess(name: str, images: Part) -> None:
    """SIMBA's input optimisation returns the private image. Behind constant features no attack here has anything."""
    truth = images.images.float() / 255
    constant = (truth.mean(0) - truth).square().mean()
    guess = guess_of(name, images, "constant")
    assert float((guess - truth).square().mean()) > 0.95 * float(constant)


class ReturnsTheTruth(Attack):
    """The fault itself, by a way around the view."""

    source = "toy"

    def reconstruct(self, view: Any, fitted: Any) -> torch.Tensor:
        return peek()


def test_fault_the_truth_returned_as_the_guess_is_found_by_the_same_figure(images: Part) -> None:
    truth = images.images.float() / 255
    run = attacked(ReturnsTheTruth, "constant", params={}, private=images)
    assert float((run.guess - truth).square().mean()) == 0.0


@pytest.mark.full
@pytest.mark.parametrize("name", STRONG)
def test_fault_losses_pooled_over_a_batch(name: str, images: Part) -> None:
    """SiftFunnel's white-box attack stops and chooses by the mean over its batch, so easy images end the hard ones.

    In other company an image's guess stays the same to the last bit. Alone it is not: a batch of another size is rounded
    otherwise, which a descent grows until it has converged (0.005 in a pixel was seen), as much as pooling would change it.
    """
    others = Part(torch.cat([images.images[:2], toy_part(6, seed=99).images[2:]]), images.labels)
    guess = guess_of(name, images)[:2]
    torch.testing.assert_close(guess_of(name, others)[:2], guess, atol=0, rtol=0)
    assert float((guess_of(name, images.first(2)) - guess).square().mean()) < 1e-4


@pytest.mark.parametrize("name", [pytest.param(n, marks=AT_LENGTH.get(n, pytest.mark.full)) for n in STRONG])
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_fault_features_that_are_not_normalised(name: str, factor: float, images: Part) -> None:
    """SiftFunnel's funnel makes features tiny, which passes for privacy under an unnormalised loss."""
    truth = images.images.float() / 255
    plain, scaled = (
        float((guess_of(name, images, target) - truth).square().mean() / truth.var())
        for target in ("orthogonal", control_target("orthogonal", ScaledWire(factor), SHAPE))
    )
    assert scaled == pytest.approx(plain, abs=0.01)
