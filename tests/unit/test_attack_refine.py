"""Refined decoding: never worse than its decoder, strong on invertible edges, honest where nothing is to be seen."""

from __future__ import annotations

import pytest
import torch
from gaussian_case import Case, orthogonal, within

from splitaudit.attacks._bands import BANDS, bands, shrinkage, spread
from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.attacks.refine import Refine, RefineParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.split import SplitModel
from splitaudit.stats import paired_difference
from splitaudit.testing.attacking import Attacked, Sizes, attacked
from splitaudit.testing.targets import control_target, toy_target

SMALL = {"width": 32, "depth": 1, "epochs": 15, "batch": 16}


@pytest.mark.parametrize(
    "kind", [pytest.param("identity", marks=pytest.mark.slow), pytest.param("orthogonal", marks=pytest.mark.full)]
)
def test_it_sharpens_the_guess_of_a_weak_decoder_where_everything_is_to_be_seen(kind: str) -> None:
    sizes = Sizes(private=16, aux_train=128, aux_val=48)
    decoder = attacked(Decoder, kind, params=SMALL, sizes=sizes)
    refined = attacked(Refine, kind, params={"decoder": SMALL, "steps": 100}, sizes=sizes)
    assert float(refined.errors().mean()) < 0.1 * float(decoder.errors().mean())
    assert float(refined.errors().mean()) <= 1e-3


@pytest.mark.full
def test_on_constant_features_it_stays_at_its_decoder() -> None:
    sizes = Sizes(private=16, aux_train=128, aux_val=48)
    decoder = attacked(Decoder, "constant", params=SMALL, sizes=sizes)
    refined = attacked(Refine, "constant", params={"decoder": SMALL, "steps": 20}, sizes=sizes)
    torch.testing.assert_close(refined.guess, decoder.guess, atol=1e-3, rtol=0)


def noisy(target: str, sigma: float) -> SplitModel:
    noise = Noise(NoiseParams(sigma=sigma))
    return toy_target(noise) if target == "trained" else control_target(target, noise)


PAIRED = Sizes(private=48, aux_train=128, aux_val=48)


def decoded(target: str, sigma: float) -> Attacked:
    return attacked(Decoder, noisy(target, sigma), params=SMALL, sizes=PAIRED)


def refined(target: str, sigma: float, **params: object) -> Attacked:
    return attacked(Refine, noisy(target, sigma), params={"decoder": SMALL, "steps": 30, **params}, sizes=PAIRED)


@pytest.mark.parametrize(
    ("target", "sigma"),
    [
        pytest.param("orthogonal", 2.0, marks=pytest.mark.full),
        pytest.param("trained", 0.5, marks=pytest.mark.full),
        pytest.param("orthogonal", 0.5, marks=pytest.mark.slow),
        pytest.param("trained", 2.0, marks=pytest.mark.slow),
    ],
)
def test_behind_noise_it_is_never_worse_than_its_decoder(target: str, sigma: float) -> None:
    decoder, found = decoded(target, sigma), refined(target, sigma)
    gain = paired_difference(found.errors().numpy(), decoder.errors().numpy())
    assert gain.value <= 1e-5
    assert found.leakage() >= decoder.leakage() - 0.001


@pytest.mark.full
def test_where_noise_is_taken_for_features_the_shrinkage_keeps_it_near_its_decoder() -> None:
    """A weight of the proximity term that is far too small lets it go too far in every band."""
    decoder, shrunk = decoded("orthogonal", 2.0), refined("orthogonal", 2.0, variance=0.03)
    whole = refined("orthogonal", 2.0, variance=0.03, shrink=False)
    assert whole.leakage() < decoder.leakage() - 0.1
    assert shrunk.leakage() > decoder.leakage() - 0.005
    assert max(shrunk.views[1].notes["shrinkage"]) < 0.5


@pytest.mark.full
def test_the_decoders_measured_error_is_a_prior_that_holds_it_back() -> None:
    bound, free = (refined("orthogonal", 2.0, variance=v, shrink=False).leakage() for v in (0.3, 0.0))
    assert bound > free + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_it_comes_near_the_wiener_filter_and_never_below_it(sigma: float) -> None:
    case = Case(orthogonal(), sigma, private=200)
    attack = Refine(RefineParams(decoder=DecoderParams(epochs=10, width=32, depth=1)))
    assert within(case.attacked(attack), case.least(), 0.15) == ""


def test_each_coefficient_has_one_band_and_a_factor_between_nothing_and_the_whole_step() -> None:
    shape = (3, 8, 10)
    where = bands(shape)
    assert int(where.min()) == 0
    assert int(where.max()) == BANDS - 1
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(50, *shape, generator=g)
    low = where == 0
    step = torch.where(low, truth, torch.randn(50, *shape, generator=g))  # right in the lowest band, noise elsewhere
    factor = shrinkage(step, truth)
    assert float(factor[0][low].min()) == pytest.approx(1.0)
    assert float(factor[0][~low].max()) < 0.2
    assert float((truth - factor * step).square().mean()) <= float(truth.square().mean())
    assert len(spread(factor)) == BANDS
    assert float(shrinkage(torch.zeros_like(step), truth).abs().max()) == 0
