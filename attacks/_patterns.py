"""Patterns that a defense adds to features: which one was added shows, and it is taken off again."""

from __future__ import annotations

import torch

ENOUGH = 16
"""Least count of numbers for each pattern: with them goes one direction of all that features may say."""


def without_patterns(residual: torch.Tensor, patterns: torch.Tensor, draws: int) -> torch.Tensor:
    """Returns what is left of received features once the expected ones and the pattern that was added are taken off.

    Of one draw the pattern is the one that leaves least. An average of several draws holds a mixture of their patterns:
    the mixture of least squares is taken off, where there are enough numbers to tell it from an image.

    Args:
        residual: received features less what is sent on average, (N, ...).
        patterns: (T, ...).
        draws: of which the features are the average.

    Returns:
        (N, ...).
    """
    rows, known = residual.flatten(1), patterns.flatten(1)
    if draws == 1:
        with torch.no_grad():
            which = (known.square().sum(1) - 2 * rows @ known.T).argmin(1)
        return residual - patterns[which]
    if len(known) * ENOUGH > known.shape[1]:
        return residual - patterns.mean(0)
    with torch.no_grad():
        basis = torch.linalg.qr(known.T).Q
    return (rows - (rows @ basis) @ basis.T).reshape(residual.shape)
