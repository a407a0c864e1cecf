"""Who shares randomness with whom, and which images each task reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from splitaudit.attack import Attack
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext, Part
from splitaudit.defense import Defense
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.planner import make_plan
from splitaudit.plugins import ATTACKS
from splitaudit.split import SplitModel
from splitaudit.state import chosen_nodes, find_todo
from splitaudit.store import Store
from splitaudit.targets import build, channel_statistics
from splitaudit.testing import toy_part, toy_target
from splitaudit.training import TrainingParams, train
from splitaudit.view import View
from splitaudit.work import Job, Surroundings, Worker, receive

CPU = torch.device("cpu")


# -- training ---------------------------------------------------------------------------------------------------------


def built(data: Any, defense: str, seed: int = 0) -> SplitModel:
    suite = {
        "name": "t",
        "dataset": {"name": "photos", "sizes": {"client_train": 16}},
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": [defense],
        "attacks": ["prior"],
        "seeds": [seed],
    }
    plan, info = data
    (row,) = plan(suite).targets
    identity = plan(suite).nodes["target", row["key"]].identity
    return build(identity, info, channel_statistics(toy_part(16)), CPU)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plans without preparing the dataset, which decides no weight."""
    from splitaudit.data.base import DataInfo
    from splitaudit.data.photos import Photos

    info = DataInfo((3, 32, 32), tuple("abcdefgh"), dict.fromkeys(("private", "measure", "aux_train", "aux_val"), 8))
    info.sizes.update(client_train=16, client_val=8)
    monkeypatch.setattr(Photos, "prepare", lambda self: info)
    monkeypatch.setattr(Photos, "fingerprint", lambda self: "f")
    return lambda suite: make_plan(load_suite(suite)), info


@pytest.mark.parametrize("defense", ["noise", "nopeek", "dropout+noise"])
def test_the_initial_weights_are_those_of_the_undefended_target(planned: Any, defense: str):
    """Fails if the seed of the initialisation depends on the defense."""
    plain, defended, other = (built(planned, *a) for a in (("none",), (defense,), ("none", 1)))
    for half in ("edge", "cloud"):
        one, two, three = (getattr(m, half).state_dict() for m in (plain, defended, other))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
        assert not all(torch.equal(one[k], three[k]) for k in one)


class Watching(Defense):
    """Keeps the images and labels of every step, and the loss of its subclasses."""

    source = "toy"
    weight = 0.0

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        self.seen.append((x.clone(), y.clone()))
        return self.weight * z.square().mean()


class Heavy(Watching):
    weight = 3.0


def steps_of(cls: type[Watching], name: str, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    defense = cls(Params())
    defense.name = name
    model = toy_target(defense, steps=False)
    params = TrainingParams(epochs=2, batch=8)
    names = {"dataset": "toy", "backbone": "toy", "cut": "toy"}
    train(model, toy_part(32), toy_part(8, seed=1), params, seed, names, CPU)
    return defense.seen


def test_batches_and_augmentation_are_the_same_under_every_defense():
    """Fails if the order of the batches, or their augmentation, depends on the defense."""
    one, two, other = steps_of(Watching, "watching"), steps_of(Heavy, "heavy"), steps_of(Watching, "watching", 1)
    assert len(one) == len(two) == 8
    for (x, y), (u, v) in zip(one, two, strict=True):
        assert torch.equal(y, v)
        assert torch.equal(x, u)
    assert not all(torch.equal(x, u) for (x, _), (u, _) in zip(one, other, strict=True))
    assert not torch.equal(one[0][0], one[4][0])  # each epoch has an order of its own


# -- received draws ---------------------------------------------------------------------------------------------------


class Noise(Defense):
    """Adds noise of one standard deviation; a toy."""

    acts_on_wire = True
    source = "toy"

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + torch.empty_like(z).normal_(generator=generator)


@pytest.fixture(scope="module")
def noisy() -> SplitModel:
    return toy_target(Noise(Params()))


def test_more_private_images_leave_what_was_received_of_the_first_ones(noisy: SplitModel):
    """Fails if the draws depend on the number of images (the second draw did, and any that counts them in its seed)."""
    few, many = (receive(noisy, toy_part(32).first(n), 3, 0, CPU) for n in (12, 32))
    # Features of a batch of another size differ in their last bits; the draws are of the size of one.
    assert torch.allclose(few, many[:12], atol=1e-4)


def test_more_draws_begin_with_the_same_first_ones_and_all_differ(noisy: SplitModel):
    few, many = (receive(noisy, toy_part(8), draws, 0, CPU) for draws in (2, 4))
    assert torch.equal(few, many[:, :2])
    for k in range(1, 4):
        assert not torch.allclose(many[:, 0], many[:, k], atol=0.1)
    assert not torch.allclose(receive(noisy, toy_part(8), 1, 1, CPU)[:, 0], many[:, 0], atol=0.1)


# -- what each task reads ---------------------------------------------------------------------------------------------


class Brightness(Attack):
    """Guesses each image in one grey, a function of its features: says which features it was shown where."""

    version = 1
    source = "toy"
    requires = AdversaryKnowledge()
    uses = AdversaryKnowledge(edge="query", aux="same")

    shown: ClassVar[list[torch.Tensor]] = []

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        return {"mean": view.prior.mean()[None]}

    def has_fit(self) -> bool:
        return True

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        self.shown.append(view.z.clone())
        return grey(view.z)[:, None, None, None].expand(len(view), *view.image_shape).clone()


def grey(z: torch.Tensor) -> torch.Tensor:
    """Returns one value in [0, 1] for each image's features."""
    return torch.sigmoid(10 * (z.flatten(1).mean(1) - z.mean()))


@pytest.fixture
def worked(tiny: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every job of a tiny suite done by one worker: the worker, the jobs, and which parts each task read."""
    monkeypatch.setattr(Brightness, "shown", [])
    ATTACKS.register("toys/brightness")(Brightness)
    sizes = {"client_train": 16, "client_val": 4, "aux_train": 16, "aux_val": 4, "private": 8, "measure": 16}
    suite = load_suite(
        {
            **tiny,
            "dataset": {"name": "imagefolder", "sizes": sizes},
            "attacks": ["toys/brightness"],
            "knowledge": ["query"],
            "metrics": ["mse", "accuracy", "mutual_information", "entropy", "effective_information_volume", "cost"],
        }
    )
    context = DataContext(root=images)
    plan = make_plan(suite, context)
    store = Store(tmp_path)
    worker = Worker(Surroundings(str(tmp_path), data_root=str(images)))
    read: dict[str, set[str]] = {}
    task = ""
    part = worker.part

    def watched(dataset: Any, name: Any, n: int) -> Part:
        read.setdefault(task, set()).add(name)
        return part(dataset, name, n)

    monkeypatch.setattr(worker, "part", watched)
    todo = find_todo(plan, {}, chosen_nodes(plan, {}))
    jobs: list[tuple[Job, dict[str, Any]]] = []
    for job in todo.jobs.values():
        task = job.task
        result = worker.run(job.dump())
        assert result["ok"], result["error"]["traceback"]
        jobs.append((job, result["fields"]))
    return worker, store, jobs, read


def test_only_attacks_and_their_scores_read_the_private_images(worked: Any):
    """Fails if a measure of targets, training, or the fit of an attack is given ``private``."""
    assert worked[3] == {
        "target": {"client_train", "client_val"},
        "measure": {"measure"},
        "fit": {"aux_train", "aux_val"},
        "cell": {"aux_train", "aux_val", "private"},
        "reference": {"private", "measure", "aux_train"},
    }


def test_the_worker_shows_features_in_a_hidden_order_and_stores_guesses_in_that_of_the_images(worked: Any):
    """Fails where features are received in the order of the part, and where the guesses are not put back."""
    worker, store, jobs, _ = worked
    orders = []
    cells = [job for job, _ in jobs if job.task == "cell"]
    for job, shown in zip(cells, Brightness.shown, strict=True):
        target = job.related["target"]
        private = worker.part(job.identity["dataset"], "private", 8)
        received = receive(worker.model(job.identity["target"], target), private, 1, 0, CPU)[:, 0]
        places = [[i for i, z in enumerate(received) if torch.equal(z, s)] for s in shown]
        assert all(len(p) == 1 for p in places)
        orders.append([p[0] for p in places])
        stored = store.read_artifact("cell", job.key)["guess"]
        expected = grey(shown)[torch.tensor(orders[-1]).argsort()].mul(255).round()
        assert stored.float().mean((1, 2, 3)).tolist() == expected.tolist()
    assert sorted(orders[0]) == list(range(8)) != orders[0]
    assert orders[0] == orders[1]  # attacks on different defenses are paired


def test_a_restored_target_is_in_eval_mode(worked: Any):
    worker, _, jobs, _ = worked
    for job, _ in jobs:
        if job.task == "target":
            worker._models.clear()
            assert not any(m.training for m in worker.model(job.key, job.identity).modules())
