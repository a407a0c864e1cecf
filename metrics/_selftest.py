"""The known-answer tests of mutual information: tasks, what is accepted, and the rows that come out.

Tasks are targets whose features are given and go through the whole measure: description of the wire, both bounds, MINE
with its twin, status. Some of what is accepted is that there is *no* value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.metric import MeasureContext
from splitaudit.metrics import _known as known
from splitaudit.metrics._bounds import info_nce_limit
from splitaudit.params import Params
from splitaudit.selftest import KnownAnswer
from splitaudit.split import Split, SplitInfo, SplitModel
from splitaudit.stats import bootstrap_weights

Act = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Found = Mapping[str, Any]
Gate = Callable[[Found, float], str]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """A target with a known answer.

    Attributes:
        name: what it is.
        make: returns features (N, D) or maps, the noise σ in their units, and the truth in nats.
        gate: returns why the measurement is not acceptable, or nothing.
        act: a random defense on the wire, or None.
        pairs: how many times as many images as the other tasks need.
    """

    name: str
    make: Callable[[int], tuple[torch.Tensor, float, float]]
    gate: Gate
    act: Act | None = None
    pairs: int = 1


class _Lookup(nn.Module):
    """An edge that looks up given features by the number that an image's first two pixels spell."""

    features: torch.Tensor

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        digits = (x[:, 0, 0, :2] * 255).round().long()
        return self.features[(256 * digits[:, 0] + digits[:, 1]).clamp(max=len(self.features) - 1)]


class _Acting(Defense):
    """A random defense made from a function."""

    stochastic = True

    def __init__(self, act: Act) -> None:
        super().__init__(Params())
        self._act = act

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self._act(z, generator)


def context_of(features: torch.Tensor, act: Act | None = None, seed: int = 0) -> MeasureContext:
    """Returns what a measure gets of a target with given features, one row per image."""
    index = torch.arange(len(features))
    images = torch.stack([index // 256, index % 256], dim=1).to(torch.uint8).reshape(-1, 1, 1, 2)
    split = Split(SplitInfo("known", "cut", (1, 1, 2), 1), nn.Sequential(_Lookup(features)), nn.Sequential())
    model = SplitModel(split, Defense(Params()) if act is None else _Acting(act)).eval()
    return MeasureContext(model, Part(images, torch.zeros(len(index), dtype=torch.long)), seed, CPU, batch=2500)


def measured(features: torch.Tensor, sigma: float, act: Act | None = None, steps: int = 300) -> dict[str, Any]:
    """Returns the columns of mutual information at one noise (deviation, in the features' units)."""
    from splitaudit.metrics.mutual_information import MutualInformation, MutualInformationParams

    train = features.flatten(1)
    rms = float((train - train.mean(0)).square().mean().sqrt())
    params = MutualInformationParams(
        sigma_over_rms=sigma / rms, images=len(features), steps=steps, seeds=1, resamples=100
    )
    return dict(MutualInformation(params).measured(context_of(features, act), everywhere=False).values)


# -- what is accepted ---------------------------------------------------------------------------------------------


def within(below: float, above: float, slack: float = 0.08) -> Gate:
    """Accepts a value with status ok within shares of the truth (or ``slack`` nats), between bounds that hold."""

    def gate(found: Found, truth: float) -> str:
        value = found["mi_mine_nats"]
        if value is None:
            return f"no value ({found['mi_mine_status']})"
        if not min(truth * (1 - below), truth - slack) <= value <= max(truth * (1 + above), truth + slack):
            return f"read {value:.2f} nats of {truth:.2f}"
        return bounded(found, truth)

    return gate


def bounded(found: Found, truth: float) -> str:
    """Accepts bounds between which the truth lies, by two standard errors at most outside."""
    low, high, error = found["mi_lower_nats"], found["mi_upper_nats"], found["mi_upper_se"]
    if low is None or low > truth + max(0.05, 0.03 * truth):
        return f"certified {low} nats of {truth:.2f}"
    if high is None or truth > high + 2 * error:
        return f"upper bound of {high} nats, truth {truth:.2f}"
    return ""


def flagged(closeness: float | None = None) -> Gate:
    """Accepts that there is no value, a certified limit below the ceiling, and an upper bound as close as said."""

    def gate(found: Found, truth: float) -> str:
        if found["mi_mine_nats"] is not None or found["mi_mine_status"] == "ok":
            return f"gave {found['mi_mine_nats']} nats of {truth:.1f}, beyond what can be read"
        if found["mi_mine_lo"] is None or found["mi_mine_lo"] > found["mi_ceiling_nats"]:
            return f"certified {found['mi_mine_lo']} nats, above its ceiling of {found['mi_ceiling_nats']:.2f}"
        if closeness is not None and abs(found["mi_upper_nats"] / truth - 1) > closeness:
            return f"upper bound of {found['mi_upper_nats']:.1f} nats, truth {truth:.1f}"
        return bounded(found, truth)

    return gate


def not_above(found: Found, truth: float) -> str:
    """Accepts a value above 0 and not above the truth by two standard errors, or none at all."""
    value = found["mi_mine_nats"]
    if value is None:
        return bounded(found, truth)
    if not -0.05 <= value <= truth + 2 * _error(found):
        return f"read {value:.2f} nats of {truth:.2f}"
    return bounded(found, truth)


def nothing(found: Found, truth: float) -> str:
    """Accepts at most 0.05 nats."""
    if found["mi_mine_nats"] is None or abs(found["mi_mine_nats"]) > 0.05:
        return f"read {found['mi_mine_nats']} nats ({found['mi_mine_status']}) where there are none"
    return ""


def deterministic(found: Found, truth: float) -> str:
    """Accepts the status and no number."""
    if found["mi_mine_status"] != "deterministic" or found["mi_mine_nats"] is not None:
        return f"gave {found['mi_mine_nats']} nats ({found['mi_mine_status']}) of a wire without noise"
    return ""


# -- tasks --------------------------------------------------------------------------------------------------------


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(d: int, nats: float) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of equal Gaussian features."""
    sigma = 1 / math.sqrt(math.expm1(2 * nats / d))
    return lambda n: (torch.randn(n, d, generator=seeded(d)), sigma, nats)


def elements(
    quantile: Callable[[Any], Any], d: int, sigma: float
) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of d independent features with a given distribution."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        u = torch.rand(n, d, generator=seeded(d + 1), dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        features = torch.from_numpy(np.asarray(quantile(u.numpy()))).float()
        return features, sigma, known.independent_elements(quantile, d, sigma)

    return make


def heavy_tails(d: int, sigma: float) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of a multivariate Student t with 5 degrees of freedom."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        g = seeded(17)
        chi = torch.randn(n, 5, generator=g).square().sum(1, keepdim=True)
        return torch.randn(n, d, generator=g) * (5 / chi).sqrt(), sigma, known.student(5, d, sigma)

    return make


def images(nats: float, side: int = 32) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of convolutional features of Gaussian images."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        basis, variances = known.image_channel(side)
        features = torch.randn(n, len(basis), generator=seeded(23)) @ basis
        return (
            features.reshape(n, 8, side // 2, side // 2),
            known.solve(lambda s: known.gaussian(variances, s), nats),
            nats,
        )

    return make


def patches(noise: float) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of 256 patches of photographs, drawn uniformly; noise relative to the root mean square."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        features = known.patch_features()
        sigma = noise * float((features - features.mean(0)).square().mean().sqrt())
        pick = torch.randint(len(features), (n,), generator=seeded(29))
        return features[pick], sigma, known.discrete(features, sigma)

    return make


def _sent_nothing(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(z.shape, generator=generator)


def _flipped(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    sign = torch.randint(2, (len(z), 1), generator=generator) * 2 - 1
    return z * sign


def _sign_symmetric(n: int) -> tuple[torch.Tensor, float, float]:
    return torch.randn(n, 5, generator=seeded(31)), 0.78, known.random_sign(5, 0.78)


def tasks(quick: bool) -> list[Task]:
    """Returns the tasks, the quick ones or all."""
    ten, image = within(0.1, 0.1), within(0.1, 0.1)
    first = [
        Task("independent wire, 20 features", lambda n: (*gaussian(20, 3.0)(n)[:2], 0.0), nothing, _sent_nothing),
        Task("10 Gaussian features, 1 nat", gaussian(10, 1.0), ten),
        Task("10 Gaussian features, 3 nats", gaussian(10, 3.0), ten),
        Task("10 Gaussian features, 15 nats", gaussian(10, 15.0), flagged()),
        Task("10 half-cube features", elements(known.half_cube, 10, 1.4), ten),
        Task("without noise", lambda n: (torch.randn(n, 10, generator=seeded(1)), 0.0, math.inf), deterministic),
    ]
    if quick:
        small = 16
        return [
            *first,
            Task("Gaussian images, 512 features, 3 nats", images(3.0, small), image),
            Task("Gaussian images, 512 features, 100 nats", images(100.0, small), flagged(0.1)),
        ]
    return [
        *first,
        Task("10 Gaussian features, 0.5 nats", gaussian(10, 0.5), ten),
        Task("10 Gaussian features, 5 nats", gaussian(10, 5.0), ten),
        Task("10 Gaussian features, 8 nats", gaussian(10, 8.0), flagged()),
        Task("10 uniform features", elements(lambda u: u, 10, 0.32), ten),
        Task("50 Gaussian features, 3 nats", gaussian(50, 3.0), within(0.2, 0.05)),
        Task("Student t, 5 degrees of freedom", heavy_tails(10, 1.65), not_above),
        Task("random sign", _sign_symmetric, not_above, _flipped),
        Task("Gaussian images, 2,048 features, 1 nat", images(1.0), image),
        Task("Gaussian images, 2,048 features, 5 nats", images(5.0), image),
        Task("Gaussian images, 2,048 features, 100 nats", images(100.0), flagged(0.05)),
        Task("Gaussian images, 2,048 features, 1000 nats", images(1000.0), flagged(0.05), pairs=2),
        Task("256 photograph patches, noise 14 x rms", patches(14.0), within(0.07, 0.07)),
        Task("256 photograph patches, noise 8 x rms", patches(8.0), within(0.07, 0.07)),
        Task("256 photograph patches, noise 4 x rms", patches(4.0), within(0.07, 0.07)),
    ]


def known_answers(quick: bool = True) -> Iterator[KnownAnswer]:
    """Yields a row per task; the quick ones in about ten seconds, all in about two minutes."""
    pairs, steps = (1500, 150) if quick else (5000, 300)
    for task in tasks(quick):
        started = time.perf_counter()
        features, sigma, truth = task.make(task.pairs * pairs)
        found = measured(features, sigma, task.act, steps)
        yield _row(task.name, truth, found, task.gate(found, truth), started)
    if not quick:
        for nats in (5.0, 10.0, 20.0):
            yield over_certified(10, nats)
        yield from consistent(pairs)


def over_certified(d: int, nats: float, draws: int = 100, m: int = 500) -> KnownAnswer:
    """Counts how often the lower limit of the exact critic exceeds the truth, on fresh test images; 8 % at most."""
    started = time.perf_counter()
    sigma = 1 / math.sqrt(math.expm1(2 * nats / d))
    g, weights = seeded(37), torch.from_numpy(bootstrap_weights(m, 100))
    limits = []
    for _ in range(draws):
        c = torch.randn(m, d, generator=g) / sigma
        z = c + torch.randn(m, d, generator=g)
        limits.append(info_nce_limit(z @ c.T - c.square().sum(1) / 2, weights)[1])
    share = sum(limit > nats for limit in limits) / draws
    failure = f"{share:.0%} of the lower limits exceed the truth" if share > 0.08 else ""
    low = float(np.median(limits))
    name = f"lower limit of the exact critic, {nats:g} nats, {draws} draws"
    return KnownAnswer(name, nats, None, low, None, f"{share:.0%} above", failure, time.perf_counter() - started)


def consistent(pairs: int) -> Iterator[KnownAnswer]:
    """Yields what has to hold between readings: more noise, or fewer features, never more information."""
    features, sigma, nats = images(3.0, 16)(pairs)
    started = time.perf_counter()
    whole, noisy = measured(features, sigma), measured(features, 2 * sigma)
    at, less = _value(whole), _value(noisy)
    # Written so that a missing value fails.
    rises = not less <= at + 2 * _error(whole)
    yield _row("twice the noise", nats, noisy, f"{at:.2f} nats, then {less:.2f}" if rises else "", started)
    started = time.perf_counter()
    part = measured(features[:, :, :4], sigma)
    falls = not at >= _value(part) - 0.15
    yield _row("half of the rows", nats, part, f"{_value(part):.2f} nats, of all {at:.2f}" if falls else "", started)
    started = time.perf_counter()
    # The pairs of one half beside those of the other: independent, so information adds up. Printed, not judged.
    half = len(features) // 2
    both = measured(torch.cat([features[:half], features[half : 2 * half]], dim=1), 1.4 * sigma)
    single = _value(measured(features[:half], 1.4 * sigma))
    name = f"two images: {_value(both) / single:.2f} times one (2 expected, not judged)"
    yield _row(name, 2 * single, both, "", started)


def _error(found: Found) -> float:
    if found["mi_mine_nats"] is None:
        return math.nan
    return float(found["mi_mine_hi"] - found["mi_mine_lo"]) / 3.92


def _value(found: Found) -> float:
    value = found["mi_mine_nats"]
    return math.nan if value is None else float(value)


def _row(name: str, truth: float, found: Found, failure: str, started: float) -> KnownAnswer:
    status = str(found["mi_mine_status"])
    low, high = found["mi_lower_nats"], found["mi_upper_nats"]
    return KnownAnswer(name, truth, found["mi_mine_nats"], low, high, status, failure, time.perf_counter() - started)
