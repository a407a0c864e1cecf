"""Eigenvectors of symmetric matrices, where solvers fail too."""

from __future__ import annotations

import torch

Found = tuple[torch.Tensor, torch.Tensor]


def eigh(product: torch.Tensor) -> Found:
    """Returns eigenvalues (n,), rising, and orthonormal vectors (n, n) of a symmetric matrix, in its precision.

    Many equal values (elements that a fixed mask sets to 0) can keep the solver from converging, which it says by an error or,
    on some processors, by numbers that are none: then in double precision, then with values that are set apart by a millionth
    of the greatest.

    Raises:
        torch.linalg.LinAlgError: if none of the three gives numbers.
    """
    found = _solved(product)
    if found is None:  # what follows takes memory, and is seldom needed
        whole = product.double()
        found = _solved(whole) or _solved(whole + _apart(whole).diag())
    if found is None:
        broken = int((~torch.isfinite(product)).sum())
        why = f"{broken} of its numbers are not finite" if broken else "the solver does not converge on it"
        raise torch.linalg.LinAlgError(f"a matrix of {len(product)}×{len(product)} has no eigenvectors: {why}")
    return found[0].to(product), found[1].to(product)


def _apart(whole: torch.Tensor) -> torch.Tensor:
    """Returns what sets equal eigenvalues apart, (n,)."""
    return 1e-6 * whole.diagonal().max() * torch.linspace(0, 1, len(whole)).to(whole)


def _solved(product: torch.Tensor) -> Found | None:
    """Returns eigenvalues and vectors, or None where the solver fails or gives no numbers."""
    try:
        values, vectors = torch.linalg.eigh(product)
    except torch.linalg.LinAlgError:
        return None
    return (values, vectors) if bool(torch.isfinite(values).all() & torch.isfinite(vectors).all()) else None
