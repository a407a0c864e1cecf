"""Defenses one after the other: what can still be read off the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from splitaudit.composed import Composed
from splitaudit.defense import Defense, Network
from splitaudit.defenses.downsample import Downsample
from splitaudit.defenses.dropout import Dropout, DropoutParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.defenses.nopeek import NoPeek
from splitaudit.defenses.quantize import Quantize
from splitaudit.defenses.topk import TopK
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.plugins import DEFENSES
from splitaudit.split import Split
from splitaudit.stages import trained_before
from splitaudit.targets import make_defense
from splitaudit.testing import toy_part, toy_target


class Quantised(Defense):
    """Changes what is sent, but does not declare it."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (8 * z).round() / 8 + 1


def visible(*parts: Defense) -> torch.Tensor | None:
    received = torch.tensor([[[[0.0, 2.0], [3.0, 0.0]]]])
    return Composed(list(parts)).visible(received)


def dropout() -> Defense:
    return Dropout(DropoutParams(rate=0.5, rescale=False))


def noise() -> Defense:
    return Noise(NoiseParams(sigma=1.0, distribution="gaussian", relative=True))


@pytest.mark.parametrize("trained_only", [lambda: NoPeek(NoPeek.Params()), lambda: Defense(Params())])
def test_a_mask_stays_visible_behind_parts_that_only_act_in_training(trained_only: Callable[[], Defense]) -> None:
    """Asked of the last part alone, `dropout+nopeek` hid a mask that `nopeek+dropout` shows on the same wire."""
    expected = [[[[False, True], [True, False]]]]
    for parts in ((dropout(), trained_only()), (trained_only(), dropout())):
        mask = visible(*parts)
        assert mask is not None
        assert mask.tolist() == expected


@pytest.mark.parametrize(
    "wire", [lambda: Noise(NoiseParams(sigma=1.0, distribution="gaussian", relative=True)), lambda: Quantised(Params())]
)
def test_a_mask_is_not_visible_once_a_later_part_has_changed_the_wire(wire: Callable[[], Defense]) -> None:
    assert visible(dropout(), wire()) is None
    assert visible(dropout(), wire(), NoPeek(NoPeek.Params())) is None


def test_parts_that_never_touch_the_wire_have_no_mask() -> None:
    assert visible(NoPeek(NoPeek.Params()), Defense(Params())) is None


class Watches(Defense):
    """Keeps what a defense behind others is fitted to."""

    acts_on_wire = True

    def prepare(self, split: Split) -> None:
        self.seen: list[torch.Tensor] = []

    def fit(self, network: Network) -> None:
        self.seen = [network.edge(x).detach() for x in network.images()]


def test_a_later_part_is_fitted_to_what_calibrated_parts_send_with_fresh_draws_in_each_batch() -> None:
    """Uncalibrated, noise would have the scale 1; drawn anew for each batch, all batches would share one noise."""
    model, watches = toy_target(), Watches(Params())
    first = Noise(NoiseParams(sigma=2.0))
    both = Composed([first, watches])
    x = to_float(toy_part(64).images)
    both.prepare(Split(model.info, model.edge, model.cloud))
    both.eval().fit(Network(model.edge, model.cloud, lambda: x.split(32)))
    with torch.no_grad():
        clean = model.edge(x)
    noise = torch.cat(watches.seen) - clean
    expected = 2 * clean.std((0, 2, 3), unbiased=False)
    torch.testing.assert_close(noise.std((0, 2, 3)), expected, rtol=0.1, atol=1e-4)
    assert not torch.allclose(noise[:32], noise[32:])
    again = Composed([first, watches])
    again.eval().fit(Network(model.edge, model.cloud, lambda: x.split(32)))
    assert torch.equal(torch.cat(watches.seen) - clean, noise), "and the same in each run"


@pytest.mark.parametrize(
    ("parts", "bits"),
    [
        ([Quantize(Quantize.Params(bits=2))], 2 * 512),
        ([Quantize(Quantize.Params(bits=2)), NoPeek(NoPeek.Params())], 2 * 512),
        ([Quantize(Quantize.Params(bits=2)), Noise(NoiseParams(sigma=1.0))], 32 * 512),
        ([Quantize(Quantize.Params(bits=2)), Quantised(Params())], 32 * 512),
        ([TopK(TopK.Params(keep=0.25))], 128 * (32 + 9)),
        ([TopK(TopK.Params(keep=0.9))], 32 * 512),
        ([Downsample(Downsample.Params(factor=2)), Quantize(Quantize.Params(bits=4))], 4 * 128),
    ],
    ids=lambda value: "+".join(type(p).__name__ for p in value) if isinstance(value, list) else str(value),
)
def test_what_saves_bits_saves_them_until_a_later_part_changes_the_wire(parts: list[Defense], bits: int) -> None:
    made = Composed(parts) if len(parts) > 1 else parts[0]
    assert made.wire_bits((8, 8, 8)) == bits


@pytest.mark.parametrize("when", ["infer", "infer+cloud"])
def test_noise_that_is_learned_behind_a_trained_part_has_the_loss_of_its_own_source(when: str) -> None:
    """The part's task loss is for the cloud that is trained with it; the noise was trained against 4.5 times as much."""
    siftfunnel, shredder = ({"name": n, "params": DEFENSES.get(n).Params().dump()} for n in ("siftfunnel", "shredder"))
    parts = [siftfunnel, shredder]
    before = trained_before({"parts": parts, "when": when})
    assert before == [siftfunnel]
    made = make_defense(parts, before, adapting=when == "infer+cloud")
    logits, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4
    own = make_defense([siftfunnel]).task_loss(logits, y)
    entropy = torch.nn.functional.cross_entropy(logits, y)
    assert float(own) != pytest.approx(float(entropy), rel=0.01)
    torch.testing.assert_close(made.task_loss(logits, y), entropy if when == "infer" else own)
