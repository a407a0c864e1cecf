"""What is written of the information measures: every column with its unit and meaning, where a reader looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splitaudit.config import load_suite
from splitaudit.config.suite import DEFAULT_METRICS
from splitaudit.data.base import Part
from splitaudit.metrics._splits import divide
from splitaudit.metrics.mutual_information import LEAST_TEST
from splitaudit.planner import make_plan
from splitaudit.report.columns import measure_columns

ROOT = Path(__file__).parents[2]
MEASURES = (
    "mutual_information",
    "entropy",
    "effective_information_volume",
    "fisher_information",
    "reconstruction_floor",
)


def table(name: str) -> list[str]:
    text = (ROOT / "docs" / "results-format.md").read_text()
    return text.split(f"### {name}\n", 1)[1].split("\n### ", 1)[0].splitlines()


@pytest.mark.parametrize("measure", MEASURES)
def test_the_results_format_describes_every_column_as_the_measure_does(measure: str) -> None:
    targets, summary = table("targets.csv"), table("summary.csv")
    for name, column in measure_columns(measure).items():
        line = f"| `{name}` | {column.unit} | {column.meaning} |"
        assert line in targets
        shown = ("mi_lower_nats", "mi_upper_nats", "mi_cap_nats", "mi_sigma_over_rms")
        assert (line in summary) is (not name.startswith("mi_") or name in shown)
    assert f"| `timing_{measure}_s` | s | seconds of this stage or measure |" in targets


def test_the_guide_explains_every_leading_figure_and_every_status() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for name in ("mi_lower_nats", "mi_upper_nats", "sigma_at_3nats", "reid_top1", "noise_bits", "eiv_bits", "dfil"):
        assert f"`{name}`" in text
    for status in ("at_ceiling", "low_ess", "critic_limited", "invalid", "deterministic", "too_few_images", "constant"):
        assert f"`{status}`" in text


@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_presets_with_a_quick_setting_measure_everything_that_is_measured_by_default(preset: str) -> None:
    suite = load_suite(preset)
    assert [m.name for m in suite.metrics] == list(DEFAULT_METRICS)
    params = next(m.params for m in suite.metrics if m.name == "mutual_information")
    assert params["seeds"] == 1
    assert params["steps"] < 200


@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_the_small_presets_leave_mine_enough_test_images(preset: str) -> None:
    suite = load_suite(preset)
    (sizes,) = (d["sizes"] for d in make_plan(suite).datasets.values())
    params = next(m.params for m in suite.metrics if m.name == "mutual_information")
    count = min(sizes["measure"], params["images"])
    part = Part(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
    assert len(divide(part, torch.Generator().manual_seed(0))[2]) >= LEAST_TEST
