"""The contract of an attack, check by check."""

from __future__ import annotations

from .attack_draws import DRAW_CHECKS
from .attack_guess import GUESS_CHECKS, check_guess_is_in_range
from .attack_labels import LABEL_CHECKS
from .attack_power import POWER_CHECKS, check_cannot_peek
from .attack_reach import REACH_CHECKS

ATTACK_CHECKS = (*GUESS_CHECKS, *REACH_CHECKS, *DRAW_CHECKS, *POWER_CHECKS)

LABEL_ATTACK_CHECKS = (
    *(c for c in GUESS_CHECKS if c is not check_guess_is_in_range),
    *REACH_CHECKS,
    *DRAW_CHECKS,
    *LABEL_CHECKS,
    check_cannot_peek,
)
"""Those of an attack that reads labels: what is said of images does not apply to it."""
