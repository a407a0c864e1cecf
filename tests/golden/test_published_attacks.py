"""The published attacks against parameter counts of the official code (arXiv 2501.00824) and its total variation."""

from __future__ import annotations

import pytest
import torch

from splitaudit.attacks._published_decoders import PublishedDecoder, Structure
from splitaudit.attacks.mle_published import MlePublished, MlePublishedParams, batch_variation
from splitaudit.testing import attacked


@pytest.mark.parametrize(
    ("shape", "structure", "count"),
    [
        ((64, 32, 32), "chain", 3_075),
        ((128, 16, 16), "chain", 134_339),
        ((256, 8, 8), "chain", 659_011),
        ((512, 4, 4), "chain", 2_756_931),
        ((64, 16, 16), "autoencoder", 503_619),
        ((12, 16, 16), "funnel", 26_523),
        ((10,), "auto", 2_840_387),
    ],
)
def test_decoders_have_the_published_parameter_counts(shape: tuple[int, ...], structure: Structure, count: int) -> None:
    network = PublishedDecoder(shape, (3, 64, 64), structure)
    assert sum(p.numel() for p in network.parameters()) == count
    assert network(torch.zeros(2, *shape)).shape == (2, 3, 64, 64)


def test_the_structure_follows_the_wire() -> None:
    for shape, structure in (((12, 16, 16), "funnel"), ((128, 16, 16), "chain")):
        auto, named = (PublishedDecoder(shape, (3, 64, 64), s) for s in ("auto", structure))  # type: ignore[arg-type]
        assert [tuple(p.shape) for p in auto.parameters()] == [tuple(p.shape) for p in named.parameters()]


def test_the_total_variation_is_that_of_the_published_fixture() -> None:
    axes = [torch.arange(n, dtype=torch.float64) for n in (8, 3, 16, 16)]
    b, c, h, w = torch.meshgrid(*axes, indexing="ij")
    y = (torch.sin(0.37 * b + 1.3 * c + 0.21 * h + 0.11 * w + 0.05 * b * h) + 1) / 2
    assert float(batch_variation(y)) == pytest.approx(0.0213618806, abs=1e-9)


def test_the_published_white_box_attack_is_worse_than_a_constant_guess_where_everything_is_to_be_seen() -> None:
    """Means over the batch and plain descent: the fault that makes every defense look strong."""
    run = attacked(MlePublished, "identity", params=MlePublishedParams(steps=100).dump())
    assert float(run.errors().mean()) > float(run.prior_errors().mean())
