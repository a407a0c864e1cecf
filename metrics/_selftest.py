"""The known-answer tests of mutual information.

Tasks are targets whose features are given and go through the whole measure: description of the wire, both bounds, MINE
with its twin, status.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.metric import MeasureContext
from splitaudit.metrics._bounds import info_nce_limit
from splitaudit.metrics._selftest_gates import Found, error_of
from splitaudit.metrics._selftest_tasks import Act, images, seeded, tasks
from splitaudit.params import Params
from splitaudit.selftest import KnownAnswer
from splitaudit.split import Split, SplitInfo, SplitModel
from splitaudit.stats import bootstrap_weights

CPU = torch.device("cpu")


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
    rises = not less <= at + 2 * error_of(whole)
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


def _value(found: Found) -> float:
    value = found["mi_mine_nats"]
    return math.nan if value is None else float(value)


def _row(name: str, truth: float, found: Found, failure: str, started: float) -> KnownAnswer:
    status = str(found["mi_mine_status"])
    low, high = found["mi_lower_nats"], found["mi_upper_nats"]
    return KnownAnswer(name, truth, found["mi_mine_nats"], low, high, status, failure, time.perf_counter() - started)
