"""Refined decoding: never worse than its decoder, strong on invertible edges, honest where nothing is to be seen."""

from __future__ import annotations

import pytest
import torch
from gaussian_case import Case, orthogonal, within

from splitaudit.attacks._bands import BANDS, bands, shrinkage, spread
from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.attacks.refine import Refine, RefineParams
from splitaudit.testing.attacking import Sizes, attacked

SMALL = {"width": 32, "depth": 1, "epochs": 15, "batch": 16}


@pytest.mark.full
@pytest.mark.parametrize("kind", ["identity", "orthogonal"])
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


@pytest.mark.full
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
