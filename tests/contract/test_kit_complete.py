"""The kit is whole: every check has a broken toy, and every function that calls itself a check is run."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest
import test_kit_attack_draws
import test_kit_attack_guess
import test_kit_attack_power
import test_kit_attack_reach
import test_kit_defense_declared
import test_kit_defense_expectation
import test_kit_defense_mask
import test_kit_defense_stored
import test_kit_defense_training
import test_kit_defense_wire
import test_kit_labels
import test_kit_measure
import test_kit_metric
import test_kit_plugin
from kit_toys import ToyAttack, ToyDefense, ToyMeasure, ToyMetric

import splitaudit.testing
from splitaudit.testing import checks_of
from splitaudit.testing.attack_labels import LABEL_CHECKS
from splitaudit.testing.plugin import PLUGIN_CHECKS

FILES: dict[Any, tuple[Any, ...]] = {
    ToyDefense: (
        test_kit_defense_wire,
        test_kit_defense_mask,
        test_kit_defense_expectation,
        test_kit_defense_declared,
        test_kit_defense_training,
        test_kit_defense_stored,
    ),
    ToyAttack: (test_kit_attack_guess, test_kit_attack_reach, test_kit_attack_draws, test_kit_attack_power),
    ToyMetric: (test_kit_metric,),
    ToyMeasure: (test_kit_measure,),
}


def broken(files: tuple[Any, ...]) -> set[str]:
    return {toy.check for file in files for toy in file.TOYS}


@pytest.mark.parametrize("kind", FILES)
def test_every_check_of_a_kind_has_a_toy_that_breaks_it(kind: Any) -> None:
    own = {c.__name__ for c in checks_of(kind) if c not in PLUGIN_CHECKS}
    assert broken(FILES[kind]) == own


def test_every_check_of_readers_and_of_what_judges_them_has_a_toy_that_breaks_it() -> None:
    assert broken((test_kit_labels,)) == {c.__name__ for c in LABEL_CHECKS}
    own = {c.__name__ for c in checks_of(test_kit_labels.ToyLabelMetric) if c not in PLUGIN_CHECKS}
    assert {toy.check for toy in test_kit_labels.METRIC_TOYS} == own


def test_every_check_of_all_plugins_has_a_toy_that_breaks_it() -> None:
    assert broken((test_kit_plugin,)) == {c.__name__ for c in PLUGIN_CHECKS}


def test_every_function_that_is_called_a_check_is_run_for_some_kind() -> None:
    entrances = {"check_plugin", "check_defense", "check_attack", "check_metric"}
    written = set()
    for info in pkgutil.iter_modules(splitaudit.testing.__path__):
        module = importlib.import_module(f"splitaudit.testing.{info.name}")
        for name, value in vars(module).items():
            if name.startswith("check_") and inspect.isfunction(value) and value.__module__ == module.__name__:
                written.add((info.name, name))
    kinds = (*FILES, test_kit_labels.ToyReader, test_kit_labels.ToyLabelMetric)
    run = {(c.__module__.rpartition(".")[2], c.__name__) for kind in kinds for c in checks_of(kind)}
    assert {w for w in written if w[1] not in entrances} == run


def test_every_check_says_why_it_is_there() -> None:
    silent = [c.__name__ for kind in FILES for c in checks_of(kind) if len((c.__doc__ or "").split()) < 6]
    assert silent == []
