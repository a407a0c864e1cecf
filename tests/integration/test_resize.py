"""One folder, suites that differ in how many images are measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import splitaudit
from splitaudit.api import Options, run
from splitaudit.store import Store


@pytest.mark.full
@pytest.mark.usefixtures("undrawn")
def test_the_measured_images_may_become_more_or_fewer_in_one_folder(
    tiny: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    """Fails if the groups of the measured images are taken from the record of a run that measured another number."""
    root = tmp_path / "images"
    shutil.copytree(images, root)
    shutil.copy(root / "test/dark/000.png", root / "test/dark/copy.png")  # copies form groups
    options = Options(executor="serial", device="cpu", offline=True, data_root=root)
    for n in (16, 24, 16):
        suite = {**tiny, "dataset": {"name": "imagefolder", "sizes": {"measure": n}}, "attacks": ["prior"]}
        outcome = run(suite, out=tmp_path / "run", options=options)
        assert outcome.exit_code == 0
        results = splitaudit.load_results(tmp_path / "run")
        assert results.targets["accuracy_hi"].notna().all()
    store = Store(tmp_path / "run")
    assert sorted(len(record["measure_groups"]) for record in store.records("reference")) == [16, 24]
    assert len(list(store.records("target"))) == 2  # nothing was trained again
