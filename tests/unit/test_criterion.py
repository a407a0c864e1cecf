"""The criterion: rank correlations of what is measured with what the strongest attack reaches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from splitaudit.plan import Plan
from splitaudit.report.criterion import build_criterion, main_quantities, points, quantities, spearman
from splitaudit.report.plot_criterion import criterion as draw

METRICS = [{"name": n, "params": {}} for n in ("mse", "entropy", "mutual_information")]


def plan() -> Plan:
    return Plan({"metrics": METRICS}, datasets={"d": {"image_shape": [3, 8, 8], "classes": ["a"], "sizes": {}}})


def frames(
    count: int, entropy: Any = lambda i: float(i), mi: Any = lambda i: 1.0, seeds: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns targets whose strongest attack's error falls with i, and their cells: a strong and a weak attack each."""
    targets, cells = [], []
    for i in range(count):
        for seed in range(seeds):
            key = f"t{i}-{seed}"
            place = {"dataset": "d", "backbone": "b", "cut": "c", "defense": f"x{i}", "seed": seed}
            value = mi(i)
            information = {
                "mi_mine_nats": value,
                "mi_mine_lo": 4.0,
                "mi_mine_status": "at_ceiling" if math.isnan(value) else "ok",
            }
            targets.append({**place, "key": key, "status": "done", "entropy_bits": entropy(i), **information})
            for attack, mse in (("strong", 1 / (1 + i)), ("weak", 1.0)):
                cells.append(
                    {**place, "target": key, "status": "done", "attack": attack, "knowledge": "query", "mse": mse}
                )
            cells.append({**cells[-1], "knowledge": "truth (reference)", "mse": 0.0})
    return pd.DataFrame(targets), pd.DataFrame(cells)


def row(found: pd.DataFrame, quantity: str) -> dict[str, Any]:
    return found[found["quantity"] == quantity].to_dict("records")[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_rank_correlation_is_scipys_ties_included(seed: int) -> None:
    g = np.random.default_rng(seed)
    a, b = g.integers(0, 6, 20), g.normal(size=20)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    times = g.multinomial(20, np.full(20, 1 / 20))
    repeated = spearmanr(np.repeat(a, times), np.repeat(b, times)).statistic
    assert spearman(a, b, times) == pytest.approx(repeated, abs=1e-12)


def test_quantities_are_the_columns_that_mean_more_leakage_without_the_ends_of_intervals() -> None:
    names = quantities(plan())
    assert {"entropy_bits", "mi_mine_nats", "v_info_nats"} <= set(names)
    assert not {"mi_mine_lo", "mi_mine_hi", "mi_ess", "entropy_bits_se"} & set(names)


def test_figures_leave_out_what_only_accompanies_a_main_quantity() -> None:
    shown, every = main_quantities(plan()), quantities(plan())
    assert {"mi_mine_nats", "mi_lower_nats", "mi_upper_nats", "sigma_at_3nats", "entropy_bits", "v_info_nats"} <= set(
        shown
    )
    left_out = set(every) - set(shown)
    assert {"mi_lower_nats_at_8", "mi_upper_nats_at_0.5", "entropy_bits_indep"} <= left_out
    assert not left_out & {"mi_upper_nats_8bit", "reid_top1"}


def test_the_error_is_that_of_the_strongest_attack_and_never_of_a_reference_row() -> None:
    some = points(plan(), *frames(4), "d")
    assert [p.error for p in some] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert {p.attack for p in some[1:]} == {"strong"}


def test_a_quantity_that_falls_as_the_error_rises_predicts() -> None:
    found = row(build_criterion(plan(), *frames(12)), "entropy_bits")
    assert found["spearman"] == pytest.approx(-1)
    assert (found["verdict"], found["targets"], found["censored"]) == ("predicts", 12, 0)


def test_a_quantity_that_rises_with_the_error_predicts_the_opposite() -> None:
    found = row(build_criterion(plan(), *frames(12, entropy=lambda i: -float(i))), "entropy_bits")
    assert found["verdict"] == "predicts the opposite"


def test_a_quantity_without_relation_is_not_shown_to_predict() -> None:
    noise = np.random.default_rng(0).normal(size=20)
    found = row(build_criterion(plan(), *frames(20, entropy=lambda i: noise[i])), "entropy_bits")
    assert found["verdict"] == "not shown to predict"
    assert found["spearman_lo"] < 0 < found["spearman_hi"]


def test_censored_values_are_counted_and_not_ranked() -> None:
    """Six readings at the ceiling carry a lower limit; ranked as values they would hide the relation of the others."""
    mi = lambda i: float("nan") if i < 6 else float(i)  # noqa: E731
    found = row(build_criterion(plan(), *frames(14, mi=mi)), "mi_mine_nats")
    assert (found["targets"], found["censored"], found["missing"]) == (8, 6, 0)
    assert found["spearman"] == pytest.approx(-1)
    some = points(plan(), *frames(14, mi=mi), "d")
    assert some[0].values["mi_mine_nats"] is None
    assert some[0].limits == {"mi_mine_nats": 4.0}


def test_seeds_of_one_target_are_no_independent_targets() -> None:
    found = row(build_criterion(plan(), *frames(3, seeds=4)), "entropy_bits")
    assert math.isnan(found["spearman"])
    assert found["verdict"].startswith("3 independent targets")


def test_a_quantity_that_never_changes_has_no_correlation() -> None:
    found = row(build_criterion(plan(), *frames(8, entropy=lambda i: 5.0)), "entropy_bits")
    assert math.isnan(found["spearman"])
    assert "the same for all targets" in found["verdict"]


def test_a_failed_target_is_in_no_correlation() -> None:
    targets, cells = frames(8)
    targets.loc[0, "status"] = "failed"
    assert row(build_criterion(plan(), targets, cells), "entropy_bits")["targets"] == 7


def test_the_figure_has_a_panel_per_quantity_with_values_and_says_what_is_censored() -> None:
    mi = lambda i: float("nan") if i < 6 else float(i)  # noqa: E731
    targets, cells = frames(14, mi=mi)
    found = build_criterion(plan(), targets, cells)
    figure = draw(points(plan(), targets, cells, "d"), found, {})
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert len(titles) == 2
    assert any("predicts" in t and "6\ncensored" in t.replace(" ", "\n") for t in titles)
