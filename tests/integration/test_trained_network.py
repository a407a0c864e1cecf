"""Defenses that act on a trained network: whose weights are used, and what is trained on top of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import splitaudit
from splitaudit.api import run
from splitaudit.config import load_suite
from splitaudit.defenses.adversarial import Adversarial
from splitaudit.errors import ConfigError
from splitaudit.labels import plugin_labels
from splitaudit.options import Options
from splitaudit.plugins import DEFENSES, add_plugin_file
from splitaudit.stages import acting, trained_before
from splitaudit.store import Store
from splitaudit.targets import make_defense
from splitaudit.testing.data import part
from splitaudit.testing.targets import home_of

PLUGIN = '''
"""Defenses that start from the trained undefended network."""

import torch
from torch import nn
from splitaudit.defense import Defense


class Lead(Defense):
    """Sends what is left without the direction that the first weights of the cloud know, and counts the images."""

    source = "toy"
    acts_on_wire = True
    usually = "infer"

    def prepare(self, split):
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(split.feature_shape()))
        self.register_buffer("weights", torch.zeros(()))

    def fit(self, network):
        batches = [network.edge(x).detach() for x in network.images()]
        self.seen += sum(map(len, batches))
        self.mean += torch.cat(batches).mean(0)
        self.weights += sum(p.detach().abs().sum() for p in network.cloud.parameters())

    def protect(self, z, generator):
        return z - self.mean


class Learned(Defense):
    """Learns one number on the frozen network, by the task and a penalty."""

    source = "toy"
    acts_on_wire = True
    usually = "infer"

    def prepare(self, split):
        self.offset = nn.Parameter(torch.zeros(()))

    def extra_loss(self, x, z, y, logits):
        return (self.offset - 1).square()

    def protect(self, z, generator):
        return z + 1e-6 * self.offset
'''


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "later.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return str(path)


def serial(images: Path, *plugins: str) -> Options:
    return Options(executor="serial", device="cpu", offline=True, data_root=images, plugins=plugins)


def tensors(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Returns the label of each target to its stored tensors."""
    targets = splitaudit.load_results(folder).targets
    store = Store.open(folder)
    return {r["defense"]: store.read_artifact("target", r["key"]) for r in targets.to_dict("records")}


def weights(stored: dict[str, torch.Tensor], half: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in stored.items() if k.startswith(half)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_with_infer_and_cloud_the_cloud_alone_is_trained_on(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    noise = {"name": "noise", "params": {"sigma": 3.0}}
    again = {"name": "none", "when": "infer+cloud"}
    tiny["defenses"] = ["none", {**noise, "when": "infer"}, {**noise, "when": "infer+cloud"}, again]
    tiny["attacks"] = ["prior", {"name": "rmle", "params": {"steps": 2, "gaussian": 0.03}}]
    assert run(tiny, out=tmp_path, options=serial(images)).exit_code == 0
    stored = tensors(tmp_path)
    assert not weights(stored["noise@infer+cloud"], "edge.")
    assert not weights(stored["noise@infer"], "cloud.")
    cloud, before = weights(stored["noise@infer+cloud"], "cloud."), weights(stored["none"], "cloud.")
    longer = weights(stored["none@infer+cloud"], "cloud.")
    assert not weights(stored["none@infer+cloud"], "edge.")
    assert longer.keys() == before.keys()
    assert not same(longer, before)
    assert not same(longer, cloud)
    assert cloud.keys() == before.keys()
    assert not same(cloud, before)
    results = splitaudit.load_results(tmp_path)
    found = results.cells[results.cells["attack"] == "rmle"].groupby("defense")["mse"].first()
    assert found["noise@infer+cloud"] == found["noise@infer"], "the same edge and the same noise are on both wires"
    histories = {r["identity"]["defense"]["when"]: r["training"] for r in Store.open(tmp_path).records("target")}
    assert histories["infer"] == {}
    assert len(histories["infer+cloud"]["loss"]) == tiny["training"]["epochs"]


def test_a_defense_takes_what_it_needs_from_the_trained_network(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None, plugin: str
) -> None:
    tiny["defenses"], tiny["attacks"] = ["none", "local/later.Lead"], ["prior"]
    options = serial(images, plugin)
    assert run(tiny, out=tmp_path / "run", options=options).exit_code == 0
    stored = tensors(tmp_path / "run")
    own = stored["local/later.Lead"]
    identity = next(iter(Store.open(tmp_path / "run").records("target")))["identity"]
    assert int(own["defense.seen"]) == identity["client"]["client_train"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    cloud = {k: v for k, v in weights(stored["none"], "cloud.").items() if not k.endswith(statistics)}
    assert float(own["defense.weights"]) == pytest.approx(sum(float(v.abs().sum()) for v in cloud.values()), rel=1e-4)
    assert bool(own["defense.mean"].abs().sum() > 0)


def test_what_a_defense_learns_is_trained_on_the_frozen_network(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None, plugin: str
) -> None:
    tiny["defenses"], tiny["attacks"] = ["none", "local/later.Learned"], ["prior"]
    options = serial(images, plugin)
    assert run(tiny, out=tmp_path / "run", options=options).exit_code == 0
    own = tensors(tmp_path / "run")["local/later.Learned"]
    assert float(own["defense.offset"]) > 0
    assert not weights(own, "edge.")
    assert not weights(own, "cloud.")


def test_what_shapes_the_training_comes_first_and_the_rest_starts_from_its_network(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None, plugin: str
) -> None:
    """``bottleneck`` replaces the architecture, ``nopeek`` has a loss: both belong to the training that is over."""
    parts = {"nopeek": {"alpha": 5.0}}
    tiny["defenses"] = [
        "none",
        {"name": "bottleneck+nopeek", "params": parts},
        {"name": "bottleneck+nopeek+local/later.Lead+noise", "params": parts},
        {"name": "nopeek+noise", "params": parts, "when": "infer"},
    ]
    tiny["attacks"] = ["prior"]
    assert run(tiny, out=tmp_path / "run", options=serial(images, plugin)).exit_code == 0
    store, stored = Store.open(tmp_path / "run"), tensors(tmp_path / "run")
    records = {r["key"]: r["identity"] for r in store.records("target")}
    assert len(records) == 5, "nopeek alone is trained for nopeek+noise@infer"
    whole = next(i for i in records.values() if len(i["defense"]["parts"]) == 4)
    assert [p["name"] for p in records[whole["base"]]["defense"]["parts"]] == ["bottleneck", "nopeek"]
    own = stored["bottleneck+nopeek+local/later.Lead+noise"]
    assert not weights(own, "edge."), "those of the network trained with bottleneck+nopeek are used"
    clouds = weights(stored["bottleneck+nopeek"], "cloud.")
    total = sum(float(v.abs().sum()) for k, v in clouds.items() if "running" not in k and "batches" not in k)
    (fitted,) = (float(v) for k, v in own.items() if k.endswith(".weights"))
    assert fitted == pytest.approx(total, rel=1e-4), "Lead has seen that cloud"
    cells = splitaudit.load_results(tmp_path / "run").cells
    assert set(cells["status"]) == {"done"}


def test_of_what_was_trained_before_nothing_is_left_but_architecture_and_task_loss() -> None:
    parts = [
        {"name": "label_smoothing", "params": {"alpha": 0.3}},
        {"name": "adversarial", "params": {}},
        {"name": "noise", "params": {"sigma": 1.0}},
    ]
    defense = {"parts": parts, "when": "infer+cloud"}
    assert trained_before(defense) == parts[:2]
    assert acting(defense) == parts[2:]
    made = make_defense(parts, trained_before(defense), adapting=True)
    split = home_of(Adversarial).split(part("client_train", 8), seed=0)
    made.prepare(split)
    assert not list(made.parameters()), "no decoder of adversarial's is built"
    logits, y = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    assert torch.equal(made.task_loss(logits, y), F.cross_entropy(logits, y, label_smoothing=0.3))
    still = make_defense(parts, trained_before(defense))
    assert torch.equal(still.task_loss(logits, y), F.cross_entropy(logits, y)), "where the cloud is not trained"
    x, z = torch.rand(8, 3, 16, 16), torch.rand(8, *split.feature_shape())
    made.train()
    made.protect(z, torch.Generator().manual_seed(0))
    assert made.extra_loss(x, z, y, logits) is None
    assert [(p.name, p.params.dump()) for p in made.parts] == [  # type: ignore[union-attr,operator]
        (p["name"], DEFENSES.get(p["name"]).Params(**p["params"]).dump()) for p in parts
    ]


@pytest.mark.parametrize(
    ("defense", "expected"),
    [
        ({"name": "local/later.Lead", "when": "train+infer"}, "starts from a trained network"),
        ("local/later.Lead+nopeek", "write 'nopeek+local/later.Lead'"),
        ({"name": "nopeek", "when": "infer"}, "so on a network that is trained already it would equal 'none'"),
        ({"name": "noise", "sweep": {"sigma": 0.5}}, "sweep: sigma: got 0.5, expected a list of values"),
        ({"name": "noise", "sweep": {"sigma": []}}, "sweep: sigma: got an empty list"),
        ({"name": "noise", "params": {"sigma": 1}, "sweep": {"sigma": [2]}}, "is given in params too"),
        ({"name": "nopeek+noise", "sweep": {"sigma": [2]}}, "sweep: 'sigma' is no part"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(
    tiny: dict[str, Any], tmp_path: Path, plugin: str, defense: Any, expected: str
) -> None:
    add_plugin_file(plugin)
    with pytest.raises(ConfigError) as caught:
        load_suite({**tiny, "defenses": ["none", defense]})
    assert expected in "\n".join(caught.value.problems)


def test_a_defense_after_training_is_labelled_by_its_name_and_composes(tiny: dict[str, Any], plugin: str) -> None:
    add_plugin_file(plugin)
    suite = load_suite({**tiny, "defenses": ["none", "local/later.Lead+noise", {"name": "noise", "when": "infer"}]})
    assert [d.when for d in suite.defenses] == ["train+infer", "infer", "infer"]
    labels = plugin_labels(DEFENSES, suite.defenses)
    assert labels == ["none", "local/later.Lead+noise", "noise@infer"]
