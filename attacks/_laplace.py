"""The error of features behind Laplace noise: by its magnitude, since the median tells more than the mean."""

from __future__ import annotations

import torch

from splitaudit.view import View

SMOOTH = 0.3
"""Deviations of the noise about which the magnitude turns into a square, so that a descent finds the bottom."""

LOUD = 4.0
"""Deviations of the error that is assumed beside it from which noise decides how errors count; below it squares do."""


def by_magnitude(view: View) -> bool:
    """Says whether errors may count by their magnitude: Laplace noise was added, once, and no mask is seen.

    Noise that is averaged over several draws is nearer to a Gaussian (what single draws tell beyond their mean is left out).
    """
    return view.noise_shape == "laplace" and view.knowledge.draws == 1 and view.visible(view.z[:1]) is None


def laplace_error(error: torch.Tensor, deviation: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """Returns how errors (N, ...) count, of the same shape, on the scale of their squares.

    With deviation s a Laplace error e has -log p = √2|e|/s, a Gaussian one e²/(2s²): in the unit in which the latter is e² the
    former is 2√2·s|e|. The magnitude is smoothed to √(e² + (0.3s)²) - 0.3s. Channels whose noise is faint beside the error of
    the model keep the square: a magnitude pulls with a force of s alone, which the prior would outweigh.

    Args:
        error: in the attack's unit.
        deviation: s, which broadcasts.
        model: deviation of the error that is assumed beside the noise, which broadcasts.
    """
    smooth = SMOOTH * deviation
    magnitude = 2 * 2**0.5 * deviation * ((error.square() + smooth.square()).sqrt() - smooth)
    return torch.where(deviation > LOUD * model, magnitude, error.square())
