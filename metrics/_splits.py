"""Division of a part's images for estimators that fit something: no group in two divisions."""

from __future__ import annotations

import torch

from splitaudit.data.base import Part

SHARES = (0.6, 0.2, 0.2)
"""Train, validation, test."""

LEAST = 20
"""Images below which a division is useless."""

LEAST_GROUPS = 10


class TooFew(Exception):
    """A part is too small to divide; the text is the reason of the missing value."""


def divide(
    part: Part, generator: torch.Generator, grouped: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the indices of train, validation and test images, each in ascending order.

    Groups are taken in random order until a division has its share of the images, so with unequal groups the shares
    are approximate; images of one group (crops of one tile) are never in two divisions.

    Args:
        part: the images.
        generator: decides the order.
        grouped: whether groups, where there are any, stay together; otherwise every image is its own.

    Raises:
        TooFew: fewer than 10 groups, or a division with fewer than 20 images.
    """
    labels = torch.arange(len(part))
    if grouped and part.groups is not None:
        labels = part.groups.cpu().unique(return_inverse=True)[1]
    sizes = labels.bincount()
    if len(sizes) < LEAST_GROUPS:
        raise TooFew(f"{len(sizes)} independent groups of images are too few for an estimate (at least {LEAST_GROUPS})")
    order = torch.randperm(len(sizes), generator=generator, device=generator.device).cpu()
    # A group belongs where its middle image falls.
    middle = (sizes[order].cumsum(0) - sizes[order] / 2) / len(part)
    division = torch.empty_like(order)
    division[order] = (middle >= SHARES[0]).long() + (middle >= SHARES[0] + SHARES[1]).long()
    of_image = division[labels]
    train, validation, test = ((of_image == i).nonzero().flatten() for i in range(3))
    least = min(len(train), len(validation), len(test))
    if least < LEAST:
        raise TooFew(f"{len(part)} images are too few for an estimate: a division has {least} (at least {LEAST})")
    return train, validation, test
