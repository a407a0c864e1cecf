"""Validity flags: each is explained, wherever it is raised."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest

from splitaudit.report import flags
from splitaudit.report.columns import TRUTH
from splitaudit.report.flags import collect, explain
from splitaudit.scoring import OUTSIDE

RAISED = (
    "not converged: rmle",
    "diverged: loss",
    "no better than the prior",
    "even the strongest attack is no better than the prior: rmle",
    "white-box weaker than black-box: rmle leaks less than decoder",
    "a deeper cut leaks more: block2",
    "false security: 0.2 less",
    "weaker than without account of the defense: 0.1",
    "accuracy at chance (0.125)",
    "validation accuracy still rising",
    "mutual information: the bounds contradict each other",
    "effective information volume says nothing here: (almost) every element is non-zero (noise)",
    "eiv_bits and eiv_dims of reduced features: 512 random directions",
    "entropy: constant",
    "entropy from the first 100 images: more do not fit into memory",
    "features were reduced: 512 random directions",
    "reconstruction floor: deterministic",
    "Fisher information: no gradient",
    "constant features",
    f"{OUTSIDE}: from -0.1 to 1.2, clipped",
)


@pytest.mark.parametrize("flag", RAISED)
def test_every_flag_that_is_raised_is_explained(flag: str) -> None:
    assert explain(flag)


def test_whatever_a_measure_of_this_package_flags_itself_unable_for_is_explained() -> None:
    """One of them had an empty meaning in the report."""
    folder = Path(str(files("splitaudit.metrics")))
    found = {n for path in folder.glob("*.py") for n in re.findall(r'"([^":{]+): \{exc\.status\}"', path.read_text())}
    assert len(found) >= 3
    assert {name for name in found if not explain(name)} == set()


def test_every_explanation_is_of_a_flag_that_is_raised() -> None:
    """What no flag begins with, or holds, is a text that nobody reads."""
    unused = [start for start in flags.EXPLAINED if not any(start in flag for flag in RAISED)]
    assert unused == []


PLACE = {"dataset": "d", "backbone": "b", "cut": "c"}


def table(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    names = ("attack", "defense", "knowledge", "flags")
    return pd.DataFrame([{**PLACE, **dict(zip(names, row, strict=True))} for row in rows])


def test_what_is_raised_on_cells_alone_follows_about_its_attack() -> None:
    summary = table(("rmle", "none", "query", "not converged: rmle"), ("rmle", "noise", "query", ""))
    cells = table(
        ("rmle", "none", "query", "not converged"),
        ("nearest", "none", "query", "not converged; no better than the prior"),
        ("nearest", "noise", "query", "no better than the prior"),
        ("decoder@nonadaptive", "noise", "query", "false security: it leaks 0.2 less"),
    )
    truth = {**dict.fromkeys((*PLACE, "defense"), "-"), "attack": "mean_colour", "knowledge": TRUTH, "flags": ""}
    cells = pd.concat([cells, pd.DataFrame([truth])], ignore_index=True)
    found = {raised.kind: raised.where for raised in collect(summary, cells)}
    assert list(found) == ["not converged", "no better than the prior", "false security"]
    assert found["not converged"] == (("rmle", "query", "none"),)
    assert found["no better than the prior"] == (("nearest", "query", "none, noise"),)
    assert found["false security"] == (("decoder@nonadaptive", "query", "noise"),)
    assert [raised.kind for raised in collect(summary)] == ["not converged"]
