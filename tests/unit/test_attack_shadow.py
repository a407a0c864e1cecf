"""The query-free attack: what it learns, it learns from the cloud that it knows."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from splitaudit.attacks.shadow import Shadow, ShadowParams
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


def test_a_stand_in_that_still_gets_better_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs cannot tell, however good the decoder is that was trained on what came of them."""
    monkeypatch.setattr("splitaudit.attacks._decoding.Trained.judged", lambda *_: {"converged": True})
    few, many = (attacked(Shadow, params={**Shadow.cheap(), "epochs": n}, sizes=TINY).views[-1].notes for n in (2, 40))
    assert [few["stand_in_rising"], few["converged"]] == [True, False]
    assert [many["stand_in_rising"], many["converged"]] == [False, True]
