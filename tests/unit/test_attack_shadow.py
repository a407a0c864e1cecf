"""The query-free attack: what it learns, it learns from the cloud that it knows."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from splitaudit.attacks.shadow import Shadow, ShadowParams, StandIn
from splitaudit.data.base import Part
from splitaudit.data.photos import Photos, PhotosParams
from splitaudit.defense import Defense
from splitaudit.knowledge import level
from splitaudit.params import Params
from splitaudit.seeds import seeded_globally
from splitaudit.split import SplitInfo, SplitModel, cut_blocks
from splitaudit.targets import channel_statistics
from splitaudit.testing.attacking import TINY, attacked, untrained
from splitaudit.testing.targets import CPU, ToyNet
from splitaudit.training import TrainingParams, train
from splitaudit.view import View, to_float
from splitaudit.work import receive

SIZES: Any = {"client_train": 640, "client_val": 64, "private": 32, "measure": 16, "aux_train": 640, "aux_val": 64}
SHAPE = (3, 16, 16)


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


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 1])
def test_the_trained_cloud_gives_away_what_an_untrained_one_does_not(
    photos: dict[str, Part], target: SplitModel, seed: int
) -> None:
    """The statistics of the received features are the same for both: it is the cloud that pins the features down."""
    blank = copy.deepcopy(target)
    blank.cloud = untrained(target, 5).cloud
    true, other = leakage(photos, target, target, seed), leakage(photos, target, blank, seed)
    assert true > 0.4
    assert true > other + 0.2


def test_the_restart_is_kept_whose_guess_explains_what_was_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth has no say: a guess turned over explains less of the features, whatever its decoder reached on own images."""
    real = Shadow._restart
    turned: dict[str, bool] = {"": True, " 1": False, " 2": True}

    def restart(self: Shadow, view: View, number: str) -> Any:
        stand_in, trained, _, guess = real(self, view, number)
        guess = 1 - guess if turned[number] else guess
        own = stand_in.model.clean(guess).detach()
        return stand_in, trained, float((own - view.average).square().mean() / view.average.var()), guess

    # Three times the same stand-in: nothing but what is done to the guess tells them apart.
    monkeypatch.setattr(Shadow, "_restart", restart)
    monkeypatch.setattr(Shadow, "_stand_in", lambda self, view, number: StandIn(view._model))
    run = attacked(Shadow, params={**Shadow.cheap(), "restarts": 3}, sizes=TINY)
    notes = run.views[-1].notes
    assert notes["unexplained"] == pytest.approx(min(notes["unexplained_by"]), abs=1e-4)
    assert notes["unexplained_by"].index(min(notes["unexplained_by"])) == 1


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
