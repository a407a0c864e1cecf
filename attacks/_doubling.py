"""Whether the budget of an attack was enough: what half of it had reached on own images."""

from __future__ import annotations

from typing import Any

import torch

TOLERANCE = 0.05
"""Greatest gain by doubling the budget, relative to the error, with which an attack has converged."""

LEAKAGE, LITTLE = 0.01, 0.002
"""Greatest gain relative to the error of the mean image, which is what the leakage score rises by; and the gain that is next
to nothing whatever error is left."""


STILL = (
    "on own images no step of the search helps, so that nothing is left of it: what more steps would gain is unknown"
)
"""Why nothing is said of convergence where a search is given no weight."""


def judged(gain: float, error: float, prior_error: float) -> dict[str, Any]:
    """Returns the notes ``gain_by_doubling`` and ``converged``.

    Args:
        gain: by how much doubling the budget, from half of it, has lowered the error, relative to it.
        error: what half the budget leaves.
        prior_error: what the mean image leaves.
    """
    rise = gain * error / max(prior_error, 1e-30)
    return {"gain_by_doubling": gain, "converged": rise <= LITTLE or (gain <= TOLERANCE and rise <= LEAKAGE)}


def doubled(half: torch.Tensor, whole: torch.Tensor, truth: torch.Tensor) -> dict[str, Any]:
    """Returns the same of rehearsed images (N, C, H, W): what half the budget gave, what the whole gave, and the truth."""
    before, after = (float((t - truth).square().mean()) for t in (half, whole))
    return judged(1 - after / max(before, 1e-30), before, spread_of(truth))


def doubled_step(factor: torch.Tensor, half: torch.Tensor, whole: torch.Tensor, truth: torch.Tensor) -> dict[str, Any]:
    """Returns the same of guesses that are a step away from a start, weighed by a factor for each frequency.

    Where every factor is 0 both budgets leave the start itself, which says nothing of the search: it is not judged.
    """
    if bool(factor.any()):
        return doubled(half, whole, truth)
    return {"converged": None, "not_judged": STILL}


def spread_of(truth: torch.Tensor) -> float:
    """Returns the mean squared error of the mean image of some images (N, C, H, W)."""
    return float((truth - truth.mean(0)).square().mean())
