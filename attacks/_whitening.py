"""In what unit white-box attacks count the feature error, so that neither scale nor rotation of the channels protects."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splitaudit.nn.eigen import eigh
from splitaudit.nn.scale import channel_axes
from splitaudit.view import View

from ._covered import covered
from ._laplace import by_magnitude
from ._patterns import without_patterns

MODEL = 0.05
"""Feature error that is assumed beside the defense's noise, relative to the features' own deviation in each direction."""

FLOOR = 0.05
"""Least deviation of a direction, relative to the root mean square of all (see :func:`_floor`). A direction that next to
never says anything would else outweigh all others wherever a guess wakes it up."""

MOST = 512
"""Most channels that are mixed: their covariance and its eigenvectors have the square of it."""

SAMPLE, ROWS = 512, 50
"""Own images on which features and noise are measured, or as many more as give so many rows for each channel."""


@dataclass(frozen=True)
class Whitening:
    """A linear map of the channels after which errors of all directions count alike.

    Attributes:
        matrix: (C, C), or (C,) where channels are scaled and not mixed.
    """

    matrix: torch.Tensor

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Returns features or errors (N, ...) in the new unit, of the same shape."""
        if self.matrix.ndim == 1:
            return z * self.matrix.reshape(channel_axes(z)[1])
        # A product of matrices and no convolution, which a GPU would round to ten bits.
        channel = _channel(z)
        return (z.movedim(channel, -1) @ self.matrix.T).movedim(-1, channel)


def whitening(view: View, images: torch.Tensor, role: str, mixed: bool = True) -> Whitening:
    """Returns the unit of the feature error of an attack.

    With the covariances over channels Σ of the received features and N of the noise that the defense adds to them, an
    error e is counted as eᵀM⁻¹e, M = N + m²Σ with m = :data:`MODEL`, its eigenvalues at least :data:`FLOOR`² of their
    mean (of 100 times their median, if that is less): what the defense's noise explains counts little, and without noise
    every direction counts by how much the features vary along it. The whole is scaled so that the features have a mean
    variance of 1. Channels of wires with a mask or Laplace noise (sums of which are no longer Laplace), and more
    channels than :data:`MOST`, are not mixed: M is then diagonal.

    Args:
        view: of the attack.
        images: own images in [0, 1], (N, C, H, W).
        role: names the draws of the defense's randomness.
        mixed: false: M is diagonal. An attack whose image is not preconditioned has to climb along what whitening makes steep.
    """
    clean = _clean(view, images[:SAMPLE])
    rows = _rows(clean[:1])
    if len(clean) * len(rows) < ROWS * rows.shape[1]:  # vectors have one row for each image
        more = images[SAMPLE : -(-ROWS * rows.shape[1] // len(rows))]
        clean = torch.cat([clean, _clean(view, more)]) if len(more) else clean
    if covers(view):
        return _through_noise(view, clean, role)
    one, other = (_sent(view, clean, f"{role}{time}") for time in ("", " again"))
    seen, again = (view.visible(z) for z in (one, other))
    rows, difference = _rows(one), _rows(one - other) / 2**0.5
    mixed = mixed and not by_magnitude(view)
    centred = rows - rows.mean(0)
    if seen is not None and again is not None:
        both, shown = _rows((seen & again).to(one.dtype)), _rows(seen.to(one.dtype))
        mean = (rows * shown).sum(0) / shown.sum(0).clamp_min(1)
        spread = ((rows - mean).square() * shown).sum(0) / shown.sum(0).clamp_min(1)
        noise = (difference.square() * both).sum(0) / both.sum(0).clamp_min(1)
        return _diagonal(spread, noise, rows)
    if rows.shape[1] > MOST or not mixed:
        return _diagonal(centred.square().mean(0), difference.square().mean(0), rows)
    covariance, noise = _covariance(centred), _covariance(difference)
    if not _varies(covariance.diagonal(), rows):
        return _diagonal(covariance.diagonal(), noise.diagonal(), rows)
    values, vectors = eigh(noise + MODEL**2 * covariance)
    values = torch.maximum(values, _floor(values))
    matrix = vectors @ (vectors / values.sqrt()).T
    size = (matrix @ covariance @ matrix).diagonal().mean()
    return Whitening((matrix / size.sqrt()).float())


def covers(view: View) -> bool:
    """Says whether noise covers a mask by chance, so that nobody sees what it hides."""
    # Zeros will do: what covers what is no question of the features.
    nothing = torch.zeros(1, *view.clean_shape, device=view.device)
    with torch.no_grad():
        return view.covered(nothing, view.generator("covered probe")) is not None


def _through_noise(view: View, clean: torch.Tensor, role: str) -> Whitening:
    """Returns channels scaled by what they say where a covered mask shows them, and by the noise alone."""
    with torch.no_grad():
        sent = view.expectation(clean, view.generator(role))
    found = covered(view, clean, lambda z: z, role)
    if sent is None or found is None:
        return _diagonal(*_moments(clean), _rows(clean))
    spread, _ = _moments(sent)
    return _diagonal(spread, found.noise.flatten() / found.draws, _rows(sent))


def _moments(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the variance of each channel (C,), and no noise."""
    spread = _rows(z).var(0, unbiased=False)
    return spread, torch.zeros_like(spread)


def _covariance(rows: torch.Tensor) -> torch.Tensor:
    """Returns the covariance (C, C) of centred rows in double precision, shrunk towards its diagonal as its scatter asks for.

    With few rows for each channel the eigenvalues of a sample covariance spread far beyond the true ones (white noise in 108
    channels, 512 rows: from 0.29 to 2.1); shrinkage of least expected error, Schäfer and Strimmer 2005.
    """
    rows = rows.double()  # fourth powers follow
    found = rows.T @ rows / len(rows)
    squares = rows.square()
    scatter = (squares.T @ squares / len(rows) - found.square()) / len(rows)
    outside = ~torch.eye(len(found), dtype=torch.bool, device=rows.device)
    total = found.square()[outside].sum()
    share = (scatter[outside].sum() / total).clamp(0, 1) if float(total) > 0 else torch.ones_like(total)
    return torch.where(outside, (1 - share) * found, found)


def _diagonal(spread: torch.Tensor, noise: torch.Tensor, rows: torch.Tensor) -> Whitening:
    """Returns channels scaled by their own noise and spread (variances, (C,)); by their size where nothing varies."""
    if not _varies(spread, rows):
        size = rows.double().square().mean().sqrt()
        unit = torch.where(size > 0, 1 / size.clamp_min(1e-30), torch.ones_like(size))
        return Whitening(unit.float().expand(rows.shape[1]).clone())
    values = (noise + MODEL**2 * spread).double()
    values = torch.maximum(values, _floor(values))
    return Whitening(((1 / values.sqrt()) / (spread / values).mean().sqrt()).float())


def _varies(spread: torch.Tensor, rows: torch.Tensor) -> bool:
    """Says whether variances (C,) are more than what rounding leaves of features that are always the same."""
    return float(spread.double().sum()) > 1e-12 * float(rows.double().square().mean(0).sum())


def _floor(values: torch.Tensor) -> torch.Tensor:
    """Returns the least variance of a direction: a share of the mean, or of 100 times the median if that is less.

    One channel that is far louder than all others must not hide them; channels that are always zero have no say.
    """
    alive = values[values > 1e-12 * values.max()]
    return FLOOR**2 * torch.minimum(values.mean(), 100 * alive.median())


def _channel(z: torch.Tensor) -> int:
    axes, _ = channel_axes(z)
    return next(a for a in range(z.ndim) if a not in axes)


def _clean(view: View, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([view.edge(b) for b in images.split(64)])


def _sent(view: View, clean: torch.Tensor, role: str) -> torch.Tensor:
    """Returns features as they are received, averaged over as many draws, without patterns that are recognised.

    A role gives the same draws each time.
    """
    draws = view.generator(role)
    with torch.no_grad():
        parts = [view.averaged([view.protect(b, draws) for _ in range(view.knowledge.draws)]) for b in clean.split(64)]
    sent = torch.cat(parts)
    patterns = view.patterns
    if patterns is None:
        return sent
    with torch.no_grad():
        expected = view.expectation(clean, draws)
        return (
            sent if expected is None else expected + without_patterns(sent - expected, patterns, view.knowledge.draws)
        )


def _rows(z: torch.Tensor) -> torch.Tensor:
    """Returns features as rows of channels, (rows, C)."""
    return z.movedim(_channel(z), -1).flatten(0, -2)
