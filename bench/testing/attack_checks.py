"""The contract of an attack, check by check."""

from __future__ import annotations

from .attack_guess import GUESS_CHECKS
from .attack_power import POWER_CHECKS
from .attack_reach import REACH_CHECKS

ATTACK_CHECKS = (*GUESS_CHECKS, *REACH_CHECKS, *POWER_CHECKS)
