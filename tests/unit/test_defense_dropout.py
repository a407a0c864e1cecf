"""Random zeroing: how much is zeroed, what is kept, and when."""

from __future__ import annotations

import pytest
import torch

from splitaudit.defenses.dropout import Dropout, DropoutParams


def sent(
    z: torch.Tensor, *, train: bool = False, seed: int = 0, rate: float = 0.8, rescale: bool = False
) -> torch.Tensor:
    made = Dropout(DropoutParams(rate=rate, rescale=rescale))
    made.train(train)
    return made.protect(z, torch.Generator().manual_seed(seed))


FEATURES = torch.randn(32, 8, 10, 10, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_the_rate_is_the_share_that_is_zeroed_in_training_and_at_inference(train: bool, rate: float) -> None:
    """Inverted, a rate of 0.8 would let 80 % pass; the cloud is trained with the mask that it will see."""
    zeroed = (sent(FEATURES, train=train, rate=rate) == 0).float().mean()
    assert float(zeroed) == pytest.approx(rate, abs=0.01)


def test_what_is_kept_passes_unchanged_unless_it_is_rescaled() -> None:
    plain, rescaled = sent(FEATURES), sent(FEATURES, rescale=True)
    kept = plain != 0
    assert torch.equal(plain[kept], FEATURES[kept])
    assert torch.equal(rescaled != 0, kept)
    assert torch.allclose(rescaled[kept], FEATURES[kept] / 0.2)


def test_rescaling_keeps_the_mean_on_average() -> None:
    ones = torch.ones(100_000)
    assert float(sent(ones, rescale=True).mean()) == pytest.approx(1.0, abs=0.03)
    assert float(sent(ones).mean()) == pytest.approx(0.2, abs=0.01)


def test_every_element_has_its_own_draw_from_the_generator_that_is_given() -> None:
    masks = sent(FEATURES) != 0
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[:, 0], masks[:, 1])
    assert torch.equal(masks, sent(FEATURES) != 0)
    assert not torch.equal(masks, sent(FEATURES, seed=1) != 0)


def test_only_what_is_not_zero_is_evidence_for_an_attacker() -> None:
    received = sent(FEATURES)
    visible = Dropout(DropoutParams(rate=0.8, rescale=False)).visible(received)
    assert visible is not None
    assert torch.equal(visible, received != 0)
    assert Dropout(DropoutParams(rate=0.0, rescale=False)).visible(FEATURES) is None
