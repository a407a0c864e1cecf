"""The dataset ``other`` of a suite: its auxiliary images are neither of the attacked distribution nor private."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from splitaudit.api import run
from splitaudit.config import load_suite
from splitaudit.data.base import PARTS, DataContext, DataInfo, Dataset, Part, PartName
from splitaudit.data.imagefolder import ImageFolder, ImageFolderParams
from splitaudit.errors import ConfigError, DataError
from splitaudit.options import Options
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.plugins import DATASETS


class Drawn(Dataset):
    """Uniform noise, with one image of the folder among a part of it."""

    source = "toy"
    stolen: tuple[str, torch.Tensor] | None = None
    side = 28

    def prepare(self) -> DataInfo:
        return DataInfo((3, self.side, self.side), ("a", "b"), dict.fromkeys(PARTS, 12))

    def fingerprint(self) -> str:
        return "drawn"

    def load(self, part: PartName) -> Part:
        g = torch.Generator().manual_seed(PARTS.index(part))
        images = torch.randint(0, 256, (12, 3, self.side, self.side), generator=g).to(torch.uint8)
        if self.stolen is not None and self.stolen[0] == part:
            images[7] = self.stolen[1]
        return Part(images, torch.arange(12) % 2)


@pytest.fixture
def planned(tiny: dict[str, Any], images: Path) -> Any:
    """Plans the tiny suite with a drawn dataset as ``other``."""

    def plan(knowledge: str = "query-other", attacks: tuple[str, ...] = ("prior", "decoder"), **of: Any) -> Plan:
        DATASETS.register("toys/drawn")(type("Drawn", (Drawn,), of))
        suite = {**tiny, "attacks": list(attacks), "other": "toys/drawn", "knowledge": [knowledge]}
        return make_plan(load_suite(suite), DataContext(root=images))

    return plan


def test_a_run_with_images_of_another_distribution_ends_with_its_tables(
    tiny: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    """The other dataset is a dataset of the suite without a cell of its own: its empty table ended every such run."""
    DATASETS.register("toys/drawn")(type("Drawn", (Drawn,), {}))
    suite = {**tiny, "attacks": ["prior", "linear"], "other": "toys/drawn", "knowledge": ["query", "query-other"]}
    done = run(suite, out=tmp_path, options=Options(executor="serial", device="cpu", data_root=images))
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert done.failed == 0
    assert set(cells[cells["attack"] == "linear"]["knowledge"]) == {"query", "query-other"}
    assert set(cells["status"]) == {"done"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("private images attacked.") == 1
    assert "Dataset toys/drawn: images of 28×28 px, 3 channels, 2 classes; its auxiliary images are" in page


@pytest.fixture
def private(images: Path) -> Part:
    return ImageFolder(ImageFolderParams(), None, DataContext(root=images)).load("private")


@pytest.mark.parametrize("part", ["aux_train", "aux_val"])
def test_other_is_refused_if_its_auxiliary_images_hold_a_private_one(planned: Any, private: Part, part: str):
    """Fails without a look at the pixels: the two datasets have nothing else in common."""
    with pytest.raises(DataError) as told:
        planned(stolen=(part, private.images[3]))
    for words in (f"1 of 12 different images of toys/drawn's {part}", "image 7 is test/", "Choose another dataset"):
        assert words in str(told.value)


def test_other_is_accepted_if_it_shares_no_private_image_or_none_is_used(planned: Any, private: Part):
    measured = private.images[3]
    assert planned().cells
    assert planned(stolen=("client_train", measured)).cells
    assert planned("query", stolen=("aux_train", measured)).cells


def test_labels_of_other_classes_are_granted_to_nobody(planned: Any, images: Path):
    """A stand-in was trained towards classes that mean something else, or that the cloud does not have."""
    classes = ImageFolder(ImageFolderParams(), None, DataContext(root=images)).prepare().classes
    for own, skipped in ((("a", "b"), True), (classes, False)):
        info = DataInfo((3, 28, 28), own, dict.fromkeys(PARTS, 12))
        plan = planned("query-free-other", attacks=("prior", "shadow"), prepare=lambda self, info=info: info)
        found = {c["attack"]: c["skip"] for c in plan.cells}
        assert found["prior"] is None
        said = "needs labels of the target's classes, and those of toys/drawn are not the classes of imagefolder"
        assert found["shadow"] == (f"attack 'shadow' {said}" if skipped else None)


def test_other_of_another_shape_is_refused_with_what_to_set(planned: Any):
    with pytest.raises(
        ConfigError, match=r"shape \(3, 16, 16\), expected that of imagefolder, \(3, 28, 28\).*image_size"
    ):
        planned(side=16)


@pytest.mark.parametrize("params", [{}, {"seed": 1}])
def test_other_is_refused_if_it_is_the_attacked_dataset(params: dict[str, Any]):
    """Fails without the rule: crops of another seed cover a fifth of the private ones."""
    suite = {
        "name": "t",
        "dataset": "photos",
        "other": {"name": "photos", "params": params},
        "backbone": {"name": "cnn4", "cut": "block2"},
        "knowledge": ["query-other"],
    }
    with pytest.raises(ConfigError, match="other: got 'photos', which is the attacked dataset") as told:
        load_suite(suite)
    assert "data-root" not in str(told.value)
    with pytest.raises(ConfigError, match="one --data-root"):
        load_suite({**suite, "dataset": "imagefolder", "other": "imagefolder"})
