"""Centres of a mixture for each class, followed batch by batch while the features move."""

from __future__ import annotations

import torch
from torch import nn

MEMORY = 64
"""Images after which a centre forgets: it is the running mean of about that many."""

PER_CENTRE = 16
"""Images of a class for each centre that it has, to be seen since it got the last one, before it gets a further one."""

_OPEN = 1e-6
"""Count of a centre that is in use and has no images yet."""


class ClassCentres(nn.Module):
    """Follows up to ``components`` centres for each class by k-means on batches, without randomness.

    The first centre of a class is the mean of its first images. A further one is opened at the image that lies farthest
    from all centres of its class. Each batch, images are assigned to the nearest centre of their class, which then moves
    to the running mean of its images. Nothing is stored with a target: centres serve in training only. They take
    K·components·D numbers: 8 MB for 10 classes, 3 centres and 65,536 elements.

    Args:
        classes: K.
        components: centres a class, at most.
        size: elements D of a sample.
    """

    centres: torch.Tensor
    counts: torch.Tensor

    def __init__(self, classes: int, components: int, size: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(classes, components, size), persistent=False)
        self.register_buffer("counts", torch.zeros(classes, components), persistent=False)

    @torch.no_grad()
    def update(self, flat: torch.Tensor, y: torch.Tensor) -> None:
        """Moves the centres by a batch of samples (N, D) with labels (N,)."""
        for label in y.unique().tolist():
            mine, counts, centres = flat[y == label], self.counts[label], self.centres[label]
            opened = int((counts > 0).sum())
            if opened == 0:
                centres[0], counts[0] = mine.mean(0), len(mine)
                continue
            if opened < len(counts) and float(counts.sum()) >= PER_CENTRE * opened:
                farthest = _squares(mine, centres[:opened]).amin(1).argmax()
                centres[opened] = mine[farthest]
                opened += 1
                counts[:opened] = _OPEN  # the others have held its images too: all start anew from here
            which = _squares(mine, centres[:opened]).argmin(1)
            for j in which.unique().tolist():
                near = mine[which == j]
                share = len(near) / (len(near) + counts[j].clamp_max(MEMORY))
                centres[j] += share * (near.mean(0) - centres[j])
                counts[j] += len(near)

    def assign(self, flat: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns each sample's squared distance to the nearest centre of its class, (N,), and the centre's number.

        The gradient goes to the samples alone. Numbers run from 0 to K·components − 1, (N,); a sample whose class has no
        centre yet gets -1 and distance 0.

        Args:
            flat: samples (N, D).
            y: labels (N,).
        """
        classes, components, _ = self.centres.shape
        # One product with all centres instead of differences: nothing of N × components × D is made.
        squares = _squares(flat, self.centres.flatten(0, 1))
        own = torch.arange(classes * components, device=y.device).div(components, rounding_mode="floor") == y[:, None]
        allowed = own & (self.counts.flatten() > 0)
        which = squares.detach().masked_fill(~allowed, torch.inf).argmin(1)
        known = allowed.any(1)
        distance = squares.gather(1, which[:, None]).squeeze(1).clamp_min(0)
        return torch.where(known, distance, 0.0), torch.where(known, which, -1)


def _squares(flat: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Returns squared distances (N, M) of samples (N, D) to centres (M, D)."""
    return flat.square().sum(1, keepdim=True) - 2 * flat @ centres.T + centres.square().sum(1)
