"""Mutual information between images and a noisy wire, from clean features and the defense alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from splitaudit.metrics._bounds import Reading, read, status
from splitaudit.metrics._channel import Channel, reference_channel, root_mean_square
from splitaudit.metrics._critic import INPUTS, Residual, train, validation_score
from splitaudit.metrics._reference import Reference
from splitaudit.seeds import derive, generator, seeded_globally
from splitaudit.stats import bootstrap_weights

Protect = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Division = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

POOL = 4
"""Draws of the train images' wires that the critic is trained on."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of I(x; z).

    Attributes:
        reading: of the chosen critic on the test images; None for constant features, which carry nothing.
        structured: of the critic's frozen start.
        status: see :func:`splitaudit.metrics._bounds.status`.
        critic: ``zero``, ``frozen`` or ``trained``: which one validation chose.
    """

    reading: Reading | None
    structured: Reading | None
    status: str
    critic: str


def estimate(
    clean: torch.Tensor,
    protect: Protect,
    stochastic: bool,
    sigma_over_rms: float,
    division: Division,
    *,
    seed: int,
    groups: torch.Tensor | None = None,
    steps: int = 1000,
    resamples: int = 200,
    batch: int = 256,
) -> Estimate:
    """Estimates I(x; protect(f(x)) + σ·noise) with σ relative to the root mean square of the centred clean features.

    Args:
        clean: f(x) of every image, (N, ...).
        protect: the defense on the wire.
        stochastic: whether it draws randomness.
        sigma_over_rms: the reference noise.
        division: indices of train, validation and test images.
        seed: of all randomness here.
        groups: a label per image, or None: what the intervals resample.
        steps: training steps of the critic at most; 0 keeps its frozen start.
        resamples: for the intervals.
        batch: images per pass of ``protect``.

    Raises:
        ValueError: features that are not finite.
    """
    if not torch.isfinite(clean).all():
        raise ValueError("got features that are not finite, expected finite ones: the target has diverged")
    rms = root_mean_square(clean, division[0])
    if rms == 0:
        return Estimate(None, None, "ok", "zero")
    with torch.no_grad():
        channel = reference_channel(
            clean,
            protect,
            stochastic,
            sigma_over_rms * rms,
            division[0],
            generator("measure channel", seed, clean.device),
            batch,
        )
        prepared = _Prepared(channel, division, generator("measure components", seed, clean.device))
    critic, trained = prepared.choose(steps, seed)
    test = division[2].cpu()
    labels = len(test) if groups is None else np.asarray(groups.cpu()[test])
    weights = torch.from_numpy(bootstrap_weights(labels, resamples, derive("measure resamples", seed) % 2**32))
    with torch.no_grad():
        table = prepared.test_table
        if critic == "zero":
            table = torch.zeros_like(table)
        elif trained is not None:
            table = table + trained(prepared.test_images, prepared.test_wires)
        reading, structured = read(table, weights), read(prepared.test_table, weights)
    return Estimate(reading, structured, status(reading, structured), critic)


class _Prepared:
    """Tables of the frozen start and inputs of the trained part, for the three divisions."""

    def __init__(self, channel: Channel, division: Division, draws: torch.Generator) -> None:
        train_ids, val_ids, test_ids = (d.to(channel.centres.device) for d in division)
        reference = Reference(channel, train_ids, draws)
        c = channel.centres
        held_out = channel.draw()
        reference.fit(held_out[val_ids])
        scale_x = reference.values[:INPUTS].sqrt()
        scale_z = (1 + reference.values[:INPUTS]).sqrt()

        def x_inputs(ids: torch.Tensor) -> torch.Tensor:
            return reference.coordinates(c[ids], INPUTS) / scale_x

        def z_inputs(z: torch.Tensor) -> torch.Tensor:
            return reference.coordinates(z, INPUTS) / scale_z

        self.images = x_inputs(train_ids)
        self.wires: list[torch.Tensor] = []
        self.tables: list[torch.Tensor] = []
        for _ in range(POOL):
            z = channel.draw()[train_ids]
            self.wires.append(z_inputs(z))
            self.tables.append(reference.table(z, train_ids, c[train_ids], own=True))
        z = held_out[val_ids]
        self.validation = (x_inputs(val_ids), z_inputs(z), reference.table(z, val_ids, c[val_ids]))
        z = held_out[test_ids]
        self.test_images, self.test_wires = x_inputs(test_ids), z_inputs(z)
        self.test_table = reference.table(z, test_ids, c[test_ids])

    def choose(self, steps: int, seed: int) -> tuple[str, Residual | None]:
        """Returns the critic with the best validation score, and the trained part if it is in it."""
        scores = {"zero": 0.0, "frozen": validation_score(self.validation[2])}
        residual: Residual | None = None
        if steps > 0 and self.images.shape[1] > 0:
            with seeded_globally(derive("measure critic", seed)):
                residual = Residual(self.images.shape[1]).to(self.images.device)
            draws = generator("measure batches", seed)
            scores["trained"] = train(residual, self.images, self.wires, self.tables, self.validation, steps, draws)
        critic = max(scores, key=scores.__getitem__)
        return critic, residual if critic == "trained" else None
