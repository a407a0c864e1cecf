"""What changes no information changes no leakage: scale, rotation and order of the channels of a trained edge."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
import torch

from splitaudit.api import run
from splitaudit.attack import Attack
from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.attacks.rmle import Rmle, RmleParams
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext, Part
from splitaudit.data.photos import Photos, PhotosParams
from splitaudit.defense import Defense
from splitaudit.knowledge import level
from splitaudit.options import Options
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.seeds import derive
from splitaudit.split import SplitModel
from splitaudit.view import View
from splitaudit.work import Surroundings, Worker, receive

pytestmark = pytest.mark.slow

SEEDS = [0, 1, 2]
SIZES = {"client_train": 3200, "client_val": 400, "private": 64, "measure": 100, "aux_train": 3200, "aux_val": 400}
CPU = torch.device("cpu")


class Mixed(Defense):
    """Sends linear combinations of the channels.

    Args:
        matrix: (C, C).
    """

    acts_on_wire = True
    source = "toy"

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__(Params())
        self.matrix = matrix

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.einsum("dc,nchw->ndhw", self.matrix, z)


def rotation(channels: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(0)))[0]


def order(channels: int) -> torch.Tensor:
    return torch.eye(channels)[torch.randperm(channels, generator=torch.Generator().manual_seed(0))]


CHANGES: dict[str, Callable[[int], torch.Tensor]] = {
    "1e-3": lambda c: 1e-3 * torch.eye(c),
    "1e3": lambda c: 1e3 * torch.eye(c),
    "rotation": rotation,
    "order": order,
    "unequal": lambda c: torch.diag(torch.logspace(-1, 0, c)),
}


@dataclass
class Trained:
    """Undefended targets, one per seed, with the images of the attack."""

    models: list[SplitModel]
    private: Part
    aux: tuple[Part, Part]

    def leakage(self, attack: Attack, change: Callable[[int], torch.Tensor] | None = None) -> list[float]:
        """Returns the leakage score on each target, behind a change of its channels."""
        return [self._leakage(attack, model, change) for model in self.models]

    def _leakage(self, attack: Attack, model: SplitModel, change: Callable[[int], torch.Tensor] | None) -> float:
        model = copy.deepcopy(model)
        if change is not None:
            model.defense = Mixed(change(model.feature_shape[0]))
        granted = attack.granted(level("white-box"))
        received = receive(model, self.private, 1, 0, CPU)

        def view(shown: torch.Tensor) -> View:
            shape = model.info.image_shape
            seed = derive("attack", 0)
            return View(knowledge=granted, received=shown, image_shape=shape, model=model, aux=self.aux, seed=seed)

        guess = attack.reconstruct(view(received), attack.fit(view(received[:0])))
        truth, prior = to_float(self.private.images), to_float(self.aux[0].images).mean(0)
        return 1 - float((guess - truth).square().mean() / (prior - truth).square().mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder: Path = tmp_path_factory.mktemp("trained")
    suite = {
        "name": "trained",
        "preset": "quick",
        "dataset": {"name": "photos", "sizes": SIZES},
        "defenses": ["none"],
        "attacks": ["prior"],
        "metrics": ["mse", "accuracy"],
        "seeds": SEEDS,
    }
    run(suite, out=folder, options=Options(executor="serial", device="cpu", offline=True))
    plan: Plan = make_plan(load_suite(suite), DataContext(offline=True))
    worker = Worker(Surroundings(str(folder), offline=True))
    models = [copy.deepcopy(worker.model(r["key"], plan.nodes["target", r["key"]].identity)) for r in plan.targets]
    data = Photos(PhotosParams(), SIZES, DataContext(offline=True))
    return Trained(models, data.load("private"), (data.load("aux_train"), data.load("aux_val")))


@pytest.mark.parametrize(
    ("attack", "most"), [(Rmle(RmleParams()), 0.01), (Decoder(DecoderParams()), 0.02)], ids=["rmle", "decoder"]
)
def test_scale_rotation_and_order_of_the_channels_are_no_protection(
    attack: Attack, most: float, trained: Trained
) -> None:
    plain = trained.leakage(attack)
    assert min(plain) > 0.5
    changed = {name: trained.leakage(attack, change) for name, change in CHANGES.items()}
    apart = {name: median(abs(a - b) for a, b in zip(plain, found, strict=True)) for name, found in changed.items()}
    print(f"{type(attack).__name__}: plain {plain}, changed {changed}")
    unequal = apart.pop("unequal")
    assert max(apart.values()) <= most, apart
    assert unequal <= 2 * most, "channels of unequal size, down to a tenth"
