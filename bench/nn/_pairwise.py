"""Euclidean distances between the samples of a batch, in memory linear in the number of elements, gradient included."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def pairwise_distances(flat: torch.Tensor) -> torch.Tensor:
    """Returns the distances (N, N) between rows of (N, D); the gradient at a distance of zero is zero.

    The matrix-product form of the forward pass loses small distances to cancellation, and its diagonal is not zero;
    so distances are summed from differences, without ever holding N × N × D numbers.
    """
    if flat.is_cuda and flat.requires_grad:
        return LinearMemoryDistances.apply(flat)  # pyright: ignore[reportReturnType]
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")


class LinearMemoryDistances(torch.autograd.Function):
    """The same distances with a backward pass by one matrix product.

    On CUDA the backward pass of ``torch.cdist`` fills a buffer of N × N × D numbers (its CPU form does not): 17 GB for a
    batch of 128 with 262,144 features. With w_ij = (g_ij + g_ji) / d_ij the gradient of sample i is
    (Σ_j w_ij) u_i − Σ_j w_ij u_j; centring u first keeps a part that all samples share out of the difference.
    """

    @staticmethod
    def forward(ctx: Any, flat: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(flat, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, distances = ctx.saved_tensors
        apart = distances > 0
        weight = torch.where(apart, (grad + grad.T) / torch.where(apart, distances, 1.0), 0.0)
        centred = flat - flat.mean(0)
        return weight.sum(1, keepdim=True) * centred - weight @ centred
