"""Channels pruned for each image: how many, who picks them, and what is visible of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splitaudit.defenses.disco import WIDEST, Disco, DiscoParams
from splitaudit.errors import Unsupported
from splitaudit.pixels import to_float
from splitaudit.split import SplitModel
from splitaudit.testing import toy_part
from splitaudit.testing.targets import defended, home_of

DRAWS = torch.Generator()


def target(**params: object) -> tuple[Disco, SplitModel, torch.Tensor]:
    model = defended(Disco(DiscoParams(width=4, **params)), home_of(Disco))
    assert isinstance(model.defense, Disco)
    return model.defense, model, model.clean(to_float(toy_part(32).images)).detach()


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 8), (0.25, 6), (0.6, 4)])
def test_so_many_channels_are_left_of_each_image_and_they_are_as_they_were(ratio: float, kept: int) -> None:
    made, _, z = target(ratio=ratio)
    z = z + 1  # no zeros of the edge's own
    sent = made.protect(z, DRAWS)
    left = sent.flatten(2).abs().sum(2) > 0
    assert left.sum(1).tolist() == [kept] * len(z)
    assert torch.equal(sent[left], z[left])
    values = int((sent[0] != 0).sum())
    assert made.wire_bits(tuple(z.shape[1:])) == 32 * values + (8 if kept < 8 else 0), (
        "values, and which channels they are of"
    )


def test_which_channels_are_pruned_depends_on_the_image() -> None:
    made, _, z = target(ratio=0.5)
    patterns = {tuple(row.tolist()) for row in (made.protect(z + 1, DRAWS).flatten(2).abs().sum(2) > 0)}
    assert len(patterns) > 1


def test_the_pruner_learns_from_the_task_and_from_the_decoders_success() -> None:
    made, model, z = target(ratio=0.5)
    data = toy_part(32)
    x = to_float(data.images)
    for _ in range(60):
        made.train_helpers(x, z, data.labels)
    logits = model.answer(made.protect(z, DRAWS))
    for loss in (made.task_loss(logits, data.labels), made.extra_loss(x, z, data.labels, logits)):
        assert loss is not None
        found = torch.autograd.grad(loss, list(made.pruner.parameters()), retain_graph=True)
        assert all(bool(g.any()) for g in found[-2:])


def test_the_decoder_trains_on_what_is_sent_and_the_gradient_does_not_reach_it_otherwise() -> None:
    made, model, z = target(ratio=0.5)
    data = toy_part(32)
    x = to_float(data.images)
    before = [p.clone() for p in made.opponent.decoder.parameters()]
    loss = made.extra_loss(x, z, data.labels, model.answer(made.protect(z, DRAWS)))
    assert loss is not None
    loss.backward()
    assert all(p.grad is None for p in made.opponent.decoder.parameters())
    made.train_helpers(x, z, data.labels)
    assert any(not torch.equal(a, b) for a, b in zip(before, made.opponent.decoder.parameters(), strict=True))


def test_a_pruned_channel_shows_nothing_and_the_zeros_of_the_others_are_evidence() -> None:
    made, _, _ = target(ratio=0.5)
    received = torch.zeros(1, 8, 2, 2)
    received[0, 3, 0, 0] = 1.0
    shown = made.visible(received)
    assert shown is not None
    assert shown.flatten(2).all(2).tolist() == [[False] * 3 + [True] + [False] * 4]
    assert target(ratio=0.0)[0].visible(received) is None


def test_a_pruner_that_grows_with_the_square_has_a_bound() -> None:
    split = home_of(Disco).split(toy_part(8), seed=0)
    made = Disco(DiscoParams(width=4))
    with pytest.raises(Unsupported, match="at most 8,192 channels, got 8,193"):
        made.prepare(replace(split, received=(WIDEST + 1,)))
    made.prepare(replace(split, received=(2, 64, 128)))
    assert WIDEST**2 // 2 * 4 * 4 < 1e9, "two layers in single precision with gradients and Adam's moments"
