"""Running the checks of a kind of plugin: for people (outcomes) and for pytest (parameters)."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..attack import Attack, LabelAttack
from ..defense import Defense
from ..metric import LabelMetric, Measure, Metric
from .attack_checks import ATTACK_CHECKS, LABEL_ATTACK_CHECKS
from .defense_declared import DECLARED_CHECKS
from .defense_expectation import EXPECTATION_CHECKS
from .defense_mask import MASK_CHECKS
from .defense_stored import STORED_CHECKS
from .defense_training import TRAINING_CHECKS
from .defense_wire import WIRE_CHECKS
from .label_metric_checks import LABEL_METRIC_CHECKS
from .measure_checks import MEASURE_CHECKS
from .metric_checks import METRIC_CHECKS
from .outcome import Check, CheckFailed, NotApplicable, Outcome, Size, is_long
from .plugin import PLUGIN_CHECKS


def checks_of(cls: Any, size: Size = "all") -> list[Check]:
    """Returns the checks of a plugin class: those of every plugin and those of its kind.

    Args:
        cls: a Defense, Attack, Metric or Measure class.
        size: ``fast`` (about a second each), ``full`` (the longer ones) or ``all``.
    """
    kinds: list[tuple[type, tuple[Check, ...]]] = [
        (
            Defense,
            (*WIRE_CHECKS, *MASK_CHECKS, *EXPECTATION_CHECKS, *DECLARED_CHECKS, *TRAINING_CHECKS, *STORED_CHECKS),
        ),
        (LabelAttack, LABEL_ATTACK_CHECKS),
        (Attack, ATTACK_CHECKS),
        (Metric, METRIC_CHECKS),
        (LabelMetric, LABEL_METRIC_CHECKS),
        (Measure, MEASURE_CHECKS),
    ]
    own = [checks for base, checks in kinds if isinstance(cls, type) and issubclass(cls, base)]
    if isinstance(cls, type) and issubclass(cls, LabelAttack):
        own.remove(ATTACK_CHECKS)
    if len(own) != 1:
        raise TypeError(f"got {cls!r}, expected a subclass of Defense, Attack, Metric or Measure")
    return [c for c in (*PLUGIN_CHECKS, *own[0]) if size == "all" or is_long(c) == (size == "full")]


def check_plugin(cls: Any, expected_failures: Mapping[str, str] | None = None, size: Size = "all") -> list[Outcome]:
    """Runs every check of a plugin class; what a check or the plugin raises becomes an outcome.

    Args:
        cls: a Defense, Attack, Metric or Measure class.
        expected_failures: check name to the reason why it fails for good cause.
        size: which checks.

    Raises:
        ValueError: if an expected failure names no check.
    """
    expected = _expected(expected_failures, [cls])
    return [outcome_of(check, cls, expected.get(check.__name__)) for check in checks_of(cls, size)]


def check_defense(
    cls: type[Defense], expected_failures: Mapping[str, str] | None = None, size: Size = "all"
) -> list[Outcome]:
    """Holds a defense to its contract; see :func:`check_plugin`."""
    return check_plugin(_of_kind(cls, Defense), expected_failures, size)


def check_attack(
    cls: type[Attack], expected_failures: Mapping[str, str] | None = None, size: Size = "all"
) -> list[Outcome]:
    """Holds an attack to its contract; see :func:`check_plugin`."""
    return check_plugin(_of_kind(cls, Attack), expected_failures, size)


def check_metric(
    cls: type[Metric] | type[LabelMetric] | type[Measure],
    expected_failures: Mapping[str, str] | None = None,
    size: Size = "all",
) -> list[Outcome]:
    """Holds a per-image metric or a measure of targets to its contract; see :func:`check_plugin`."""
    return check_plugin(_of_kind(cls, Metric, LabelMetric, Measure), expected_failures, size)


def parametrize_with_checks(
    classes: Sequence[Any], *, expected_failures: Mapping[str, str] | None = None, size: Size = "all"
) -> Any:
    """Returns a pytest decorator that parametrizes ``cls`` and ``check`` over every check of every class.

    ::

        @parametrize_with_checks([Blur], expected_failures={"check_batch_equals_samples": "mixes images by design"})
        def test_contract(cls, check):
            run_check(check, cls)

    Args:
        classes: plugin classes.
        expected_failures: check name, or ``ClassName.check_name`` for one of several classes, to the reason; becomes a
            strict xfail, so a check that passes after all is an error.
        size: which checks.
    """
    import pytest

    expected = _expected(expected_failures, classes)
    cases = []
    for cls in classes:
        for check in checks_of(cls, size):
            reason = expected.get(f"{cls.__name__}.{check.__name__}", expected.get(check.__name__))
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=CheckFailed)]
            cases.append(pytest.param(cls, check, id=f"{cls.__name__}-{check.__name__}", marks=marks))
    return pytest.mark.parametrize(("cls", "check"), cases)


def run_check(check: Check, cls: Any) -> None:
    """Runs one check in pytest: a check that does not apply is skipped with its reason.

    Raises:
        CheckFailed: also where the plugin raises, so that a declared failure may be of that form too.
    """
    import pytest

    try:
        check(cls)
    except NotApplicable as exc:
        pytest.skip(str(exc))
    except CheckFailed:
        raise
    except Exception as exc:
        raise CheckFailed(_raised(exc)) from exc


def outcome_of(check: Check, cls: Any, expected_failure: str | None = None) -> Outcome:
    """Runs one check of a plugin class; whatever it or the plugin raises becomes the outcome.

    Args:
        check: one of :func:`checks_of`.
        cls: a Defense, Attack, Metric or Measure class.
        expected_failure: the reason why it fails for good cause.
    """
    try:
        check(cls)
    except NotApplicable as exc:
        return Outcome(check.__name__, True, str(exc), applies=False, expected_failure=expected_failure)
    except CheckFailed as exc:
        return Outcome(check.__name__, False, str(exc), expected_failure=expected_failure)
    except Exception as exc:  # noqa: BLE001  (a plugin under test may raise anything; it is shown as its outcome)
        return Outcome(check.__name__, False, _raised(exc), expected_failure=expected_failure)
    return Outcome(check.__name__, True, expected_failure=expected_failure)


def _raised(exc: Exception) -> str:
    where = traceback.extract_tb(exc.__traceback__)[-1]
    file = where.filename.rpartition("/")[2]
    return f"the plugin raised {type(exc).__name__}: {exc} ({file}:{where.lineno}, in {where.name})"


def _expected(given: Mapping[str, str] | None, classes: Iterable[Any]) -> dict[str, str]:
    known = {name for cls in classes for c in checks_of(cls) for name in (c.__name__, f"{cls.__name__}.{c.__name__}")}
    unknown = sorted(set(given or {}) - known)
    if unknown:
        raise ValueError(f"expected_failures names {', '.join(unknown)}, which is no check of the given classes")
    return dict(given or {})


def _of_kind(cls: Any, *bases: type) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, bases)):
        raise TypeError(f"got {cls!r}, expected a subclass of {' or '.join(b.__name__ for b in bases)}")
    return cls
