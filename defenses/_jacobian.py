"""The size of an edge's Jacobian, for defenses that set their noise from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

IMAGES = 512
"""Images over which the size is averaged."""

PROBES = 2
"""Random directions per image (Hutchinson)."""


def squared_jacobian(edge: Callable[[torch.Tensor], torch.Tensor], images: Iterable[torch.Tensor]) -> float:
    """Returns E[tr(JᵀJ)] with J = ∂z/∂x, the mean over the first images with Rademacher probes; the same every time.

    Args:
        edge: images in [0, 1], (N, C, H, W), to features (N, ...), differentiable, each image by itself.
        images: batches of images; at most ``IMAGES`` of them are used.

    Raises:
        ValueError: if there are no images.
    """
    total, count = 0.0, 0
    for x in images:
        x = x[: IMAGES - count].clone().requires_grad_(True)
        with torch.enable_grad():
            z = edge(x)
        draws = torch.Generator(device=z.device).manual_seed(count)
        for probe in range(PROBES):
            total += float(probed(z, x, draws, keep=probe + 1 < PROBES).double().square().sum())
        count += len(x)
        if count >= IMAGES:
            break
    if count == 0:
        raise ValueError("got no images to measure the Jacobian on")
    return total / (PROBES * count)


def probed(z: torch.Tensor, x: torch.Tensor, draws: torch.Generator, keep: bool) -> torch.Tensor:
    """Returns Jᵀr for a random r of signs, of the shape of x; the mean of its squared length is tr(JᵀJ).

    Args:
        z: features, computed from x.
        x: images that ask for a gradient.
        draws: where the signs come from.
        keep: whether the graph of z is needed again.
    """
    signs = 2.0 * (torch.empty_like(z).uniform_(generator=draws) < 0.5) - 1
    return torch.autograd.grad(z, x, signs, retain_graph=keep)[0]
