"""The query-free attack: what it learns, it learns from the cloud that it knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from splitaudit.attacks._explained import unexplained
from splitaudit.attacks.shadow import SEEN, Shadow, ShadowParams, StandIn, _alive
from splitaudit.data.base import Part
from splitaudit.data.photos import Photos, PhotosParams
from splitaudit.defense import Defense
from splitaudit.defenses.dropout import Dropout, DropoutParams
from splitaudit.defenses.topk import TopK, TopKParams
from splitaudit.knowledge import level
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.seeds import seeded_globally
from splitaudit.split import SplitInfo, SplitModel, cut_blocks
from splitaudit.targets import channel_statistics
from splitaudit.testing import control_target, toy_part, toy_target
from splitaudit.testing.attacking import TINY, attacked, untrained
from splitaudit.testing.targets import CPU, ToyNet
from splitaudit.training import TrainingParams, train
from splitaudit.view import View
from splitaudit.work import receive

SIZES: Any = {"client_train": 640, "client_val": 64, "private": 32, "measure": 16, "aux_train": 640, "aux_val": 64}
SHAPE = (3, 16, 16)
ALIVE = torch.ones(1, 3, 1, 1)
Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def photos() -> dict[str, Part]:
    data = Photos(PhotosParams(image_size=SHAPE[1]), SIZES)
    return {part: data.load(part) for part in ("client_train", "client_val", "private", "aux_train", "aux_val")}


@pytest.fixture(scope="module")
def target(photos: dict[str, Part]) -> SplitModel:
    """Pieces of eight photographs, told apart by a convolution and a linear cloud."""
    info = SplitInfo("toy", "block1", SHAPE, 8)
    with seeded_globally(0):
        split = cut_blocks(ToyNet().blocks(SHAPE, 8), info, *channel_statistics(photos["client_train"]))
        model = SplitModel(split, Defense(Params()))
    names = {"dataset": "photos", "backbone": "toy", "cut": "block1"}
    train(model, photos["client_train"], photos["client_val"], TrainingParams(epochs=10, batch=32), 0, names, CPU)
    return model.eval()


def leakage(photos: dict[str, Part], target: SplitModel, known: SplitModel, seed: int) -> float:
    """Returns the leakage score of what a target sends, for an attacker who takes another's cloud for the target's."""
    decoder = {"width": 32, "depth": 0, "epochs": 4, "flips": False}
    attack = Shadow(ShadowParams.model_validate({"epochs": 10, "batch": 32, "decoder": decoder}))
    view = View(
        knowledge=level("query-free"),
        received=receive(target, photos["private"], 1, 0, CPU),
        image_shape=SHAPE,
        model=known,
        aux=(photos["aux_train"], photos["aux_val"]),
        seed=seed,
        blank=lambda seed: untrained(target, seed),
    )
    guess, truth = attack.reconstruct(view, {}), to_float(photos["private"].images)
    return 1 - float((guess - truth).square().mean() / (view.prior - truth).square().mean())


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.full), pytest.param(1, marks=pytest.mark.slow)])
def test_the_trained_cloud_gives_away_what_an_untrained_one_does_not(
    photos: dict[str, Part], target: SplitModel, seed: int
) -> None:
    """The statistics of the received features are the same for both: it is the cloud that pins the features down."""
    blank = copy.deepcopy(target)
    blank.cloud = untrained(target, 5).cloud
    true, other = leakage(photos, target, target, seed), leakage(photos, target, blank, seed)
    assert true > 0.4
    assert true > other + 0.2


class Around(nn.Module):
    """An edge behind something that is done to its images and before something that is done to its features."""

    def __init__(self, edge: nn.Module, image: Change = lambda x: x, features: Change = lambda z: z) -> None:
        super().__init__()
        self.edge, self.image, self.features = edge, image, features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(self.edge(self.image(x)))


def kept_of(monkeypatch: pytest.MonkeyPatch, target: SplitModel, *changes: dict[str, Change] | None) -> dict[str, Any]:
    """Returns the notes of an attack with given stand-ins: the true edge (None), or the true one with something done to it."""

    def stand_in(self: Shadow, view: View, number: str) -> StandIn:
        model, change = copy.deepcopy(target), changes[int(number or 0)]
        model.edge = model.edge if change is None else Around(model.edge, **change)
        return StandIn(model.eval().requires_grad_(False))

    monkeypatch.setattr(Shadow, "_stand_in", stand_in)
    params = {**Shadow.cheap(), "restarts": len(changes)}
    return attacked(Shadow, target, params=params).views[-1].notes


@pytest.mark.parametrize(
    "target",
    [control_target("orthogonal", Defense(Params())), toy_target(Defense(Params()))],
    ids=["orthogonal", "toy"],
)
def test_a_stand_in_that_sees_everything_turned_over_is_sorted_out(
    target: SplitModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decoder turns things back, so that nothing but the features of its own guesses says that it is wrong."""
    turned: dict[str, Change] = {"image": lambda x: 1 - x}
    notes = kept_of(monkeypatch, target, turned, None, turned)
    assert notes["restart"] == 1
    assert notes["unexplained"] < 0.7 * min(notes["unexplained_by"][0], notes["unexplained_by"][2])
    assert notes["apart_by"][1] == 0 < notes["apart_by"][0]


@pytest.mark.parametrize(("rate", "factor"), [(0.5, 0.5), (0.8, 0.0)])
@pytest.mark.parametrize("rescale", [False, True])
def test_a_stand_in_that_sends_less_is_no_better_behind_a_random_mask(
    rate: float, factor: float, rescale: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a single draw it would be: where the received mask shows and its own does not, it misses the less."""
    target = toy_target(Dropout(DropoutParams(rate=rate, rescale=rescale)))
    notes = kept_of(monkeypatch, target, {"features": lambda z: factor * z}, None)
    assert notes["restart"] == 1
    assert notes["unexplained"] < 0.7 * notes["unexplained_by"][0]


@pytest.mark.full
@pytest.mark.parametrize("make", [toy_target, partial(control_target, "orthogonal")], ids=["toy", "orthogonal"])
def test_what_a_mask_without_chance_hides_counts_too(
    make: Callable[[Defense], SplitModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in keeps other elements than the edge: at those received alone the right one would be wrong by many variances."""
    turned: dict[str, Change] = {"image": lambda x: 1 - x}
    mirrored: dict[str, Change] = {"features": lambda z: z.flip(-1)}
    nothing: dict[str, Change] = {"features": lambda z: 0 * z}
    notes = kept_of(monkeypatch, make(TopK(TopKParams(keep=0.1))), turned, mirrored, nothing, None)
    assert notes["restart"] == 3
    assert notes["unexplained"] < 0.6 * min(notes["unexplained_by"][:3])
    assert notes["unexplained"] < 1


def test_a_restart_that_came_to_nothing_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: dict[str, Change] = {"features": lambda z: z * float("nan")}
    target = toy_target(Defense(Params()))
    notes = kept_of(monkeypatch, target, broken, None)
    assert (notes["restart"], notes["unexplained_by"][0]) == (1, None)
    with pytest.raises(ValueError, match="no stand-in came out whose guess is finite"):
        kept_of(monkeypatch, target, broken)


def test_what_is_unexplained_is_a_share_of_each_channels_variance() -> None:
    """0 for the truth, 1 for the mean of each channel; a loud channel has no more say than another."""
    target = control_target("identity", Defense(Params()))
    x = torch.rand(8, *target.info.image_shape, generator=torch.Generator().manual_seed(0)) * 0.1
    x[:, 0] *= 10
    view = view_of(target, x)
    draws = torch.Generator().manual_seed(0)
    mean = x.mean((0, 2, 3), keepdim=True).expand_as(x)
    assert unexplained(view, target, x, draws, ALIVE) == pytest.approx(0, abs=1e-6)
    assert unexplained(view, target, mean, draws, ALIVE) == pytest.approx(1, abs=1e-4)
    one = torch.cat([mean[:, :1], x[:, 1:]], 1)
    assert unexplained(view, target, one, draws, ALIVE) == pytest.approx(1 / 3, abs=1e-4)


def test_received_features_that_are_all_the_same_have_their_size_as_the_unit() -> None:
    target = control_target("identity", Defense(Params()))
    x = torch.full((2, *target.info.image_shape), 0.5)
    assert unexplained(view_of(target, x), target, x * 0, torch.Generator(), ALIVE) == pytest.approx(1)


def view_of(target: SplitModel, x: torch.Tensor) -> View:
    return View(
        knowledge=level("query-free"),
        received=target.clean(x).detach()[:, None],
        image_shape=target.info.image_shape,
        model=target,
        aux=None,
        seed=0,
    )


def test_restarts_have_weights_and_draws_of_their_own() -> None:
    """Each would be the same otherwise; the first is what it is alone."""
    cheap = {**Shadow.cheap(), "restarts": 1}
    alone, three = (attacked(Shadow, params={**cheap, "restarts": n}, sizes=TINY).views[-1].notes for n in (1, 3))
    assert len(set(three["unexplained_by"])) == 3
    assert three["unexplained_by"][0] == alone["unexplained_by"][0]


def test_a_stand_in_that_still_gets_better_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs cannot tell, however good the decoder is that was trained on what came of them."""
    monkeypatch.setattr("splitaudit.attacks._decoding.Trained.judged", lambda *_: {"converged": True})
    few, many = (attacked(Shadow, params={**Shadow.cheap(), "epochs": n}, sizes=TINY).views[-1].notes for n in (2, 40))
    assert [few["stand_in_rising"], few["converged"]] == [True, False]
    assert [many["stand_in_rising"], many["converged"]] == [False, True]


class OneDead(Defense):
    """Sends nothing in the second channel."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.cat([z[:, :1], 0 * z[:, 1:2], z[:, 2:]], 1)


def test_channels_that_are_dead_on_the_wire_are_dead_in_the_stand_in_and_say_nothing_of_a_guess() -> None:
    """As those that pruning has taken from the edge: the attacker's own edge, whose weights are new, knows of no mask."""
    target = control_target("identity", OneDead(Params()))
    x = torch.rand(SEEN, *target.info.image_shape, generator=torch.Generator().manual_seed(0))
    view, few = (view_of(target, target.protect(images, torch.Generator())) for images in (x, x[: SEEN - 1]))
    alive = _alive(view)
    assert alive.flatten().tolist() == [1, 0, 1]
    assert bool((_alive(few) == 1).all())
    stand_in = control_target("identity", Defense(Params()))
    draws = torch.Generator().manual_seed(0)
    assert unexplained(view, stand_in, x, draws, alive) == pytest.approx(0, abs=1e-6)
    assert unexplained(view, stand_in, x, draws, ALIVE) > 10
    sent: list[torch.Tensor] = []

    def seen(z: torch.Tensor) -> torch.Tensor:
        sent.append(z.detach())
        return cloud(z)

    trained = toy_target()
    cloud = trained.cloud
    received = trained.clean(torch.rand(SEEN, *SHAPE)).detach()
    received[:, 2] = 0
    attack = Shadow(ShadowParams.model_validate({**Shadow.cheap(), "epochs": 1}))
    view = View(
        knowledge=attack.granted(level("query-free")),
        received=received[:, None],
        image_shape=SHAPE,
        model=trained,
        aux=(toy_part(32), toy_part(16, seed=1)),
        seed=0,
        blank=lambda seed: untrained(trained, seed),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(View, "cloud", property(lambda _: seen))
        attack.reconstruct(view, {})
    assert sent
    assert all(bool((z[:, 2] == 0).all()) for z in sent)
    assert any(bool((z[:, 1] != 0).any()) for z in sent)
