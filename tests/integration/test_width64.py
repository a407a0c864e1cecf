"""On an undefended CNN of width 64 strong attacks see the image: the suite of the reference run, once more."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from splitaudit.api import run

SUITE = Path(__file__).parents[2] / "results" / "reference" / "width64" / "photos.yaml"


@pytest.mark.slow
def test_the_undefended_image_is_seen(tmp_path: Path) -> None:
    """Eight minutes; on CIFAR-10 by hand (docs/measurements.md), whose images are not at hand everywhere."""
    run(SUITE, out=tmp_path)
    found = pd.read_csv(tmp_path / "cells.csv").set_index("attack")
    assert (found.loc[["rmle", "refine"], "ssim"] >= 0.9).all()
    assert found.loc["decoder", "ssim"] >= 0.75
    assert found.loc["refine", "mse"] <= found.loc["decoder", "mse"]
