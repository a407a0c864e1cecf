"""Eigenvectors of symmetric matrices, where solvers fail too."""

from __future__ import annotations

import torch


def eigh(product: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns eigenvalues (n,), rising, and orthonormal vectors (n, n) of a symmetric matrix, in its precision.

    Many equal values (elements that a fixed mask sets to 0) can keep the solver from converging, which it says by an error or,
    on some processors, by numbers that are none: then in double precision, then with values that are set apart by a millionth
    of the greatest.
    """
    whole = product.double()
    apart = 1e-6 * float(whole.diagonal().max()) * torch.linspace(0, 1, len(whole)).to(whole)
    for attempt in (product, whole):
        try:
            values, vectors = torch.linalg.eigh(attempt)
        except torch.linalg.LinAlgError:
            continue
        if bool(torch.isfinite(values).all() and torch.isfinite(vectors).all()):
            return values.to(product), vectors.to(product)
    values, vectors = torch.linalg.eigh(whole + apart.diag())
    return values.to(product), vectors.to(product)
