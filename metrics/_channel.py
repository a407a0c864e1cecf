"""The noisy channel between an image and the wire, described so that log p(z | x) is a product of vectors.

What is measured is I(x; z) for z = protect(f(x)) + reference noise. The critic knows the channel: for each image there
is a centre c(x), the noise-free wire, and for each coordinate a noise deviation. Coordinates are divided by it and the
mean of the train images' centres is subtracted. Then, up to a constant, log p(z | x) = −½‖z − c(x)‖² and

    log p(z | x_j) − log N(z; 0, I) = z·c_j − ½‖c_j‖²,

exactly for a deterministic wire. For a random defense the centre is an estimate of E[z | x] and the deviation that of
the total noise, averaged over images: log p(z | x) is then a model, and the trained residual has to mend it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

CENTRE_DRAWS = 8
"""Draws of a random defense per image, from which its centre and variance are estimated."""


@dataclass
class Channel:
    """Centres of all images in units of the noise, and a source of noisy wires in the same units.

    Attributes:
        centres: (N, D).
        draw: returns one noisy wire per image, (N, D).
    """

    centres: torch.Tensor
    draw: Callable[[], torch.Tensor]


def root_mean_square(clean: torch.Tensor, train: torch.Tensor) -> float:
    """Returns the root mean square of clean features (N, ...) about the train images' mean, over all elements."""
    z = clean.flatten(1)[train]
    return float((z - z.mean(0)).square().mean().sqrt())


def channels(
    clean: torch.Tensor,
    protect: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    stochastic: bool,
    sigma: float,
    train: torch.Tensor,
    generator: torch.Generator,
    batch: int,
) -> list[Channel]:
    """Returns descriptions of the channel, best guess first; a deterministic wire has one, and it is exact.

    For a random defense there are two estimates of E[z | x]: a straight line per coordinate through the clean features
    (exact for additive noise and for dropout), where the shapes allow it, and the mean of eight draws. Each comes also
    with its centres halved and at zero, for defenses that leave little or nothing. The caller chooses on validation
    images.

    Args:
        clean: the edge's output, (N, ...).
        protect: the defense on the wire.
        stochastic: whether it draws randomness.
        sigma: standard deviation of the reference noise, in units of the features.
        train: indices of the train images.
        generator: of the defense's randomness and of the reference noise.
        batch: images per pass of ``protect``.
    """

    def wire() -> torch.Tensor:
        return torch.cat([protect(z, generator).flatten(1).float() for z in clean.split(batch)])

    if not stochastic:
        return [_channel(lambda sent=wire(): sent, wire(), torch.tensor(sigma**2), train, generator)]

    # Mean and mean square of the draws, and their covariance with the clean features, in one pass over the draws.
    f = clean.flatten(1).float()
    mean = torch.zeros(())
    square = torch.zeros(())
    for _ in range(CENTRE_DRAWS):
        sent = wire()
        mean = mean + sent / CENTRE_DRAWS
        square = square + sent[train].square().mean(0) / CENTRE_DRAWS
    within = (square - mean[train].square().mean(0)).clamp(min=0) * CENTRE_DRAWS / (CENTRE_DRAWS - 1)
    found: list[Channel] = []
    if mean.shape == f.shape:
        centred = f[train] - f[train].mean(0)
        slope = (centred * mean[train]).sum(0) / centred.square().sum(0).clamp(min=1e-12)
        line = mean[train].mean(0) + slope * (f - f[train].mean(0))
        # What the line leaves of the mean, less the part that is only the draws' own scatter, counts as noise.
        misfit = ((mean - line)[train].square().mean(0) - within / CENTRE_DRAWS).clamp(min=0)
        found += _shrunk(_channel(wire, line, sigma**2 + within + misfit, train, generator))
    # The mean of a few draws is itself uncertain, by the noise divided by their number.
    found += _shrunk(_channel(wire, mean, sigma**2 + within * (1 + 1 / CENTRE_DRAWS), train, generator, within_only=within))
    return found
