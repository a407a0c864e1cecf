"""The largest features alone: which are kept, how many, and what gradient they have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitaudit.defenses.topk import TopK, TopKParams

FEATURES = torch.randn(16, 4, 5, 6, generator=torch.Generator().manual_seed(9))


def sent(z: torch.Tensor, keep: float) -> torch.Tensor:
    return TopK(TopKParams(keep=keep)).protect(z, torch.Generator())


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 0.99])
def test_each_image_keeps_its_own_largest_elements_unchanged(keep: float) -> None:
    """Against a sort of each image in numpy; the batch has images of different size, so a ranking of all fails."""
    z = FEATURES * torch.logspace(-2, 2, 16)[:, None, None, None]
    for image, out in zip(z.flatten(1).numpy(), sent(z, keep).flatten(1).numpy(), strict=True):
        largest = np.argsort(-np.abs(image))[: round(keep * image.size)]
        expected = np.zeros_like(image)
        expected[largest] = image[largest]
        assert np.array_equal(out, expected)


def test_large_negative_elements_are_kept() -> None:
    z = torch.tensor([[1.0, -3.0, 2.0, -0.5]])
    assert sent(z, 0.5).tolist() == [[0.0, -3.0, 2.0, 0.0]]


def test_of_equal_elements_no_more_are_kept_than_asked_for() -> None:
    z = torch.tensor([[1.0, 2.0, -1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert sent(z, 0.6).tolist() == [[1.0, 2.0, -1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]]


def test_at_least_one_element_is_sent() -> None:
    assert int((sent(FEATURES, 1e-6) != 0).sum()) == len(FEATURES)


def test_keeping_everything_changes_nothing() -> None:
    assert torch.equal(sent(FEATURES, 1.0), FEATURES)
    assert TopK(TopKParams(keep=1.0)).visible(FEATURES) is None


@pytest.mark.parametrize("shape", [(24,), (6, 8), (4, 5, 5)])
@pytest.mark.parametrize("train", [True, False])
def test_any_shape_of_features_is_ranked_over_the_whole_image(shape: tuple[int, ...], train: bool) -> None:
    made = TopK(TopKParams(keep=0.25)).train(train)
    z = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    counts = (made.protect(z, torch.Generator()) != 0).flatten(1).sum(1)
    assert counts.tolist() == [round(0.25 * z[0].numel())] * 3


def test_the_memory_layout_of_the_features_changes_nothing() -> None:
    """Targets run channels last; ties are broken by the element's index, not by where it lies in memory."""
    z = FEATURES.round()
    assert torch.equal(sent(z.contiguous(memory_format=torch.channels_last), 0.3), sent(z, 0.3))


def test_what_is_kept_has_a_gradient_of_one_and_the_rest_none() -> None:
    z = FEATURES.clone().requires_grad_()
    out = sent(z, 0.2)
    out.sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, (out != 0).float())


def test_only_what_is_not_zero_is_evidence_for_an_attacker() -> None:
    received = sent(FEATURES, 0.2)
    visible = TopK(TopKParams(keep=0.2)).visible(received)
    assert visible is not None
    assert torch.equal(visible, received != 0)


@pytest.mark.parametrize("factor", [0.0, 1e30])
def test_features_of_zero_or_great_size_stay_finite(factor: float) -> None:
    assert bool(torch.isfinite(sent(factor * FEATURES[:1], 0.3)).all())
