"""Measures of dependence that defenses minimise: distance correlation and channel correlation.

Pairwise distances are computed without broadcasting N × N × D, so memory is linear in the feature size.
"""

from __future__ import annotations

import torch


def _distances(u: torch.Tensor, inside: float = 0.0) -> torch.Tensor:
    """Returns Euclidean distances (N, N) of flattened samples; ``inside`` is added under the root."""
    flat = u.flatten(1)
    # The matrix-product form loses small distances to cancellation, and its diagonal is not zero.
    d = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
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
    n, c = z.shape[:2]
    flat = z.reshape(n, c, -1)
    centred = flat - flat.mean(2, keepdim=True)
    covariance = centred @ centred.transpose(1, 2) / flat.shape[2]
    deviation = flat.std(2, unbiased=True)
    return (covariance / (deviation[:, :, None] * deviation[:, None, :] + 1e-12)).square().mean()


def _double_centred(d: torch.Tensor) -> torch.Tensor:
    return d - d.mean(0, keepdim=True) - d.mean(1, keepdim=True) + d.mean()


def _u_centred(d: torch.Tensor) -> torch.Tensor:
    n = len(d)
    centred = d - d.sum(0, keepdim=True) / (n - 2) - d.sum(1, keepdim=True) / (n - 2) + d.sum() / ((n - 1) * (n - 2))
    return centred * (1 - torch.eye(n, device=d.device, dtype=d.dtype))
