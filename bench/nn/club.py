"""CLUB, a contrastive estimate of mutual information, for a Gaussian q(x | z) with a diagonal covariance."""

from __future__ import annotations

import math

import torch


def gaussian_club(target: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Returns mean_i log q(x_i | z_i) − mean_ij log q(x_j | z_i), in nats a sample, for q(x | z) = N(mean, variance).

    Where q is the true conditional distribution, its expectation is I(x; z) plus the divergence of the product of the
    marginals from the joint distribution: never below I(x; z), and at least about twice as large where x and z hardly
    depend on each other. With any other q it is no bound, and it may be negative.

    The mean over j is taken in closed form, mean_j (x_j − m)² = Var(x) + (mean(x) − m)², so that time and memory are
    linear in the number of samples and of elements.

    Args:
        target: x, (N, ...).
        mean: of q for each z, the same shape.
        log_variance: log σ² of q for each z, the same shape or one that broadcasts against it.

    Source: Cheng et al. 2020, equation 16 (vCLUB); the pairs with i = j are part of the second mean, as there.
    """
    centre = target.mean(0)
    spread = (target - centre).square().mean(0)
    # mean_j (x_j − m)² − (x_i − m)², without the difference of two large squares.
    gap = spread + (centre - target) * (centre + target - 2 * mean)
    return (gap * (-log_variance).exp()).flatten(1).sum(1).mean() / 2


def gaussian_log_likelihood(target: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Returns log q(x | z), summed over elements and averaged over samples, in nats; a scalar.

    Args:
        target: x, (N, ...).
        mean: of q for each z, the same shape.
        log_variance: log σ² of q for each z, the same shape or one that broadcasts against it.
    """
    each = (target - mean).square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi)
    return -each.flatten(1).sum(1).mean() / 2
