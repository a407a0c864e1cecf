"""The criterion: rank correlations of what is measured with what the strongest attack reaches."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audited_records import Errors, audited
from scipy.stats import spearmanr

from splitaudit.plan import Node, Plan
from splitaudit.report.criterion import LEAST, Point, build_criterion, main_quantities, points, quantities
from splitaudit.report.meanings import CRITERION
from splitaudit.report.plot_criterion import criterion as draw
from splitaudit.report.ranks import correlation, spearman
from splitaudit.report.spared import spared_targets
from splitaudit.stats import bootstrap_weights

METRICS = [{"name": n, "params": {}} for n in ("mse", "entropy", "mutual_information")]


def plan() -> Plan:
    return Plan({"metrics": METRICS}, datasets={"d": {"image_shape": [3, 8, 8], "classes": ["a"], "sizes": {}}})


def frames(
    count: int,
    entropy: Any = lambda i: float(i),
    mi: Any = lambda i: 1.0,
    seeds: int = 1,
    *,
    cut: Any = lambda i: "c",
    error: Any = lambda i: 1 / (1 + i),
    attacks: dict[str, Any] | None = None,
    status: str = "at_ceiling",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns targets whose strongest attack's error falls with i, and their cells: a strong and a weak attack each.

    ``attacks`` adds some, label to (error, usable information) of i.
    """
    targets, cells = [], []
    for i in range(count):
        for seed in range(seeds):
            key = f"t{i}-{seed}"
            place = {"dataset": "d", "backbone": "b", "cut": cut(i), "defense": f"x{i}", "seed": seed}
            value = mi(i)
            information = {
                "mi_mine_nats": value,
                "mi_mine_lo": 4.0,
                "mi_mine_status": status if math.isnan(value) or status == "constant" else "ok",
            }
            targets.append({**place, "key": key, "status": "done", "entropy_bits": entropy(i), **information})
            own = {"strong": (error(i), 5.0 - error(i)), "weak": (1.0, float("nan"))}
            more = {name: f(i) for name, f in (attacks or {}).items()}
            for attack, (mse, usable) in (own | more).items():
                cell = {**place, "target": key, "key": f"{key}-{attack}", "status": "done", "attack": attack}
                cells.append({**cell, "knowledge": "query", "mse": mse, "v_info_nats": usable})
            cells.append({**cells[-1], "knowledge": "truth (reference)", "mse": 0.0})
    return pd.DataFrame(targets), pd.DataFrame(cells)


def row(found: pd.DataFrame, quantity: str) -> dict[str, Any]:
    return found[found["quantity"] == quantity].to_dict("records")[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_rank_correlation_is_scipys_ties_included(seed: int) -> None:
    g = np.random.default_rng(seed)
    a, b = g.integers(0, 6, 20), g.normal(size=20)
    assert spearman(a, b)[0] == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    times = g.multinomial(20, np.full(20, 1 / 20), size=3)
    repeated = [spearmanr(np.repeat(a, t), np.repeat(b, t)).statistic for t in times]
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


def twinned(count: int, **given: Any) -> tuple[Plan, pd.DataFrame, pd.DataFrame]:
    """Returns plan and frames of so many targets, each twice: with the cloud as it was and with one trained anew."""
    given = {name: (lambda i, f=f: f(i % count)) for name, f in given.items()}
    made = plan()
    for i in range(2 * count):
        when = "infer" if i < count else "infer+cloud"
        defense = {"parts": [{"name": f"x{i % count}"}], "when": when}
        made.nodes["target", f"t{i}-0"] = Node("target", f"t{i}-0", {"defense": defense, "seed": 0})
    return made, *frames(2 * count, **given)


def test_targets_with_one_wire_are_one_independent_target() -> None:
    """A cloud that was trained anew leaves the edge and the error as they are: it is no further evidence."""
    ranks = (0, 4, 5, 1, 2, 3, 7, 6)
    how: dict[str, Any] = {"entropy": lambda i: float(ranks[i]), "error": lambda i: 1 / (1 + i)}
    once = row(build_criterion(plan(), *frames(8, **how)), "entropy_bits")
    twice = row(build_criterion(*twinned(8, **how)), "entropy_bits")
    for name in ("spearman", "spearman_lo", "spearman_hi", "spearman_p", "spearman_within_hi", "spearman_within_p"):
        assert twice[name] == pytest.approx(once[name])
    assert twice["verdict"] == once["verdict"] == "not shown to predict"
    counted_apart = row(build_criterion(plan(), *twinned(8, **how)[1:]), "entropy_bits")
    assert counted_apart["spearman_p"] < 0.05 < once["spearman_p"]
    assert counted_apart["verdict"] == "predicts"


def test_twins_do_not_make_up_for_too_few_targets() -> None:
    how: dict[str, Any] = {"entropy": float, "error": lambda i: 1 / (1 + i)}
    found = row(build_criterion(*twinned(LEAST - 1, **how)), "entropy_bits")
    assert found["verdict"] == f"{LEAST - 1} independent targets, at least {LEAST} are needed"
    assert found["targets"] == 2 * (LEAST - 1)


def test_targets_that_were_spared_the_strongest_attack_have_no_part() -> None:
    """The three leakiest refused it and entered with the weak one's error, as the safest: −1 became 0.16."""
    targets, cells = frames(12)
    refused = cells["target"].isin([f"t{i}-0" for i in (9, 10, 11)]) & (cells["attack"] == "strong")
    some = (plan(), targets, cells[~refused])
    assert row(build_criterion(*some), "entropy_bits")["spearman"] > -0.5
    found = row(build_criterion(*some, {f"t{i}-0" for i in (9, 10, 11)}), "entropy_bits")
    assert (found["spearman"], found["targets"], found["incomplete"]) == (pytest.approx(-1), 9, 3)


def test_the_spared_are_those_on_which_what_decides_elsewhere_was_not_made() -> None:
    errors: Errors = {(f"x{i}", a, s): e for i in range(4) for a, e in (("strong", 0.1), ("weak", 0.5)) for s in (0, 1)}
    del errors["x3", "strong", 0], errors["x3", "strong", 1]
    made, records = audited(errors)
    assert spared_targets(made, records) == {"x3-0", "x3-1"}
    weaker: Errors = errors | {("x3", "strong", s): 0.4 for s in (0, 1)}
    made, records = audited(weaker)
    assert spared_targets(made, records) == set()
    for s in (0, 1):
        made.nodes["cell", f"x3-strong-{s}"].identity["knowledge"] = {"edge": "query", "aux_count": 100}
    assert spared_targets(made, records) == {"x3-0", "x3-1"}  # made there with fewer means only
    made, records = audited(errors)
    for cell in made.cells:
        if cell["attack"] == "strong" and cell["defense"] != "x0":
            cell["knowledge"] = "query:16"
    assert spared_targets(made, records) == set()  # at one draw it is an attack on one target alone


def test_an_error_of_several_received_draws_is_not_set_beside_what_is_measured_of_one() -> None:
    targets, cells = frames(12)
    averaged = cells[(cells["attack"] == "strong") & cells["target"].isin([f"t{i}-0" for i in range(5)])]
    averaged = averaged.assign(knowledge="query:16", mse=0.001, key=averaged["key"] + "-16")
    found = row(build_criterion(plan(), targets, pd.concat([cells, averaged])), "entropy_bits")
    assert (found["spearman"], found["targets"]) == (pytest.approx(-1), 12)


def test_a_quantity_that_rises_with_the_error_predicts_the_opposite() -> None:
    found = row(build_criterion(plan(), *frames(12, entropy=lambda i: -float(i))), "entropy_bits")
    assert found["verdict"] == "predicts the opposite"


def test_a_quantity_without_relation_is_not_shown_to_predict() -> None:
    noise = np.random.default_rng(0).normal(size=20)
    found = row(build_criterion(plan(), *frames(20, entropy=lambda i: noise[i])), "entropy_bits")
    assert found["verdict"] == "not shown to predict"
    assert found["spearman_lo"] < 0 < found["spearman_hi"]


def test_censored_values_are_counted_and_not_ranked() -> None:
    """Readings at the ceiling carry a lower limit; ranked as values they would hide the relation of the others."""
    mi = lambda i: float("nan") if i < 3 else float(i)  # noqa: E731
    found = row(build_criterion(plan(), *frames(14, mi=mi)), "mi_mine_nats")
    assert (found["targets"], found["censored"], found["missing"]) == (11, 3, 0)
    assert found["spearman"] == pytest.approx(-1)
    assert found["verdict"] == "predicts"
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


@pytest.mark.parametrize("status", ["failed", "not run", "skipped"])
def test_a_target_at_which_an_attack_is_missing_is_in_no_correlation(status: str) -> None:
    """Here the strong attack is missing at one target: ranked by the weak one, that would be the safest of all."""
    targets, cells = frames(8)
    cells.loc[(cells["target"] == "t7-0") & (cells["attack"] == "strong"), ["status", "mse"]] = [status, float("nan")]
    found = row(build_criterion(plan(), targets, cells), "entropy_bits")
    assert (found["targets"], found["incomplete"]) == (7, 1)
    assert found["spearman"] == pytest.approx(-1)


def test_an_attack_that_cannot_be_is_not_missing() -> None:
    targets, cells = frames(8)
    more = {**cells.iloc[0].to_dict(), "status": "skipped", "key": "", "attack": "needs more", "mse": float("nan")}
    cells = pd.concat([cells, pd.DataFrame([more])], ignore_index=True)
    found = row(build_criterion(plan(), targets, cells), "entropy_bits")
    assert (found["targets"], found["incomplete"]) == (8, 0)


def test_where_every_target_lacks_an_attack_that_is_said() -> None:
    targets, cells = frames(8)
    cells.loc[cells["attack"] == "strong", ["status", "mse"]] = ["not run", float("nan")]
    found = row(build_criterion(plan(), targets, cells), "entropy_bits")
    assert (found["targets"], found["incomplete"]) == (0, 8)


def test_the_figure_has_a_panel_per_quantity_with_values_and_says_what_is_censored() -> None:
    mi = lambda i: float("nan") if i < 6 else float(i)  # noqa: E731
    targets, cells = frames(14, mi=mi)
    found = build_criterion(plan(), targets, cells)
    figure = draw(points(plan(), targets, cells, "d"), found, {})
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert len(titles) == 2
    assert any("not decided: 6 of 14 censored" in t.replace("\n", " ") for t in titles)


def test_where_many_targets_are_censored_there_is_no_verdict() -> None:
    """Those that are left are the ones that leak little: a correlation over them says nothing of the others."""
    mi = lambda i: float("nan") if i > 9 else float(i)  # noqa: E731
    found = row(build_criterion(plan(), *frames(14, mi=mi)), "mi_mine_nats")
    assert found["verdict"] == "not decided: 4 of 14 censored"
    assert found["spearman"] == pytest.approx(-1)
    few = row(build_criterion(plan(), *frames(14, mi=lambda i: float("nan") if i > 2 else float(i))), "mi_mine_nats")
    assert few["verdict"] == "not decided: 11 of 14 censored"


def test_constant_features_carry_no_information_which_is_a_value() -> None:
    zero = frames(4, mi=lambda i: 0.0, status="constant")
    found = row(build_criterion(plan(), *zero), "mi_mine_nats")
    assert (found["targets"], found["censored"]) == (4, 0)


def test_the_usable_information_is_that_of_another_attack_than_the_one_whose_error_is_predicted() -> None:
    """Its own is a function of that error: it would rank as the error does, whatever leaks."""
    other = {
        "strong(steps=2)": lambda i: (1 / (1.1 + i) + 1e-3, 100.0 + i),
        "decoder(width=4)": lambda i: (2.0, 7.0 + i % 2),
        "prior": lambda i: (1.5, 0.0),
    }
    some = points(plan(), *frames(8, attacks=other), "d")
    assert [p.values["v_info_nats"] for p in some[1:]] == [7.0 + i % 2 for i in range(1, 8)]
    found = row(build_criterion(plan(), *frames(8, attacks=other)), "v_info_nats")
    assert abs(found["spearman"]) < 0.9


def test_with_a_single_attack_there_is_no_usable_information_to_compare() -> None:
    found = row(build_criterion(plan(), *frames(8, attacks={"prior": lambda i: (1.5, 0.0)})), "v_info_nats")
    assert (found["targets"], found["missing"]) == (0, 8)


def by_cut(within: float, count: int = 27) -> dict[str, Any]:
    """Returns a quantity and an error that both depend on the cut, and on each other within it as far as ``within``."""
    g = np.random.default_rng(1)
    own = g.normal(size=count) * 0.3
    quantity = [i % 3 + within * own[i] + (1 - within) * 0.3 * g.normal() for i in range(count)]
    return {
        "cut": lambda i: f"cut{i % 3}",
        "entropy": lambda i: quantity[i],
        "error": lambda i: (4 - i % 3 - own[i]) / 10,
    }


def test_a_quantity_that_only_tells_cuts_apart_does_not_predict() -> None:
    found = row(build_criterion(plan(), *frames(27, **by_cut(0.0))), "entropy_bits")
    assert found["spearman_hi"] < 0
    assert found["spearman_within_lo"] < 0 < found["spearman_within_hi"]
    assert found["verdict"] == "predicts across cuts only"


def test_a_quantity_that_predicts_across_and_within_cuts_predicts() -> None:
    found = row(build_criterion(plan(), *frames(27, **by_cut(1.0))), "entropy_bits")
    assert found["spearman_within"] == pytest.approx(-1)
    assert (found["verdict"], found["targets_within"]) == ("predicts", 27)


def test_a_quantity_whose_scale_changes_with_the_cut_may_predict_within_cuts_only() -> None:
    """A wire's size changes its bits more than any defense does: across cuts, nothing is left of the relation."""
    bits = (1, 3, 0, 2)
    found = frames(
        28,
        cut=lambda i: f"cut{i % 4}",
        entropy=lambda i: 100.0 * bits[i % 4] + i,
        error=lambda i: 0.2 * (i % 4 + 1) - i / 500,
    )
    assert row(build_criterion(plan(), *found), "entropy_bits")["verdict"] == "predicts within cuts only"


def test_within_cuts_equals_across_them_where_there_is_one() -> None:
    noise = np.random.default_rng(3).normal(size=12)
    found = row(build_criterion(plan(), *frames(12, entropy=lambda i: i + 4 * noise[i])), "entropy_bits")
    for end in ("", "_lo", "_hi", "_p"):
        assert found["spearman_within" + end] == found["spearman" + end]


def test_a_cut_with_two_targets_is_not_compared_within() -> None:
    targets = frames(10, cut=lambda i: "pair" if i < 2 else "many")
    assert row(build_criterion(plan(), *targets), "entropy_bits")["targets_within"] == 8


def test_the_correlation_within_strata_is_that_of_their_centred_ranks() -> None:
    a, b = [1, 2, 3, 30, 20, 10, 0], [5, 6, 7, 1, 3, 2, 0]
    strata = [0, 0, 0, 1, 1, 1, 1]
    u, v = (np.array([-1, 0, 1, 0, 0, 0, 0]) / 3 for _ in range(2))
    u[3:], v[3:] = np.array([1.5, 0.5, -0.5, -1.5]) / 4, np.array([-0.5, 1.5, 0.5, -1.5]) / 4
    found = correlation(a, b, range(7), strata)
    assert found is not None
    assert found.rho == pytest.approx(u @ v / math.sqrt((u @ u) * (v @ v)))


@pytest.mark.parametrize("quantity", ["all differ", "one apart", "two values"])
@pytest.mark.parametrize("count", [LEAST, 9])
def test_unrelated_quantities_rarely_get_a_verdict(count: int, quantity: str) -> None:
    """Of the intervals alone a tenth to a half leave out 0 where values tie; 5 % are meant to (here 60 draws: at most 8)."""
    g = np.random.default_rng(count)
    hits = 0
    for _ in range(60):
        values = {
            "all differ": g.normal(size=count),
            "one apart": (np.arange(count) == 0) * 1.0,
            "two values": (np.arange(count) < count // 2) * 1.0,
        }[quantity]
        found = correlation(values, g.normal(size=count), range(count))
        hits += found is not None and found.sign != 0
    assert hits <= 8


def test_permutations_give_the_exact_share_of_a_small_sample() -> None:
    found = correlation([1, 2, 3, 4], [1, 2, 3, 4], range(4))
    assert found is not None
    assert found.p == pytest.approx(2 / 24, abs=0.02)
    repeated = correlation([1, 2, 3, 4] * 5, [1, 2, 3, 4] * 5, [0, 1, 2, 3] * 5)
    assert repeated is not None
    assert repeated.p == pytest.approx(2 / 24, abs=0.02)  # repeats of one target are no further evidence


def test_a_correlation_of_zero_is_not_beside_zero() -> None:
    """Rounding must not push the end of an interval off 0, where the verdict changes."""
    weights = bootstrap_weights(6)
    drawn = [spearman(range(6), order, weights) for order in itertools.islice(itertools.permutations(range(6)), 40)]
    sizes = np.abs(np.concatenate(drawn))
    assert (sizes == 0).any()
    assert not ((sizes > 0) & (sizes < 1e-6)).any()


def test_a_point_lies_where_its_cluster_does() -> None:
    assert Point("", ("d", "b", "c", "x"), 1.0, "a", {}, {}).place == ("d", "b", "c")


def test_the_results_format_describes_the_columns_of_the_criterion() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results-format.md").read_text()
    lines = text.split("### criterion.csv\n", 1)[1].split("\n### ", 1)[0].splitlines()
    found = build_criterion(plan(), *frames(8))
    assert list(found.columns) == list(CRITERION)
    for name, (unit, meaning) in CRITERION.items():
        assert f"| `{name}` | {unit} | {meaning} |" in lines
