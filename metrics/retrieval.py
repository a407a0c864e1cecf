"""Whether a reconstruction gives its own image away among all others."""

from __future__ import annotations

import torch

from splitaudit.metric import Metric
from splitaudit.metrics._images import check_images

_TIE = 1e-12
"""Differences of mean squared errors up to here are rounding of the double-precision product."""


class Retrieval(Metric):
    """Scores 1 if, of all private images, the one nearest to a reconstruction (by MSE) is its own, else 0.

    A tie is a miss: an own image that is not the *only* nearest one has not been told apart. Hence a constant guess,
    which is nearest to the same image every time, scores at most 1/N. The mean is the share of images that can be
    identified in the set; it depends on N, so it is compared only between equal sets.
    """

    version = 1
    source = "top-1 identification in pixel space; definition of this project"
    unit = "share"
    label = "images identified"
    bounds = (0.0, 1.0)
    best = 1.0
    higher_means = "more leakage"
    set_wise = True

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        dtype = check_images(truth, guess)[0].dtype
        x, g = truth.flatten(1).double(), guess.flatten(1).double()
        if len(x) == 1:
            return torch.ones(1, dtype=dtype, device=truth.device)
        # The guess's own norm is the same for every candidate and left out.
        distance = (x.square().sum(1) - 2 * g @ x.T) / x.shape[1]
        own = distance.diagonal().clone()
        distance.fill_diagonal_(float("inf"))
        return (distance.min(1).values - own > _TIE).to(dtype)
