"""The contract of plugins as checks: for their authors, for ``splitaudit check`` and for pytest.

:func:`check_defense`, :func:`check_attack` and :func:`check_metric` return an :class:`Outcome` per check;
:func:`parametrize_with_checks` makes pytest cases of them. Beside them stand the toys that the checks use: images,
targets of two layers, control edges, and an oracle and a blind attack to compare with. CPU, about a second per check.
"""

from __future__ import annotations

from .attacking import Attacked, NoisyMask, Sizes, attacked
from .controls import Blind, Oracle
from .data import toy_images, toy_part
from .edges import control_edge
from .kit import (
    check_attack,
    check_defense,
    check_metric,
    check_plugin,
    checks_of,
    parametrize_with_checks,
    run_check,
)
from .outcome import CheckFailed, NotApplicable, Outcome
from .targets import ToyNet, control_target, toy_target

__all__ = [
    "Attacked",
    "Blind",
    "CheckFailed",
    "NoisyMask",
    "NotApplicable",
    "Oracle",
    "Outcome",
    "Sizes",
    "ToyNet",
    "attacked",
    "check_attack",
    "check_defense",
    "check_metric",
    "check_plugin",
    "checks_of",
    "control_edge",
    "control_target",
    "parametrize_with_checks",
    "run_check",
    "toy_images",
    "toy_part",
    "toy_target",
]
