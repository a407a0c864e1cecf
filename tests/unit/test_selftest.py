"""Known-answer tests: what they accept, what they refuse, and how their verdict reaches the numbers of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import splitaudit
from splitaudit.api import Options, run
from splitaudit.cli.app import app
from splitaudit.metrics import _selftest, mutual_information
from splitaudit.metrics._bounds import Reading
from splitaudit.metrics._judging import RECOVERY, recovered
from splitaudit.metrics._selftest import known_answers, measured, over_certified
from splitaudit.metrics._selftest_gates import bounded, deterministic, flagged, not_above, nothing, within
from splitaudit.metrics._selftest_tasks import tasks
from splitaudit.metrics._twin import Twin
from splitaudit.plugins import METRICS
from splitaudit.selftest import KnownAnswer, _code, self_tests, verdict

GOOD = {
    "mi_mine_nats": 3.0,
    "mi_mine_status": "ok",
    "mi_mine_lo": 2.9,
    "mi_mine_hi": 3.1,
    "mi_lower_nats": 2.8,
    "mi_upper_nats": 3.2,
    "mi_upper_se": 0.05,
    "mi_ceiling_nats": 5.7,
}


def row(failure: str = "") -> KnownAnswer:
    return KnownAnswer("task", 1.0, 1.0, 0.9, 1.1, "ok", failure, 0.1)


# -- the tasks --------------------------------------------------------------------------------------------------------


def test_an_estimator_at_its_best_passes_a_reading_a_ceiling_and_a_wire_without_noise() -> None:
    """Three of the quick tasks, at fewer images: what the fast suite can afford."""
    some = [
        t for t in tasks(quick=True) if t.name.endswith(("features, 15 nats", "10 Gaussian features, 3 nats", "noise"))
    ]
    assert len(some) == 3
    for task in some:
        features, sigma, truth = task.make(1000)
        assert task.gate(measured(features, sigma, task.act, steps=50), truth) == "", task.name


@pytest.mark.full
def test_the_quick_self_test_passes() -> None:
    rows = list(known_answers(quick=True))
    assert verdict(rows) == "passed"
    assert len(rows) == 8


@pytest.mark.slow
def test_the_whole_self_test_passes() -> None:
    rows = list(known_answers(quick=False))
    assert verdict(rows) == "passed"
    assert len(rows) > 20


def test_the_lower_limit_of_the_exact_critic_hardly_ever_exceeds_the_truth() -> None:
    for nats in (5.0, 20.0):
        found = over_certified(10, nats, draws=40, m=300)
        assert found.failure == ""
        assert found.low is not None
        assert found.low <= math.log(300)


def test_an_estimator_that_reads_beyond_its_ceiling_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults of the field: a number at saturation, a silently low one, one for a deterministic wire."""
    truths = {t.name: t for t in tasks(quick=True)}

    def always(value: float) -> Any:
        return lambda *_: {**GOOD, "mi_mine_nats": value, "mi_lower_nats": 0.0, "mi_upper_nats": 1e4}

    for value, failing in ((8.6, "15 nats"), (0.15, "3 nats"), (4.1, "without noise"), (0.3, "independent")):
        monkeypatch.setattr(_selftest, "measured", always(value))
        rows = list(known_answers(quick=True))
        assert any(failing in r.task and r.failure for r in rows), (value, failing)
        assert verdict(rows).startswith("failed: ")
    assert {r.task for r in rows} == set(truths)


# -- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "truth", "why"),
    [
        ({}, 3.0, ""),
        ({}, 3.4, "read 3.00 nats of 3.40"),
        ({}, 2.6, "read 3.00 nats of 2.60"),
        ({"mi_mine_nats": None, "mi_mine_status": "low_ess"}, 3.0, "no value (low_ess)"),
        ({"mi_lower_nats": 3.2}, 3.0, "certified 3.2 nats of 3.00"),
        ({"mi_upper_nats": 2.8}, 3.0, "upper bound of 2.8 nats"),
        ({"mi_mine_nats": 0.12}, 0.05, ""),
    ],
)
def test_a_reading_is_accepted_near_the_truth_and_between_bounds_that_hold(
    change: dict[str, Any], truth: float, why: str
) -> None:
    found = {**GOOD, **change} if truth > 1 else {**GOOD, **change, "mi_lower_nats": 0.0}
    assert within(0.1, 0.1)(found, truth).startswith(why)
    assert bool(within(0.1, 0.1)(found, truth)) is bool(why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"mi_mine_nats": 9.0}, "gave 9.0 nats"),
        ({"mi_mine_status": "ok"}, "gave None nats"),
        ({"mi_mine_lo": 6.0}, "certified 6.0 nats, above its ceiling"),
        ({"mi_upper_nats": 130.0}, "upper bound of 130.0"),
        ({"mi_upper_nats": 96.0}, "upper bound of 96.0 nats, truth 100.00"),
    ],
)
def test_what_cannot_be_read_has_to_be_flagged_and_bounded(change: dict[str, Any], why: str) -> None:
    censored = {**GOOD, "mi_mine_nats": None, "mi_mine_status": "at_ceiling", "mi_mine_lo": 5.6, "mi_lower_nats": 5.6}
    found = {**censored, "mi_upper_nats": 103.0, **change}
    assert flagged(0.05)(found, 100.0).startswith(why)
    assert bool(flagged(0.05)(found, 100.0)) is bool(why)


def test_hard_tasks_may_read_low_and_never_high() -> None:
    assert not_above({**GOOD, "mi_mine_nats": 0.5, "mi_lower_nats": 0.0}, 3.0) == ""
    assert "read 3.00 nats of 2.50" in not_above(GOOD, 2.5)
    assert not_above({**GOOD, "mi_mine_nats": None}, 3.0) == ""


def test_nothing_and_deterministic_have_their_own_gates() -> None:
    none = {**GOOD, "mi_lower_nats": 0.0}
    assert nothing({**none, "mi_mine_nats": 0.04}, 0.0) == ""
    assert "certified 2.8 nats of 0.00" in nothing({**GOOD, "mi_lower_nats": 2.8, "mi_mine_nats": 0.04}, 0.0)
    assert "where there are none" in nothing({**GOOD, "mi_mine_nats": 0.2}, 0.0)
    assert "where there are none" in nothing({**GOOD, "mi_mine_nats": None}, 0.0)
    assert deterministic({"mi_mine_status": "deterministic", "mi_mine_nats": None}, math.inf) == ""
    assert "without noise" in deterministic(GOOD, math.inf)
    assert "certified None" in bounded({**GOOD, "mi_lower_nats": None}, 3.0)


# -- twins ------------------------------------------------------------------------------------------------------------


def reading(value: float, spread: float = 0.05, **change: float) -> Reading:
    fields = {"nce": value, "nce_low": value - 0.1, "ceiling": 6.0, "ess": 1e4}
    return Reading(value, value - spread, value + spread, **{**fields, **change})


@pytest.mark.parametrize(
    ("value", "true", "status"),
    [
        (2.0, 2.0, "ok"),
        (1.65, 2.0, "ok"),
        (1.5, 2.0, "critic_limited"),
        (0.01, 2.0, "critic_limited"),
        (2.4, 2.0, "invalid"),
        (0.03, 0.06, "ok"),
        (0.13, 0.06, "ok"),
    ],
)
def test_an_estimator_that_misreads_its_twin_is_not_believed(value: float, true: float, status: str) -> None:
    """The silent low reading: 0.15 nats of 5 known ones, with no other sign that anything is wrong."""
    assert recovered(Twin(true, reading(value), 1.0), readable=True)[0] == status
    assert RECOVERY == (0.8, 1.1)


def test_a_twin_that_cannot_be_read_is_judged_by_what_is_certified_of_it() -> None:
    assert recovered(Twin(4.0, reading(4.4, nce_low=3.4), 1.0), readable=False)[0] == "ok"
    assert recovered(Twin(4.0, reading(4.4, nce_low=2.0), 1.0), readable=False)[0] == "critic_limited"


def test_an_estimate_above_the_upper_bound_is_invalid_and_one_below_the_lower_is_critic_limited() -> None:
    judge = mutual_information.judged
    found: dict[str, Any] = {"mi_lower_nats": 1.9, "mi_upper_nats": 2.3}
    assert judge(reading(2.1), reading(2.1), found)[0] == "ok"
    assert judge(reading(2.5), reading(2.1), found)[0] == "invalid"
    assert judge(reading(1.7), reading(1.7), found)[0] == "critic_limited"
    assert judge(reading(5.5), reading(5.5), found)[0] == "at_ceiling"


# -- the framework ----------------------------------------------------------------------------------------------------


def test_the_verdict_names_every_task_that_failed() -> None:
    assert verdict([row(), row()]) == "passed"
    assert verdict([row("read 9"), row(), row("no value")]) == "failed: task: read 9; task: no value"
    assert row("read 9").verdict == "FAIL: read 9"
    assert json.dumps(KnownAnswer("t", math.inf, None, None, None, "ok", "", 0.1).dump(), allow_nan=False)


def test_a_verdict_is_remembered_under_the_versions_that_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def fake(quick: bool = True) -> Iterator[KnownAnswer]:
        ran.append(quick)
        yield row("read 9")

    cls = METRICS.get("mutual_information")
    monkeypatch.setattr(cls, "self_test", fake)
    for _ in range(2):
        known: dict[str, str] = {}
        self_tests(["mutual_information", "cost"], tmp_path, known)
        assert known == {"mutual_information": "failed: task: read 9", "cost": ""}
    assert ran == [True]
    monkeypatch.setattr(cls, "version", cls.version + 1)
    self_tests(["mutual_information"], tmp_path, {})
    assert ran == [True, True]
    stored = [json.loads(p.read_text()) for p in tmp_path.glob("selftest-*.json")]
    assert [s["verdict"] for s in stored] == ["failed: task: read 9"] * 2
    assert stored[0]["rows"][0]["failure"] == "read 9"


def test_a_verdict_is_forgotten_when_a_file_beside_the_measure_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimators lie in files of their own: with the measure's version alone an edit would keep a stale verdict."""
    (tmp_path / "measures").mkdir()
    (tmp_path / "measures" / "one.py").write_text("class One: ...")
    helper = tmp_path / "measures" / "_helper.py"
    helper.write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path / "measures"))
    from one import One  # pyright: ignore[reportMissingImports]

    before = _code(One)
    helper.write_text("x = 2")
    assert _code(One) != before
    helper.write_text("x = 1")
    assert _code(One) == before != ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"mi_lower_nats": 0.0}, "say little"),
        ({"mi_upper_nats": math.inf}, "say little"),
        ({"mi_upper_nats": 2.5}, "upper bound of 2.5"),
        ({"mi_lower_nats": 3.3}, "certified 3.3"),
        ({"mi_mine_nats": 2.0}, "read 2.00"),
    ],
)
def test_limits_that_hold_of_anything_are_not_accepted(change: dict[str, float], why: str) -> None:
    found = {
        "mi_mine_nats": 3.0,
        "mi_mine_status": "ok",
        "mi_lower_nats": 2.8,
        "mi_upper_nats": 3.2,
        "mi_upper_se": 0.05,
    }
    failure = within(0.1, 0.1)({**found, **change}, 3.0)
    assert (why in failure) if why else failure == ""


def test_a_self_test_that_breaks_down_has_failed_and_is_tried_again_in_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(quick: bool = True) -> Iterator[KnownAnswer]:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(METRICS.get("mutual_information"), "self_test", broken)
    known: dict[str, str] = {}
    self_tests(["mutual_information"], tmp_path, known)
    assert known == {"mutual_information": "failed: RuntimeError: out of cheese"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_tests_on_one_thread_and_gives_the_threads_back(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(quick: bool = True) -> Iterator[KnownAnswer]:
        seen.append(torch.get_num_threads())
        if fails:
            raise RuntimeError("out of cheese")
        yield row()

    monkeypatch.setattr(METRICS.get("mutual_information"), "self_test", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        self_tests(["mutual_information"], tmp_path, {})
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (seen, after) == ([1], 3)


PLUGIN = '''
from splitaudit.metric import Column, Measure, Measurement
from splitaudit.selftest import KnownAnswer


class Guess(Measure):
    """Guesses a number."""

    version = 1
    source = "own"
    columns = {"guess": Column("", "neither", "a guess"), "guess_selftest": Column("", "neither", "verdict")}

    @classmethod
    def self_test(cls, quick=True):
        yield KnownAnswer("two and two", 4.0, 5.0, None, None, "ok", "read 5", 0.0)

    def measure(self, context):
        verdict = context.self_tests.get(self.name, "not run")
        return Measurement({"guess": None, "guess_selftest": verdict}, reason=f"n/a (self-test {verdict})")
'''


def test_a_run_hands_the_verdict_to_the_measure_and_knows_no_measure_by_name(tmp_path: Path) -> None:
    path = tmp_path / "guess.py"
    path.write_text(PLUGIN)
    sizes = {"client_train": 64, "client_val": 16, "private": 8, "measure": 48, "aux_train": 64, "aux_val": 16}
    suite = {
        "name": "toy",
        "dataset": {"name": "photos", "sizes": sizes},
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none"],
        "attacks": ["prior"],
        "metrics": ["mse", "local/guess"],
        "training": {"epochs": 1},
    }
    options = Options(executor="serial", device="cpu", offline=True, plugins=(str(path),))
    assert run(suite, out=tmp_path / "run", options=options).exit_code == 0
    targets = splitaudit.load_results(tmp_path / "run").targets
    assert set(targets["guess_selftest"]) == {"failed: two and two: read 5"}
    assert all("n/a (self-test failed: two and two: read 5)" in r for r in targets["reason"])
    assert len(list((tmp_path / "run" / "cache").glob("selftest-*.json"))) == 1


# -- the command ------------------------------------------------------------------------------------------------------


def invoke(monkeypatch: pytest.MonkeyPatch, rows: list[KnownAnswer], *arguments: str) -> Any:
    monkeypatch.setattr(METRICS.get("mutual_information"), "self_test", lambda quick=True: iter(rows))
    return CliRunner().invoke(app, ["selftest", *arguments])


def test_the_command_prints_a_line_per_task_and_exits_1_if_any_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    good = invoke(monkeypatch, [row(), row()], "mi", "--quick")
    assert good.exit_code == 0
    assert "mutual_information: passed (2 tasks" in good.stdout
    bad = invoke(monkeypatch, [row(), row("read 9")], "mi")
    assert bad.exit_code == 1
    assert "FAIL: read 9" in bad.stdout
    assert "[0.90, 1.10]" in bad.stdout


def test_the_command_prints_json_where_a_script_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = invoke(monkeypatch, [row("read 9")], "mi", "--json")
    answer = json.loads(found.stdout)
    assert answer["verdict"] == "failed: task: read 9"
    assert answer["rows"][0]["truth"] == 1.0
    assert found.exit_code == 1


@pytest.mark.parametrize("name", ["mj", "cost", "mse"])
def test_a_name_without_known_answers_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = invoke(monkeypatch, [row()], name)
    assert found.exit_code != 0
    assert "selftest mi" in str(found.exception)


def test_the_self_test_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    features = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    measured(features, 1.0, steps=20)
    assert torch.equal(before, torch.random.get_rng_state())
