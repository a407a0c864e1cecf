"""The attacker's own images, and what the edge and the defense make of them."""

from __future__ import annotations

import math

import torch

from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.nn.ridge import most_images
from splitaudit.pixels import to_float
from splitaudit.view import View

PROBES = 512
"""Own images on which a covering or heavy-tailed noise is looked at."""


def probes(view: View) -> torch.Tensor:
    """Returns some images in [0, 1] on which an attacker looks at the defense: its own, or draws from the prior."""
    if view.knowledge.aux != "none":
        return own_images(view, "train", 2, 1)[:PROBES]
    w = torch.empty(64, *view.image_shape, device=view.device).normal_(generator=view.generator("probe prior draws"))
    with torch.no_grad():
        return GaussianPrior(view.image_shape).to(view.device)(w).clamp(0, 1)


def own_images(view: View, part: str, features: int, pixels: int, least: int = 1) -> torch.Tensor:
    """Returns own images in [0, 1], as many as fit in memory together with their features, each counted so often.

    There are ``least`` of them in any case (if there are so many): of two large ones nothing can be chosen.
    """
    images = (view.aux_train if part == "train" else view.aux_val).images
    values = features * math.prod(view.feature_shape) if features else 0  # a fit on images alone knows no features
    n = max(least, most_images(values, pixels * math.prod(view.image_shape), len(images)))
    return to_float(images[:n].to(view.device))


def defended(view: View, images: torch.Tensor, role: str) -> torch.Tensor:
    """Returns the defended features (N, ...) of images in [0, 1], averaged over as many draws as the attacker receives.

    A role gives the same draws each time.
    """
    draws = view.generator(role)
    with torch.no_grad():
        return torch.cat([_received(view, view.edge(b), draws) for b in images.split(64)])


def _received(view: View, clean: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return view.averaged([view.protect(clean, draws) for _ in range(view.knowledge.draws)])
