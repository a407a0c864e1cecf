"""Tables and texts derived from records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import splitaudit
from splitaudit.api import Options, report, run
from splitaudit.report import timing_columns
from splitaudit.report.exported import latex, markdown
from splitaudit.report.plot_trade_off import pareto
from splitaudit.report.style import styles, wrapped
from splitaudit.report.summary import _information

TOY: dict[str, Any] = {
    "name": "report",
    "dataset": {
        "name": "photos",
        "sizes": {"client_train": 64, "client_val": 16, "private": 8, "measure": 48, "aux_train": 64, "aux_val": 16},
    },
    "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
    "defenses": ["none", "noise"],
    "attacks": ["prior", {"name": "decoder", "params": {"width": 16, "depth": 0, "epochs": 2}}],
    "metrics": ["mse", "ssim", "accuracy", "cost", "latency"],
    "training": {"epochs": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("report")
    assert run(TOY, out=at, options=Options(executor="serial", device="cpu")).exit_code == 0
    return at


def test_the_worst_case_is_the_attack_with_the_greatest_leakage(folder: Path) -> None:
    results = splitaudit.load_results(folder)
    for row in results.summary.to_dict("records"):
        of = results.cells[
            (results.cells["defense"] == row["defense"]) & (results.cells["knowledge"] == row["knowledge"])
        ].dropna(subset=["leakage"])
        best = of.loc[of["leakage"].idxmax()]
        assert (row["worst_attack"], row["leakage"]) == (best["attack"], best["leakage"])
        assert row["leakage_envelope"] >= row["leakage"]
        assert "truth in hand" in row["selection"]


def test_the_prior_has_a_leakage_score_of_zero_and_the_references_are_labelled(folder: Path) -> None:
    cells = splitaudit.load_results(folder).cells
    assert all(abs(v) < 1e-3 for v in cells[cells["attack"] == "prior"]["leakage"])
    references = cells[cells["knowledge"] == "truth (reference)"].set_index("attack")
    assert list(references.index) == ["mean_colour", "thumbnail-4", "thumbnail-8", "thumbnail-16"]
    assert references["leakage"].is_monotonic_increasing
    # Rows are scored as they would be stored, in 8 bits: an error of about 1e-6, a hundredth of a pixel here.
    assert references.loc["thumbnail-8", "equivalent_resolution"] == pytest.approx(8, abs=0.05)


@pytest.mark.full
def test_a_second_build_is_byte_identical(folder: Path) -> None:
    names = ("targets.csv", "cells.csv", "summary.csv", "per_image.csv", "summary.md", "report.html")
    before = {n: (folder / n).read_bytes() for n in names}
    plots = {p.name: p.read_bytes() for p in (folder / "plots").iterdir()}
    report(folder)
    assert {n: (folder / n).read_bytes() for n in names} == before
    assert {p.name: p.read_bytes() for p in (folder / "plots").iterdir()} == plots


def test_per_image_values_average_to_the_cells_values(folder: Path) -> None:
    results = splitaudit.load_results(folder)
    keys = ["defense", "attack", "knowledge"]
    means = results.per_image.groupby(keys)["mse"].mean()
    for row in results.cells[results.cells["knowledge"] != "truth (reference)"].to_dict("records"):
        assert means[tuple(row[k] for k in keys)] == pytest.approx(row["mse"], rel=1e-4)


def test_the_page_is_one_file_without_any_address(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") >= 5


def test_the_page_escapes_what_a_suite_says(tmp_path: Path) -> None:
    suite = {**TOY, "description": "<script>alert(1)</script>", "defenses": ["none"], "attacks": ["prior"]}
    run(suite, out=tmp_path, options=Options(executor="serial", device="cpu"))
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_latencies_are_in_timing_columns_only(folder: Path) -> None:
    results = splitaudit.load_results(folder)
    timed = timing_columns(results.summary)
    assert "timing_edge_latency_median_ms" in timed
    assert not any("latency" in c for c in results.summary.columns if c not in timed)


def test_a_censored_information_value_is_never_averaged() -> None:
    ok = {"mi_mine_status": "ok", "mi_mine_nats": 2.0, "mi_mine_lo": 1.5, "mi_mine_hi": 2.5, "mi_ceiling_nats": 5.77}
    censored = {**ok, "mi_mine_status": "at_ceiling", "mi_mine_nats": None, "mi_mine_lo": 5.2, "mi_mine_hi": None}
    assert _information([ok, ok])["mi_nats"] == 2.0
    mixed = _information([ok, censored])
    assert mixed["mi_nats"] is None
    assert ">= 5.20 (at ceiling 5.77)" in mixed["mi_text"]


def test_a_censored_information_value_is_said_with_its_upper_bound_where_there_is_one() -> None:
    censored = {"mi_mine_status": "at_ceiling", "mi_mine_nats": None, "mi_mine_lo": 5.2, "mi_ceiling_nats": 5.77}
    assert _information([{**censored, "mi_upper_nats": 11.09}])["mi_text"] == "5.20 to 11.09 (at ceiling 5.77)"
    # Bounds that contradict each other are none: only what is certified is said.
    assert _information([{**censored, "mi_upper_nats": 5.0}])["mi_text"] == ">= 5.20 (at ceiling 5.77)"


def test_the_pareto_front_holds_what_nothing_beats_in_both() -> None:
    assert pareto([(0.9, 0.9), (0.5, 0.8), (0.6, 0.7), (0.5, 0.6), (0.95, 0.85)]) == [(0.5, 0.8), (0.9, 0.9)]


def test_styles_differ_for_many_names_and_labels_are_wrapped() -> None:
    names = [f"d{i}" for i in range(60)]
    assert len(set(styles(names).values())) == 60
    assert max(len(line) for line in wrapped("nopeek+noise(sigma=0.5,relative=False)@infer").split("\n")) <= 24


def test_missing_values_are_dashes_and_special_characters_are_escaped() -> None:
    row = {"dataset": "d", "backbone": "b", "cut": "c", "defense": "a_b|c", "knowledge": "query", "leakage": math.nan}
    frame = pd.DataFrame([row])
    assert "a_b\\|c" in markdown(frame)
    assert r"a\_b|c" in latex(frame)
    assert "nan" not in markdown(frame)
