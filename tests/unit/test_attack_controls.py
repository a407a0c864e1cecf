"""The control attacks ``linear`` and ``nearest``: what they reach where that is known."""

from __future__ import annotations

import pytest
import torch
from gaussian_case import Case, orthogonal, within

from splitaudit.attacks.linear import PENALTIES, Linear, LinearParams
from splitaudit.attacks.nearest import Nearest, NearestParams
from splitaudit.data.base import Part
from splitaudit.defenses.topk import TopK, TopKParams
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.ridge import Ridge, StreamedRidge
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.testing import toy_part
from splitaudit.testing.attacking import HalfTheChannels, NoisyMask, attacked
from splitaudit.testing.targets import control_target
from splitaudit.view import View


@pytest.mark.parametrize("sigma", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("draws", [1, 16])
def test_linear_inversion_comes_near_the_wiener_filter_and_never_below_it(sigma: float, draws: int) -> None:
    """With 16 draws the noise that counts is a quarter: the attack gains what averaging predicts."""
    case = Case(orthogonal(), sigma, draws)
    assert within(case.attacked(Linear(LinearParams())), case.least()) == ""


def test_the_bound_of_the_gaussian_case_tells_a_weak_attack_and_one_that_sees_the_truth() -> None:
    case = Case(orthogonal(), 0.1)
    errors = torch.full((400,), case.least()) + 1e-6 * torch.randn(400, generator=torch.Generator().manual_seed(0))
    assert within(errors, case.least()) == ""
    assert "more than" in within(1.1 * errors, case.least())
    assert "seen the truth" in within(0.9 * errors, case.least())


def test_moments_summed_over_batches_give_the_same_map_as_all_pairs_at_once() -> None:
    g = torch.Generator().manual_seed(0)
    z = 100 + torch.randn(300, 20, generator=g) @ torch.randn(20, 20, generator=g)
    x = (0.01 * z @ torch.randn(20, 12, generator=g) + torch.randn(300, 12, generator=g)).reshape(300, 3, 2, 2)
    parts = [(z[a:b], x[a:b]) for a, b in ((0, 7), (7, 200), (200, 300))]
    for penalty in (1e-4, 1.0):
        streamed = StreamedRidge(parts, z[:50], x[:50], (penalty,))
        torch.testing.assert_close(streamed(z[:9]), Ridge(z, x, penalties=(penalty,))(z[:9]), atol=1e-3, rtol=1e-3)
    assert streamed.pairs == 300


@pytest.mark.parametrize("kind", ["identity", "linear", "orthogonal"])
def test_linear_inversion_is_exact_on_invertible_linear_edges(kind: str) -> None:
    from splitaudit.testing.attacking import Sizes

    run = attacked(Linear, kind, params={}, image_shape=(3, 8, 8), sizes=Sizes(16, 512, 64))
    assert float(run.errors().mean()) <= 1e-3


def view_of(model: object, aux: Part, private: torch.Tensor, draws: int = 1) -> View:
    knowledge = AdversaryKnowledge(edge="query", aux="same", draws=draws)
    return View(
        knowledge=knowledge,
        received=private,
        image_shape=(3, 16, 16),
        model=model,
        aux=(aux, aux),
        seed=0,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "defense", [None, HalfTheChannels(Params()), NoisyMask(Params())], ids=["none", "half", "mask"]
)
def test_an_image_that_the_attacker_owns_is_its_own_nearest_neighbour(defense: object) -> None:
    model = control_target("orthogonal", defense, (3, 16, 16))  # type: ignore[arg-type]
    aux = toy_part(40, (3, 16, 16), seed=5)
    own = to_float(aux.images[7:9])
    sent = torch.stack([model.wire(own, torch.Generator().manual_seed(s)) for s in range(4)], 1)
    guess = Nearest(NearestParams(flips=False)).reconstruct(view_of(model, aux, sent, 4), {})
    assert torch.equal(guess, own)


def test_several_neighbours_are_averaged_and_never_more_than_there_are() -> None:
    model = control_target("orthogonal", None, (3, 16, 16))
    aux = toy_part(3, (3, 16, 16), seed=5)
    sent = model.wire(to_float(aux.images[:1]), torch.Generator())[:, None]
    guess = Nearest(NearestParams(neighbours=9, flips=False)).reconstruct(view_of(model, aux, sent), {})
    torch.testing.assert_close(guess[0], to_float(aux.images).mean(0))


def test_dead_channels_and_constant_features_give_no_neighbour_that_is_no_number() -> None:
    guess = attacked(Nearest, "constant").guess
    assert bool(torch.isfinite(guess).all())


def test_the_candidates_reach_from_exact_inversion_to_drowned_features() -> None:
    assert tuple(sorted(PENALTIES)) == PENALTIES
    assert PENALTIES[0] <= 1e-6
    assert PENALTIES[-1] >= 10


def test_what_the_largest_elements_leave_out_is_small_and_counts() -> None:
    """Over common elements alone an image that shares a single one by chance would be the nearest."""
    model = control_target("identity", TopK(TopKParams(keep=0.1)), (3, 16, 16))
    kept = round(0.1 * 3 * 16 * 16)
    bright = torch.full((3, 3 * 16 * 16), 40, dtype=torch.uint8)
    bright[0, :kept] = 200  # the private image
    bright[1, :kept] = 230  # the same but for its brightness
    bright[2, kept - 1 : 2 * kept - 1] = 200  # another one, which shares an element
    images = bright.reshape(3, 3, 16, 16)
    aux = Part(images[1:], torch.zeros(2, dtype=torch.int64))
    sent = model.wire(to_float(images[:1]), torch.Generator())[:, None]
    guess = Nearest(NearestParams(flips=False)).reconstruct(view_of(model, aux, sent), {})
    assert torch.equal(guess, to_float(images[1:2]))
