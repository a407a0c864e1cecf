"""How checks are run: outcomes for people, cases for pytest, declared failures, the two sizes."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from kit_toys import ToyAttack, ToyDefense, ToyMeasure, ToyMetric
from test_kit_defense_wire import CentresTheBatch
from test_kit_measure import NeedsMaps
from test_kit_metric import KeepsAnAxis, PointsTheOtherWay

from splitaudit.testing import CheckFailed, check_metric, check_plugin, checks_of, parametrize_with_checks, run_check

pytest_plugins = ("pytester",)

AXIS = "check_one_value_per_image"
REASON = "returns a column by design"


def by_name(outcomes: list[Any]) -> dict[str, Any]:
    return {o.check: o for o in outcomes}


def test_a_declared_failure_is_the_expected_outcome() -> None:
    found = by_name(check_metric(KeepsAnAxis, {AXIS: REASON}))
    assert not found[AXIS].passed
    assert found[AXIS].expected_failure == REASON
    assert all(o.ok for o in found.values())
    assert not by_name(check_metric(KeepsAnAxis))[AXIS].ok


def test_a_declared_failure_that_does_not_happen_is_not_the_expected_outcome() -> None:
    found = by_name(check_metric(ToyMetric, {AXIS: REASON}))
    assert found[AXIS].passed
    assert [o.check for o in found.values() if not o.ok] == [AXIS]


@pytest.mark.parametrize("declared", [{"check_nothing": "x"}, {"Other.check_declaration": "x"}])
def test_a_declared_failure_of_no_check_is_an_error_that_names_it(declared: dict[str, str]) -> None:
    name = next(iter(declared))
    with pytest.raises(ValueError, match=f"expected_failures names {name}, which is no check"):
        check_plugin(ToyMetric, declared)
    with pytest.raises(ValueError, match=f"expected_failures names {name}, which is no check"):
        parametrize_with_checks([ToyMetric], expected_failures=declared)


def test_what_a_plugin_raises_is_its_outcome_with_the_place() -> None:
    outcome = by_name(check_plugin(NeedsMaps))["check_vector_features"]
    assert outcome.message.startswith("the plugin raised IndexError: Dimension out of range")
    assert "(test_kit_measure.py:" in outcome.message
    assert outcome.message.endswith("in measure)")


@pytest.mark.parametrize("cls", [ToyDefense, ToyAttack, ToyMetric, ToyMeasure])
def test_the_two_sizes_together_are_all_checks(cls: Any) -> None:
    fast, full = checks_of(cls, "fast"), checks_of(cls, "full")
    assert sorted(c.__name__ for c in (*fast, *full)) == sorted(c.__name__ for c in checks_of(cls))
    assert not set(fast) & set(full)


def test_what_is_no_plugin_has_no_checks() -> None:
    with pytest.raises(
        TypeError, match="got <class 'dict'>, expected a subclass of Defense, Attack, Metric or Measure"
    ):
        checks_of(dict)


def test_a_check_that_does_not_apply_is_skipped_with_its_reason() -> None:
    (check,) = (c for c in checks_of(ToyMetric) if c.__name__ == "check_agrees_with_its_reference")
    with pytest.raises(pytest.skip.Exception, match="no reference is named"):
        run_check(check, ToyMetric)


def test_what_a_plugin_raises_in_pytest_is_a_failed_check() -> None:
    (check,) = (c for c in checks_of(NeedsMaps) if c.__name__ == "check_vector_features")
    with pytest.raises(CheckFailed, match="the plugin raised IndexError") as caught:
        run_check(check, NeedsMaps)
    assert isinstance(caught.value.__cause__, IndexError)


def test_pytest_gets_a_case_for_every_check_of_every_class_with_a_readable_name() -> None:
    cases = parametrize_with_checks([ToyMetric, CentresTheBatch], size="fast").args[1]
    expected = [
        f"{c.__name__}-{check.__name__}" for c in (ToyMetric, CentresTheBatch) for check in checks_of(c, "fast")
    ]
    assert [case.id for case in cases] == expected
    assert not any(case.marks for case in cases)


def test_a_failure_may_be_declared_for_one_of_several_classes() -> None:
    decorator = parametrize_with_checks(
        [KeepsAnAxis, PointsTheOtherWay], expected_failures={f"KeepsAnAxis.{AXIS}": REASON}
    )
    marked = [case for case in decorator.args[1] if case.marks]
    assert [case.id for case in marked] == [f"KeepsAnAxis-{AXIS}"]
    assert marked[0].marks[0].kwargs["strict"] is True
    assert marked[0].marks[0].kwargs["reason"] == REASON


@pytest.mark.full
def test_in_pytest_a_declared_failure_is_an_xfail_and_a_declared_success_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            from test_kit_measure import NeedsMaps
            from test_kit_metric import KeepsAnAxis
            from splitaudit.testing import parametrize_with_checks, run_check

            DECLARED = {
                "check_one_value_per_image": "returns a column by design",
                "check_perfect_copy_is_best": "is kept after all",
                "check_vector_features": "raises by design",
            }

            @parametrize_with_checks([KeepsAnAxis, NeedsMaps], expected_failures=DECLARED)
            def test_contract(cls, check):
                run_check(check, cls)
            """
        )
    )
    result = pytester.runpytest_inprocess("-rxsf", "-p", "no:cacheprovider", "-k", "Axis or vector or declaration")
    checks = len(checks_of(KeepsAnAxis)) + 2
    result.assert_outcomes(xfailed=2, failed=1, skipped=1, passed=checks - 4)
    result.stdout.fnmatch_lines(
        [
            "*XPASS(strict)*is kept after all*",
            "XFAIL *KeepsAnAxis-check_one_value_per_image* - returns a column by design*",
            "XFAIL *NeedsMaps-check_vector_features* - raises by design*",
        ]
    )
