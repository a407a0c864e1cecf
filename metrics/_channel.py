"""The noisy channel between an image and the wire, described so that log p(z | x) is a product of vectors.

What is measured is I(x; z) for z = protect(f(x)) + reference noise. The critic knows the channel: each image has a
centre c(x), the noise-free wire, and each coordinate a noise deviation. Coordinates are divided by it and the mean of
the train images' centres is subtracted. Then, up to nothing at all for a deterministic wire,

    log p(z | x_j) − log N(z; 0, I) = z·c_j − ½‖c_j‖².

For a random defense the centre is an estimate of E[z | x], and the noise the total one, averaged over images; log p is
then a model, and what it lacks is left to the critic's trained part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

DRAWS = 8
"""Draws of a random defense per image, from which its centres and variances are estimated."""

DRAWS_ALONE = 32
"""The same where the wire's shape is another than the features': then the mean of the draws is all there is."""


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
    z = clean.flatten(1)[train.to(clean.device)].float()
    return float((z - z.mean(0)).square().mean().sqrt())


def reference_channel(
    clean: torch.Tensor,
    protect: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    stochastic: bool,
    sigma: float,
    train: torch.Tensor,
    generator: torch.Generator,
    batch: int = 256,
) -> Channel:
    """Describes the channel from clean features to the wire with the reference noise added.

    Args:
        clean: the edge's output, (N, ...).
        protect: the defense on the wire.
        stochastic: whether it draws randomness.
        sigma: standard deviation of the reference noise, in units of the features; above 0.
        train: indices of the images that may be used to estimate anything.
        generator: of the defense's randomness and of the reference noise.
        batch: images per pass of ``protect``.
    """

    def sent() -> torch.Tensor:
        return torch.cat([protect(z, generator).flatten(1).float() for z in clean.split(batch)])

    train = train.to(clean.device)
    if stochastic:
        centres, variance = _estimated(clean.flatten(1).float(), sent, train)
        fresh = sent
    else:
        centres, variance = sent(), torch.zeros((), device=clean.device)
        exact = centres
        fresh = lambda: exact  # noqa: E731
    middle = centres[train].mean(0)
    scale = (sigma**2 + variance).sqrt()

    def draw() -> torch.Tensor:
        z = fresh()
        noise = torch.randn(z.shape, generator=generator, device=z.device)
        return (z - middle + sigma * noise) / scale

    return Channel((centres - middle) / scale, draw)


def _estimated(
    f: torch.Tensor, sent: Callable[[], torch.Tensor], train: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates E[wire | x], (N, D), and the variance of the wire about it, (D,).

    Where the wire has the features' shape, the estimate starts from a straight line per coordinate through the clean
    features: exact for additive noise and for dropout. Slopes are drawn towards their common value and the line towards
    the mean of the draws, each by as much as its own scatter explains (empirical Bayes), so that a defense that leaves
    nothing gives centres that differ by nothing.
    """
    wire = sent()
    draws = DRAWS if wire.shape == f.shape else DRAWS_ALONE
    mean, square = wire / draws, wire[train].square().mean(0) / draws
    for _ in range(draws - 1):
        wire = sent()
        mean += wire / draws
        square += wire[train].square().mean(0) / draws
    m = mean[train]
    within = (square - m.square().mean(0)).clamp(min=0) * draws / (draws - 1)
    scatter = within / draws  # variance of the mean of the draws
    line = m.mean(0).expand_as(mean)
    if mean.shape == f.shape:
        offset = f - f[train].mean(0)
        power = offset[train].square().sum(0)
        product = (offset[train] * m).sum(0)
        common = product.sum() / power.sum().clamp(min=1e-12)
        slope = product / power.clamp(min=1e-12)
        noise = scatter / power.clamp(min=1e-12)
        spread = (((slope - common).square() - noise) * power).sum() / power.sum().clamp(min=1e-12)
        keep = spread.clamp(min=0) / (spread.clamp(min=0) + noise).clamp(min=1e-12)
        line = line + offset * (common + keep * (slope - common))
    misfit = (m - line[train]).square().mean(0) - scatter
    # Below three standard errors a misfit is taken for scatter: over thousands of coordinates the rest would add up.
    misfit = torch.where(misfit > 3 * scatter * (2 / len(train)) ** 0.5, misfit, torch.zeros_like(misfit))
    keep = misfit / (misfit + scatter).clamp(min=1e-12)
    return line + keep * (mean - line), within + misfit * (1 - keep)
