"""Principal components of many rows, by the smaller of covariance and Gram matrix."""

from __future__ import annotations

import torch

from .eigen import eigh


def principal_components(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the leading principal directions of rows about their mean, as orthonormal columns.

    Args:
        rows: (N, D).
        count: k, how many.

    Returns:
        (D, k), by falling variance.

    Raises:
        ValueError: if the rows do not vary in so many directions.
    """
    centred = rows.double() - rows.double().mean(0)
    n, d = centred.shape
    wide = d > n
    values, vectors = eigh(centred @ centred.T if wide else centred.T @ centred)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = int((values > 1e-10 * values[0].clamp_min(1e-300)).sum())
    if count > rank:
        raise ValueError(f"{n} rows vary in {rank} directions, {count} were asked for")
    if not wide:
        return vectors[:, :count].to(rows.dtype)
    found = centred.T @ vectors[:, :count]
    return (found / found.square().sum(0).sqrt()).to(rows.dtype)
