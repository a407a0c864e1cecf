"""The Hilbert–Schmidt independence criterion (HSIC) of two batches, from their N × N Gram matrices.

Gram matrices come from one matrix product each, so memory is linear in the feature size: nothing N × N × D is built.
They are centred (their rows and columns sum to 0) and in double precision, since the normalised criterion divides by
their small eigenvalues.
"""

from __future__ import annotations

import torch


def gaussian_gram(u: torch.Tensor, sigma: float | None = 5.0) -> torch.Tensor:
    """Returns the centred Gram matrix (N, N) of the kernel exp(−‖u − v‖² / (2 s²)) over flattened samples.

    Args:
        u: (N, ...), N ≥ 2.
        sigma: s = sigma·√D with D the number of elements of a sample; None: s² is half the median squared distance
            between two different samples (without gradient), which makes the kernel independent of the scale of u.
    """
    squared = _squared_distances(u).double()
    if sigma is not None:
        width = 2 * sigma**2 * u[0].numel()
    else:
        off = ~torch.eye(len(u), dtype=torch.bool, device=u.device)
        # Samples that are all equal have no scale: any width gives the same matrix of zeros.
        width = squared.detach()[off].quantile(0.5).clamp_min(1e-12)
    # Centring removes constants, so the kernel minus one will do: it keeps the digits that 1 − 1e-7 has lost.
    return _centred(torch.expm1(-squared / width))


def label_gram(y: torch.Tensor) -> torch.Tensor:
    """Returns the centred Gram matrix (N, N) of the linear kernel of one-hot labels y (N,): 1 for equal labels, or 0."""
    return _centred((y[:, None] == y[None, :]).double())


def normalised_hsic(k: torch.Tensor, l: torch.Tensor, ridge: float = 1e-5) -> torch.Tensor:
    """Returns the normalised HSIC of two centred Gram matrices: tr(R_k R_l), R = K (K + ridge·N·I)⁻¹.

    Args:
        k: (N, N), centred.
        l: (N, N), centred.
        ridge: regularisation of the inverse, times N.

    Returns:
        A scalar in [0, N − 1]: it counts the directions of the batch that both kernels resolve. In a batch whose Gram
        matrices both have full rank it is close to N − 1 whether the two depend on each other or not.

    Source: Fukumizu et al. 2007 (normalised cross-covariance); the ridge as in Ma et al. 2020 and the code of BiDO.
    """
    r_k, r_l = (_resolved(m, ridge) for m in (k, l))
    return (r_k * r_l.T).sum()


def hsic(k: torch.Tensor, l: torch.Tensor) -> torch.Tensor:
    """Returns the plain (biased) HSIC of two centred Gram matrices (N, N): tr(K L) / (N − 1)², a scalar ≥ 0.

    Source: Gretton et al. 2005, equation 9.
    """
    return (k * l.T).sum() / (len(k) - 1) ** 2


def _resolved(k: torch.Tensor, ridge: float) -> torch.Tensor:
    eye = torch.eye(len(k), dtype=k.dtype, device=k.device)
    # cholesky_ex lets NaN through, so that the training loop can say in which epoch the loss was lost.
    return torch.cholesky_solve(k, torch.linalg.cholesky_ex(k + ridge * len(k) * eye).L)


def _squared_distances(u: torch.Tensor) -> torch.Tensor:
    """Returns squared Euclidean distances (N, N) of flattened samples; the diagonal is exactly 0."""
    flat = u.flatten(1)
    # Distances do not change with the origin, and about the mean less is lost to cancellation.
    flat = flat - flat.detach().mean(0)
    product = flat @ flat.T
    square = product.diagonal()
    return (square[:, None] + square[None, :] - 2 * product).clamp_min(0)


def _centred(k: torch.Tensor) -> torch.Tensor:
    return k - k.mean(0, keepdim=True) - k.mean(1, keepdim=True) + k.mean()
