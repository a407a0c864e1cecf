"""What crosses the wire, described as a centre per image and noise about it.

What is measured is I(x; z) for z = protect(f(x)) + reference noise. Every image has a centre c(x), the wire without
noise; an additive Gaussian defense is the centre plus noise of known deviation; of any other random defense the centre
is an estimate of E[z | x], and a Gaussian of the mean variance about it a model, which a lower bound may use and an
upper bound may not. The upper bound then is that for an observer who knows the defense's random numbers: the wire is
deterministic given them, and knowing more never lowers information.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from splitaudit.metrics._features import Rows, block_means

Kind = Literal["deterministic", "additive_gaussian", "stochastic_other"]

DRAWS = 8
"""Draws of a random defense per image, from which its centres and variances are estimated."""

DRAWS_ALONE = 32
"""The same where the wire's shape is another than the features': then the mean of the draws is all there is."""

NORMAL_DISTANCE = 0.01
"""Greatest distance of distribution functions (Kolmogorov–Smirnov) at which noise counts as Gaussian. That of a Laplace
distribution is 0.06; of 100,000 normal numbers it exceeds 0.007 once in ten thousand times."""

SETS = 8
"""Sets of a defense's random numbers that are tried, one after the other held fixed for all images."""

_PROBE = 256
"""Images on which a defense is tried, fewer where one image's features are very large."""

_NUMBERS = 100_000
_MOST = 2**24


@dataclass
class Wire:
    """A wire as centres and noise, in units of its rows.

    Attributes:
        kind: what it is.
        centres: about the mean of the train images, (N, D).
        own: variance of the defense's own noise, (D,) or a scalar tensor; 0 for a deterministic wire.
        residual: draws protect(f(x)) − centre of all images, (N, D); None where the noise is Gaussian.
        frozen: the same wire given the defense's random numbers, for upper bounds; None where it is not needed.
        projection: how features were reduced, in words; empty where they were not.
        scatter: relative standard deviation of the signal's power from one set of the defense's random numbers to another;
            0 where they are not held fixed.
        power: mean power of the signal of an element over several sets of them; None where they are not held fixed.
    """

    kind: Kind
    centres: torch.Tensor
    own: torch.Tensor
    residual: Callable[[torch.Generator], torch.Tensor] | None = None
    frozen: Wire | None = None
    projection: str = ""
    scatter: float = 0.0
    power: float | None = None

    @property
    def isotropic(self) -> bool:
        """Whether the noise is Gaussian and of one variance, so that tables at all noises share their products."""
        return self.residual is None and self.own.ndim == 0

    def deviation(self, sigma: float) -> torch.Tensor:
        """Returns the deviation of the defense's and the reference noise together, (D,) or a scalar tensor."""
        return (self.own + sigma**2).sqrt()


def own_noise(rows: Rows) -> torch.Tensor | None:
    """Returns the variance of a defense's own Gaussian noise per element of a row, (D,) or a scalar tensor.

    It is 0 for a deterministic defense, and None for one that is random in any other way. It is found once per target.
    Double precision, in units of the rows.
    """
    context = rows.context
    if not context.model.defense.stochastic:
        return torch.zeros((), device=context.device, dtype=torch.float64)
    if not rows.same_shape:
        return None
    find = lambda: additive_gaussian(rows, context.generator("own noise"))  # noqa: E731
    found, unit = context.once(f"own noise {rows.block}", lambda: (find(), rows.unit))
    return None if found is None else found * (unit / rows.unit) ** 2


def describe(rows: Rows, train: torch.Tensor, generator: torch.Generator, seed: int) -> Wire:
    """Returns the description of a target's wire.

    Args:
        rows: its features.
        train: indices of the images that may be used to estimate anything.
        generator: of the defense's randomness.
        seed: of the random numbers that the upper bound holds fixed.
    """
    zero = torch.zeros((), device=generator.device)
    own = own_noise(rows)
    if not rows.context.model.defense.stochastic:
        return Wire("deterministic", _centred(rows.sent(generator), train), zero, projection=rows.projection)
    if own is not None:
        return Wire("additive_gaussian", _centred(rows.clean(), train), own.float(), projection=rows.projection)
    clean = rows.clean() if rows.same_shape else None
    centres, variance = estimated(clean, lambda: rows.sent(generator), train)
    middle = centres[train].mean(0)
    centres -= middle
    power, scatter = _powers(rows, seed)
    frozen = Wire(
        "deterministic", _centred(rows.sent_frozen(seed), train), zero, None, None, rows.projection, scatter, power
    )

    def residual(draws: torch.Generator) -> torch.Tensor:
        return rows.sent(draws) - middle - centres

    return Wire("stochastic_other", centres, variance, residual, frozen, rows.projection)


def signal_scale(wire: Wire, rows: Rows) -> float:
    """Returns the root mean square of what a wire sends about its mean, in units of its rows before any reduction.

    The defense's own noise is no part of it. Other randomness is held fixed: the mean wire of a random sign is 0 for every
    image, and yet it says much. Exactly 0 where nothing depends on the image.
    """
    if rows.block > 1:
        # Block means keep most of a map's power in few numbers: they have another scale than what they are the means of.
        some = Rows(rows.context, rows.part.first(min(_PROBE, len(rows.part))), 2**62)
        some.unit = rows.unit
        everything = torch.arange(len(some.part), device=wire.centres.device)
        draws = rows.context.generator("channel")
        return signal_scale(describe(some, everything, draws, draws.initial_seed()), some)
    if wire.frozen is not None and wire.frozen.power is not None:
        return math.sqrt(wire.frozen.power)
    return math.sqrt(_power(wire.centres))


def _power(rows: torch.Tensor) -> float:
    """Returns the mean square of rows (N, D) about their mean; 0 where it is rounding."""
    offset = rows - rows[:1]  # about the first image, so that a large mean does not eat the digits
    power = float((offset - offset.mean(0)).double().square().mean())
    return power if power > 1e-12 * float(rows.double().square().mean()) else 0.0


def _powers(rows: Rows, seed: int) -> tuple[float, float]:
    """Returns the mean signal power over several sets of the defense's random numbers, and its relative scatter."""
    powers = [_power(rows.sent_frozen(seed + i, _PROBE)) for i in range(SETS)]
    mean = sum(powers) / SETS
    if mean == 0:
        return 0.0, 0.0
    return mean, math.sqrt(sum((p - mean) ** 2 for p in powers) / (SETS - 1)) / mean


def additive_gaussian(rows: Rows, generator: torch.Generator) -> torch.Tensor | None:
    """Returns the variances of a defense that adds independent Gaussian noise, else None.

    It is tried, not believed: the same random numbers on other features must leave the same difference, and the
    differences must be normal, of mean 0 and uncorrelated. Variances are pooled over a channel where they are equal.

    Returns:
        A scalar tensor if all elements have one variance, else (D,), in units of the rows, double precision; None if the
        defense does anything else.
    """
    z = next(rows.batches())
    z = z[: max(20, min(_PROBE, _MOST // z[0].numel()))]
    if len(z) < 20 or not bool(torch.isfinite(z).all()):
        return None
    state = generator.get_state()
    size = float(z.abs().max()) or 1.0

    def added(z: torch.Tensor) -> torch.Tensor:
        return (rows.context.model.protect(z, generator) - z) / size

    with torch.no_grad():
        first = added(z)
        generator.set_state(state)
        again = added(z.roll(1, 0))
        most = 1e-4 * (float(first.abs().max()) + 1)
        if not bool(torch.isfinite(first).all()) or float((first - again).abs().max()) > most:
            return None
        draws = max(DRAWS, min(400, -(-_NUMBERS // first.numel())), -(-_PROBE // len(z)))
        noise = torch.cat([first, *(added(z) for _ in range(draws - 1))])
    # Per image, before any reduction: block means of anything are nearly normal.
    flat = noise.flatten(1)
    if not _white_and_normal(flat, generator):
        return None
    reduced = block_means(noise, rows.block)
    variance = _pooled(reduced, z.shape[1] if z.ndim == 4 and reduced.shape[1] % z.shape[1] == 0 else 1)
    spread = variance.max() - variance.min()
    variance = variance.double() * (size / rows.unit) ** 2
    return variance.mean() if float(spread) == 0 else variance


def _white_and_normal(noise: torch.Tensor, generator: torch.Generator) -> bool:
    """Says whether rows (M, D) look like independent normal numbers of mean 0, with a variance per column."""
    m = len(noise)
    deviation = noise.std(0)
    live = deviation > 1e-6 * float(deviation.max().clamp(min=1e-12))
    if float(deviation.max()) == 0:
        return False
    unit = noise[:, live] / deviation[live]
    if float(unit.mean(0).square().mean()) * m > 2 + 20 / unit.shape[1] ** 0.5:
        return False
    some = unit.flatten()
    if len(some) > 2 * _NUMBERS:
        some = some[torch.randint(len(some), (2 * _NUMBERS,), generator=generator, device=some.device)]
    some = some.sort().values
    expected = torch.special.ndtr(some.double())
    steps = torch.arange(1, len(some) + 1, device=some.device, dtype=torch.float64) / len(some)
    if float((expected - steps).abs().max()) > NORMAL_DISTANCE:
        return False
    # Sums with random signs have the variance of independent elements, unless these are correlated.
    signs = torch.randint(2, (unit.shape[1], 16), generator=generator, device=unit.device).float() * 2 - 1
    signs[:, 0] = 1
    ratio = (unit @ signs).var(0) / unit.shape[1]
    return bool(((ratio - 1).abs() < 6 * (2 / m) ** 0.5).all())


def _pooled(noise: torch.Tensor, channels: int) -> torch.Tensor:
    """Returns the variance of every column (D,), one per channel where a channel's differ by no more than chance."""
    m = len(noise)
    variance = noise.square().mean(0).unflatten(0, (channels, -1))
    mean = variance.mean(1, keepdim=True)
    scatter = (variance / mean.clamp(min=1e-30) - 1).square().mean(1, keepdim=True)
    variance = torch.where(scatter < 2 * 2 / m, mean.expand_as(variance), variance)
    whole = variance.mean()
    even = (variance / whole.clamp(min=1e-30) - 1).square().mean()
    return (whole.expand_as(variance) if float(even) < 2 * 2 / m else variance).flatten().contiguous()


def estimated(
    clean: torch.Tensor | None, sent: Callable[[], torch.Tensor], train: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates E[wire | x], (N, D), and the mean variance of the wire about it, (D,).

    Where the wire has the features' shape, the estimate starts from a straight line per coordinate through the clean
    features: exact for additive noise and for dropout. Slopes are drawn towards their common value and the line towards
    the mean of the draws, each by as much as its own scatter explains (empirical Bayes), so that a defense that leaves
    nothing gives centres that differ by nothing.

    Args:
        clean: the clean features, (N, D), or None where the wire has another shape.
        sent: returns one draw of the wire, (N, D).
        train: indices of the train images.
    """
    wire = sent()
    draws = DRAWS if clean is not None else DRAWS_ALONE
    mean, square = wire / draws, wire[train].square().mean(0) / draws
    for _ in range(draws - 1):
        wire = sent()
        mean += wire / draws
        square += wire[train].square().mean(0) / draws
    m = mean[train]
    within = (square - m.square().mean(0)).clamp(min=0) * draws / (draws - 1)
    scatter = within / draws  # variance of the mean of the draws
    line = m.mean(0).expand_as(mean)
    if clean is not None:
        offset = clean - clean[train].mean(0)
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
    misfit = torch.where(misfit > 3 * scatter * math.sqrt(2 / len(train)), misfit, torch.zeros_like(misfit))
    keep = misfit / (misfit + scatter).clamp(min=1e-12)
    return line + keep * (mean - line), within + misfit * (1 - keep)


def _centred(rows: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    return rows - rows[train].mean(0)
