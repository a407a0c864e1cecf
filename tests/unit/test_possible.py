"""Targets that cannot exist: skipped with their reason in the plan, while the suite's other rows go on."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from splitaudit.api import run
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext
from splitaudit.defense import Defense
from splitaudit.defenses import dpsgd_groupnorm
from splitaudit.errors import Unsupported
from splitaudit.models.cnn4 import CNN4
from splitaudit.options import Options
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.plugins import BACKBONES, DEFENSES
from splitaudit.split import Split


@pytest.fixture
def skips(tiny: dict[str, Any], images: Path) -> Any:
    """Returns the reason of each skipped target of a suite by defense and cut."""

    def planned(*defenses: Any, **change: Any) -> dict[tuple[str, str], str]:
        suite = load_suite({**tiny, "attacks": ["prior"], "defenses": ["none", *defenses], **change})
        made: Plan = make_plan(suite, DataContext(images, None, True))
        assert all(c["skip"] == f"target skipped: {t['skip']}" for c in made.cells for t in made.targets if _of(c, t))
        return {(t["defense"], t["cut"]): t["skip"] for t in made.targets if t["skip"]}

    return planned


def _of(cell: dict[str, Any], target: dict[str, Any]) -> bool:
    labels = ("dataset", "backbone", "cut", "defense", "seed")
    return bool(target["skip"]) and all(cell[k] == target[k] for k in labels)


@pytest.mark.parametrize(
    ("defense", "expected"),
    [
        ("siftfunnel+label_smoothing", "siftfunnel and label_smoothing each replace the task loss; only one may"),
        ("bottleneck+vib", "bottleneck and vib each replace the architecture; only one may"),
        ("vib+pca", "vib acts both in training and on the wire"),
        ("pca+vib", "vib acts both in training and on the wire"),
        ({"name": "cem+noise", "when": "infer"}, "cem acts both in training and on the wire"),
        ("dpsgd_groupnorm+pca", "what dpsgd_groupnorm promises of the training images ends where pca on them"),
        ({"name": "dpsgd_groupnorm+noise", "when": "infer+cloud"}, "ends where the cloud is trained on them"),
        ("dpsgd_groupnorm+nopeek", "'nopeek' overrides extra_loss"),
        ({"name": "nopeek+dpsgd_groupnorm+noise", "when": "infer"}, "'nopeek' overrides extra_loss"),
        ("downsample+nullspace", "nullspace has to be the first defense that changes the shape"),
        ("pca+nullspace", "nullspace has to be the first defense that changes the shape"),
        ("pca+downsample", "downsample needs feature maps (C, H, W)"),
        ({"name": "pca", "params": {"keep": 0.5}}, "pca with keep=0.5 asks for 196 components"),
        ({"name": "siftfunnel+nullspace", "params": {"siftfunnel": {"funnel": False}}}, "does not begin with"),
    ],
    ids=str,
)
def test_what_cannot_be_is_skipped_and_the_rest_of_the_suite_is_planned(
    skips: Any, monkeypatch: pytest.MonkeyPatch, defense: Any, expected: str
) -> None:
    monkeypatch.setattr(dpsgd_groupnorm, "installed", lambda: True)
    found = skips(defense, "noise", dataset={"name": "imagefolder", "sizes": {"client_train": 30}})
    assert len(found) == 1
    assert expected in next(iter(found.values()))


@pytest.mark.parametrize(
    "defense", ["noise", "noise+pca", "vib+noise", "nopeek+infodecom+topk", "siamese+pca+noise", "dropout+nullspace"]
)
def test_what_can_be_is_not_skipped(skips: Any, defense: str) -> None:
    assert skips(defense) == {}


@pytest.mark.parametrize("defense", ["dpsgd_groupnorm+noise", {"name": "dpsgd_groupnorm+noise", "when": "infer"}])
def test_noise_on_the_wire_breaks_no_promise_of_the_training(
    skips: Any, monkeypatch: pytest.MonkeyPatch, defense: Any
) -> None:
    monkeypatch.setattr(dpsgd_groupnorm, "installed", lambda: True)
    assert skips(defense) == {}


def test_cuts_at_which_the_null_space_is_out_of_reach_are_skipped_at_the_published_widths(skips: Any) -> None:
    """Nothing is allocated for them: a basis at conv1_1 would have 0.3 billion numbers."""
    backbones = [
        {"name": "cnn4", "cut": ["block1", "block2"], "params": {"width": 64}},
        {"name": "resnet18", "cut": ["layer4_block1", "layer4_block2"]},
        {"name": "vgg16_bn", "cut": ["conv1_1", "pool4", "conv5_3"]},
    ]
    dataset = {"name": "imagefolder", "params": {"image_size": 32}}
    found = {cut: reason for (_, cut), reason in skips("nullspace", backbone=backbones, dataset=dataset).items()}
    assert {cut for cut, reason in found.items() if "at most 8,192 numbers" in reason} == {"block1", "conv1_1"}
    assert {cut for cut, reason in found.items() if "does not begin" in reason} == {"layer4_block2", "conv5_3"}
    assert len(found) == 4


def test_vectors_whose_square_no_memory_holds_are_skipped(skips: Any) -> None:
    """``hidden1`` of a wide network is a vector of 64 times its width."""
    wide = [{"name": "vgg16_bn", "cut": "hidden1", "params": {"width": w}} for w in (64, 65, 128, 129)]
    found = {
        d: sum(k[0] == d for k in skips(d, backbone=[b], dataset={"name": "imagefolder", "params": {"image_size": 32}}))
        for b in wide[:1]
        for d in ("vib", "disco")
    }
    assert found == {"vib": 0, "disco": 0}
    for backbone, refused in zip(wide, (set(), {"vib"}, {"vib"}, {"vib", "disco"}), strict=True):
        reasons = skips(
            "vib", "disco", backbone=[backbone], dataset={"name": "imagefolder", "params": {"image_size": 32}}
        )
        assert {defense for defense, _ in reasons} == refused
        assert all("each number of a vector is one" in r for r in reasons.values())


class Particular(Defense):
    """Says itself where it cannot be, from shapes, parameters and the number of images."""

    source = "toy"
    asked: list[tuple[tuple[int, ...], int, str]]

    def obstacle(self, split: Split, images: int) -> str | None:
        Particular.asked.append((split.feature_shape(), images, next(split.edge.parameters()).device.type))
        return "too few images" if images < 40 else None


class Scaled(CNN4):
    """A backbone that reads a weight while it is built."""

    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        made = super().blocks(image_shape, classes)
        self.size = float(next(made["block1"].parameters()).abs().sum())
        return made


class Peeks(Defense):
    """Reads a weight while it is built, which there is none of before there is a target."""

    source = "toy"

    def wrap(self, split: Split) -> Split:
        self.size = float(next(split.edge.parameters()).abs().sum())
        return split


def test_a_plugin_says_where_it_cannot_be_and_is_asked_once_for_all_seeds(skips: Any) -> None:
    DEFENSES.register("local/mine")(Particular)
    Particular.asked = []
    small, large = ({"name": "imagefolder", "sizes": {"client_train": n}} for n in (39, 40))
    assert list(skips("local/mine", dataset=small, seeds=[0, 1, 2]).values()) == ["too few images"]
    assert Particular.asked == [((8, 7, 7), 39, "meta")]
    assert skips("local/mine", dataset=large) == {}
    assert list(skips("downsample+local/mine", dataset=small).values()) == ["too few images"]
    assert Particular.asked[-1][0] == (8, 4, 4), "what the parts before it send"
    assert list(skips("local/mine+pca", dataset=small).values()) == ["too few images"], (
        "the network that pca starts from"
    )


class Kills(Defense):
    """Takes its process along."""

    source = "toy"

    def wrap(self, split: Split) -> Split:
        os.kill(os.getpid(), 9)
        return split


def test_a_plugin_that_kills_its_process_does_so_in_a_worker_and_not_while_planning(skips: Any) -> None:
    DEFENSES.register("local/kills")(Kills)
    assert skips("local/kills") == {}
    assert skips("local/kills+downsample") == {}


def test_what_a_plan_cannot_tell_is_left_to_the_job_and_no_randomness_is_used(skips: Any) -> None:
    DEFENSES.register("local/peeks")(Peeks)
    before = torch.get_rng_state()
    assert skips("local/peeks") == {}
    BACKBONES.register("local/scaled")(Scaled)
    assert skips("nullspace", backbone={"name": "local/scaled", "cut": "block2", "params": {"width": 4}}) == {}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_suite_with_rows_that_cannot_be_runs_the_others_and_ends_well(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    import splitaudit

    tiny["defenses"] = ["none", "downsample+nullspace", "bottleneck+vib", "pca+downsample"]
    options = Options(executor="serial", device="cpu", offline=True, data_root=images)
    assert run(tiny, out=tmp_path, options=options).exit_code == 0
    cells = splitaudit.load_results(tmp_path).cells
    status = {d: set(cells.loc[cells["defense"] == d, "status"]) for d in tiny["defenses"]}
    assert status == {
        "none": {"done", "skipped"},
        "downsample+nullspace": {"skipped"},
        "bottleneck+vib": {"skipped"},
        "pca+downsample": {"skipped"},
    }


class SmallOnly(CNN4):
    """A backbone that takes no large images."""

    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        if image_shape[1] > 100:
            raise Unsupported("small images only")
        return super().blocks(image_shape, classes)


def test_a_backbone_of_one_size_is_planned_with_defenses_that_ask_for_its_shapes(
    skips: Any,
) -> None:
    """They look at its shapes at a size of their own; at the real one everything fits."""
    BACKBONES.register("local/small")(SmallOnly)
    backbone = {"name": "local/small", "cut": "block2", "params": {"width": 4}}
    assert skips("downsample", "bottleneck", backbone=backbone) == {}
