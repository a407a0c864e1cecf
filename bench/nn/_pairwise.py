"""Euclidean distances between the samples of a batch, in memory linear in the number of elements, gradient included."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

FEW = 4096
"""Features whose squares are summed at single precision."""

PART = 512
"""Features of a part where there are more: sums over parts are gathered at double precision."""


def pairwise_distances(flat: torch.Tensor) -> torch.Tensor:
    """Returns the distances (N, N) between rows of (N, D); the gradient at a distance of zero is zero.

    The matrix-product form of the forward pass loses small distances to cancellation, and its diagonal is not zero;
    so distances are summed from differences, without ever holding N × N × D numbers.
    """
    if flat.shape[1] > FEW or (flat.is_cuda and flat.requires_grad):
        return LinearMemoryDistances.apply(flat)  # pyright: ignore[reportReturnType]
    return _by_differences(flat)


def _by_differences(flat: torch.Tensor) -> torch.Tensor:
    """Returns the distances (N, N), of whatever many features to the precision of one number.

    A plain sum over 65,536 squares errs by 1e-5 at single precision, and the distance correlation with it.
    """

    def distances(u: torch.Tensor) -> torch.Tensor:
        return torch.cdist(u, u, compute_mode="donot_use_mm_for_euclid_dist")

    if flat.shape[1] <= FEW:
        return distances(flat)
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat.device)
    for part in flat.split(PART, 1):
        total += distances(part).double().square()
    return total.sqrt().to(flat.dtype)


class LinearMemoryDistances(torch.autograd.Function):
    """The same distances with a backward pass by one matrix product.

    On CUDA the backward pass of ``torch.cdist`` fills a buffer of N × N × D numbers (its CPU form does not): 17 GB for a
    batch of 128 with 262,144 features; its CPU form takes longer than the product. With w_ij = (g_ij + g_ji) / d_ij the
    gradient of sample i is (Σ_j w_ij) u_i − Σ_j w_ij u_j; centring u first keeps a part that all samples share out of the
    difference.
    """

    @staticmethod
    def forward(ctx: Any, flat: torch.Tensor) -> torch.Tensor:
        distances = _by_differences(flat)
        ctx.save_for_backward(flat, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, distances = ctx.saved_tensors
        apart = distances > 0
        weight = torch.where(apart, (grad + grad.T) / torch.where(apart, distances, 1.0), 0.0)
        centred = flat - flat.mean(0)
        pulled = weight @ centred
        return centred.mul_(weight.sum(1, keepdim=True)).sub_(pulled)  # in place: a copy less of all features
