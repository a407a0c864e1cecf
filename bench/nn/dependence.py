"""Measures of dependence that defenses minimise: distance correlation and channel correlation.

Pairwise distances are computed without broadcasting N × N × D and correlations of many channels a few images at a time, so
memory is linear in the feature size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from ._pairwise import pairwise_distances

AT_ONCE = 2**22
"""Numbers of a batch, or of its matrices of channels by channels, above which images are correlated in parts."""


def _distances(u: torch.Tensor, inside: float = 0.0) -> torch.Tensor:
    """Returns Euclidean distances (N, N) of flattened samples; ``inside`` is added under the root."""
    d = pairwise_distances(u.flatten(1))
    return torch.sqrt(d.square() + inside) if inside else d


def distance_correlation_published(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Returns the squared distance correlation as the SiftFunnel code computes it: the biased V-statistic.

    Args:
        u: (N, ...).
        v: (N, ...).

    Returns:
        A scalar in [0, 1]; 0 if a distance variance is exactly 0. For independent samples it does not go to 0 but to a
        floor that grows with the dimension (about 0.99 for white noise at N = 128): hence :func:`distance_correlation`.

    Source: arXiv 2501.00824, official code (``L_dcor``): distances √(d² + 1e-10), double-centred with the diagonal, no
    outer square root.
    """
    a, b = (_double_centred(_distances(w, inside=1e-10)) for w in (u, v))
    covariance, product = (a * b).mean(), (a * a).mean() * (b * b).mean()
    if float(product.detach()) == 0.0:
        return covariance * 0.0
    return covariance / product.sqrt()


def distance_correlation(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Returns the bias-corrected squared distance correlation; its expectation is 0 for independent samples.

    Args:
        u: (N, ...), N ≥ 4.
        v: (N, ...).

    Returns:
        A scalar in [-1, 1]; slightly negative values are normal for independent samples. 0 if a distance variance is
        not positive.

    Source: Székely and Rizzo 2013 (U-centring).
    """
    n = len(u)
    if n < 4:
        raise ValueError(f"distance correlation without bias needs at least 4 samples, got {n}")
    a, b = (_u_centred(_distances(w)) for w in (u, v))
    covariance, product = (a * b).sum(), (a * a).sum() * (b * b).sum()
    if float(product.detach()) <= 0.0:
        return covariance * 0.0
    return covariance / product.sqrt()


def channel_correlation_published(z: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared Pearson correlation between channels over positions, diagonal included.

    Args:
        z: (N, C, H, W).

    Returns:
        A scalar with a floor of about 1/C for decorrelated live channels; dead channels count 0 and so lower it.

    Source: arXiv 2501.00824, official code (``L_pear``): covariance with 1/HW, standard deviations with 1/(HW − 1),
    1e-12 in the denominator.
    """

    def mean(flat: torch.Tensor) -> torch.Tensor:
        centred = flat - flat.mean(2, keepdim=True)
        covariance = centred @ centred.transpose(1, 2) / flat.shape[2]
        deviation = flat.std(2, unbiased=True)
        return (covariance / (deviation[:, :, None] * deviation[:, None, :] + 1e-12)).square().mean()

    return _over_images(mean, z.flatten(2))


def channel_correlation(z: torch.Tensor) -> torch.Tensor:
    """Returns how redundant the channels of maps are: the mean squared correlation between different channels.

    Each squared Pearson correlation over the n = HW positions is corrected for its value by chance,
    (ρ² − 1/(n − 1)) · (n − 1)/(n − 2), so that its expectation is 0 for channels of independent noise and 1 stays 1. A
    dead channel (constant over an image) adds as little as a copy of another one: its pairs count 1, so killing a channel
    never lowers the value. Multiplying z by a constant changes nothing.

    Args:
        z: (N, C, H, W), HW ≥ 3.

    Returns:
        A scalar in [-1/(n - 2), 1]; 0 where there is one channel only.
    """
    c = z.shape[1]
    positions = z[0, 0].numel()
    if positions < 3:
        raise ValueError(f"correlation between channels needs maps of at least 3 positions, got {positions}")
    if c < 2:
        return z.sum() * 0
    flat = z.flatten(2)
    # In units of the largest element: squares of tiny features would underflow, and "constant" must not depend on scale.
    greatest = flat.detach().abs().amax()
    greatest = torch.where(greatest > 0, greatest, 1.0)
    rounding = positions * 16 * torch.finfo(z.dtype).eps ** 2
    different = 1 - torch.eye(c, device=z.device, dtype=z.dtype)

    def mean(flat: torch.Tensor) -> torch.Tensor:
        flat = flat / greatest
        centred = flat - flat.mean(2, keepdim=True)
        square = centred.square().sum(2)
        live = square.detach() > rounding
        unit = centred / torch.where(live, square, 1.0).sqrt()[..., None]
        rho = (unit @ unit.transpose(1, 2)).square()
        unbiased = (rho - 1 / (positions - 1)) * ((positions - 1) / (positions - 2))
        unbiased = torch.where(live[:, :, None] & live[:, None, :], unbiased, 1.0)
        return (unbiased * different).sum() / (len(flat) * c * (c - 1))

    return _over_images(mean, flat)


def _over_images(mean: Callable[[torch.Tensor], torch.Tensor], flat: torch.Tensor) -> torch.Tensor:
    """Returns the mean over images of what ``mean`` gives of some of them (N, C, HW).

    Of 1,024 channels a matrix of channels by channels has 16 times the numbers of their maps of 8×8. So large batches are taken
    in parts, and each part's matrices are computed again in the backward pass.
    """
    n, c, positions = flat.shape
    parts = flat.split(max(1, AT_ONCE // (c * max(c, positions))))
    if len(parts) == 1:
        return mean(flat)
    means = [checkpoint(mean, p, use_reentrant=False, preserve_rng_state=False) * (len(p) / n) for p in parts]
    return torch.stack(means).sum()


def _double_centred(d: torch.Tensor) -> torch.Tensor:
    return d - d.mean(0, keepdim=True) - d.mean(1, keepdim=True) + d.mean()


def _u_centred(d: torch.Tensor) -> torch.Tensor:
    n = len(d)
    centred = d - d.sum(0, keepdim=True) / (n - 2) - d.sum(1, keepdim=True) / (n - 2) + d.sum() / ((n - 1) * (n - 2))
    return centred * (1 - torch.eye(n, device=d.device, dtype=d.dtype))
