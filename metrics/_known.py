"""Features and wires whose mutual information is known: in closed form, by quadrature, or by counting all images."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.special import ndtri
from scipy.stats import chi2
from torch import nn

from splitaudit.data._photographs import read
from splitaudit.nn.eigen import eigh
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.seeds import seeded_globally

Array = NDArray[np.float64]

_GRID = 4001


def solve(information: Callable[[float], float], nats: float) -> float:
    """Returns the noise at which a falling function of it has a value, by bisection on a logarithmic axis."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if information(middle) > nats else (low, middle)
    return math.sqrt(low * high)


def gaussian(variances: Array, sigma: float) -> float:
    """Returns the information of Gaussian features over Gaussian noise: ½ Σ ln(1 + λ/σ²)."""
    return float(0.5 * np.log1p(variances / sigma**2).sum())


def independent_elements(quantile: Callable[[Array], Array], d: int, sigma: float) -> float:
    """Returns the information of d independent equal features over Gaussian noise, by quadrature.

    Args:
        quantile: of one feature's distribution.
        d: number of features.
        sigma: deviation of the noise.
    """
    f = quantile((np.arange(_GRID) + 0.5) / _GRID)
    z = np.linspace(f.min() - 8 * sigma, f.max() + 8 * sigma, _GRID)
    p = np.zeros_like(z)
    for part in np.array_split(f, 40):
        p += np.exp(-0.5 * ((z[:, None] - part) / sigma) ** 2).sum(1)
    p /= _GRID * sigma * math.sqrt(2 * math.pi)
    entropy = -trapezoid(p * np.log(np.maximum(p, 1e-300)), z)
    return d * float(entropy - 0.5 * math.log(2 * math.pi * math.e * sigma**2))


def half_cube(u: Array) -> Array:
    """Returns quantiles of g·|g|^½ for a normal g: heavy tails."""
    g = ndtri(u)
    return g * np.abs(g) ** 0.5


def student(freedom: float, d: int, sigma: float) -> float:
    """Returns the information of a multivariate Student t over Gaussian noise.

    The feature is a Gaussian whose variance s is drawn; so is the wire, with variance s + σ², and its density depends on
    the radius alone.
    """
    u = (np.arange(2000) + 0.5) / 2000
    variance = freedom / chi2.ppf(u, freedom) + sigma**2
    at = np.linspace(np.log(variance.min()) - 12, np.log(variance.max() * d) + 4, _GRID)  # log of the squared radius
    exponent = -np.exp(at)[:, None] / (2 * variance) - d / 2 * np.log(2 * math.pi * variance)
    top = exponent.max(1, keepdims=True)
    log_p = top[:, 0] + np.log(np.exp(exponent - top).mean(1))
    # Shells: surface of the unit sphere times r^(d−1) dr, with dr = r/2 d(ln r²).
    shell = math.log(2 * math.pi ** (d / 2)) - math.lgamma(d / 2) + at * d / 2 - math.log(2)
    entropy = -float(trapezoid(np.exp(shell + log_p) * log_p, at))
    return entropy - d / 2 * math.log(2 * math.pi * math.e * sigma**2)


def random_sign(d: int, sigma: float) -> float:
    """Returns the information of a wire that sends a normal feature vector with a random common sign, plus noise."""
    length = np.sqrt(chi2.ppf((np.arange(400) + 0.5) / 400, d)) / sigma
    z = np.linspace(-length.max() - 10, length.max() + 10, _GRID)
    p = 0.5 * (np.exp(-0.5 * (z - length[:, None]) ** 2) + np.exp(-0.5 * (z + length[:, None]) ** 2))
    p /= math.sqrt(2 * math.pi)
    lost = -trapezoid(p * np.log(np.maximum(p, 1e-300)), z, axis=1) - 0.5 * math.log(2 * math.pi * math.e)
    return d / 2 * math.log1p(1 / sigma**2) - float(lost.mean())


@lru_cache(maxsize=2)
def image_channel(side: int = 32) -> tuple[torch.Tensor, Array]:
    """Returns a map from normal numbers to features of Gaussian images, (3·side², D), and the features' variances (D,).

    Images are a Gaussian field with spectrum 1/f² and correlated colours, features a random convolution of them.
    """
    prior = GaussianPrior((3, side, side))
    colours = torch.tensor([[0.6, 0.7, 0.4], [0.6, 0.0, -0.8], [0.53, -0.71, 0.46]])
    prior.colours.copy_(torch.linalg.qr(colours).Q)
    prior.scale.mul_(torch.tensor([1.0, 0.5, 0.25]).reshape(1, 3, 1, 1))
    prior.mean.zero_()
    with seeded_globally(7), torch.no_grad():
        conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        size = 3 * side * side
        basis = torch.cat([conv(prior(b.reshape(-1, 3, side, side))).flatten(1) for b in torch.eye(size).split(256)])
    values = torch.linalg.eigvalsh((basis.T @ basis).double()).clamp(min=0)
    return basis, values.numpy()


@lru_cache(maxsize=1)
def patch_features(patches: int = 256, side: int = 32) -> torch.Tensor:
    """Returns random convolutional features of patches of real photographs, (patches, 1024)."""
    rng = np.random.default_rng(3)
    photos = [read(n) for n in ("astronaut", "chelsea", "coffee", "rocket")]
    out = []
    for i in range(patches):
        photo = photos[i % len(photos)]
        y, x = (int(rng.integers(0, n - side)) for n in photo.shape[:2])
        out.append(photo[y : y + side, x : x + side])
    x = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255
    with seeded_globally(11), torch.no_grad():
        first, second = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, stride=2, padding=1)
        return F.relu(second(F.relu(first(x - x.mean())))).flatten(1)


def discrete(features: torch.Tensor, sigma: float, draws: int = 16_384) -> float:
    """Returns the information of a uniform choice among images over Gaussian noise, by counting all of them.

    Args:
        features: of every image, (n, D).
        sigma: deviation of the noise.
        draws: of image and noise; the standard error is about 0.01 nats.
    """
    g = torch.Generator().manual_seed(5)
    c = (features - features.mean(0)).double() / sigma
    # Noise outside the span of the images is the same for all: only its part along them counts.
    values, vectors = eigh(c.T @ c)
    c = c @ vectors[:, values > 1e-9 * values[-1]]
    total = 0.0
    for _ in range(draws // 2048):
        pick = torch.randint(len(c), (2048,), generator=g)
        z = c[pick] + torch.randn((2048, c.shape[1]), generator=g, dtype=torch.float64)
        scores = z @ c.T - c.square().sum(1) / 2
        total += float((scores.gather(1, pick[:, None])[:, 0] - scores.logsumexp(1)).mean())
    return math.log(len(c)) + total / (draws // 2048)
