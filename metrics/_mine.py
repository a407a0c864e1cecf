"""Mutual information of image and noisy wire by MINE with a critic that knows the channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splitaudit.metrics._bounds import Reading, read
from splitaudit.metrics._critic import INPUTS, Residual, train, validation_score
from splitaudit.metrics._tables import Tables
from splitaudit.seeds import derive, generator, seeded_globally

POOL = 4
"""Draws of the train images' wires that the critic is trained on; one for every hundred steps, and one more, suffice."""

GAIN = 0.01
"""Nats by which the trained part has to raise the validation score: less is chance, and costs effective pairs."""


@dataclass(frozen=True)
class Estimate:
    """Estimates of I(x; z), one per critic seed.

    Attributes:
        readings: of the chosen critic of each seed on the test images.
        structured: of the critic's frozen start.
        critics: ``zero``, ``frozen`` or ``trained`` for each seed: which one validation chose.
    """

    readings: tuple[Reading, ...]
    structured: Reading
    critics: tuple[str, ...]

    @property
    def median(self) -> int:
        """Which seed's value is the (lower) median."""
        order = sorted(range(len(self.readings)), key=lambda i: self.readings[i].value)
        return order[(len(order) - 1) // 2]


def estimate(
    tables: Tables, sigma: float, weights: torch.Tensor, seed: int, *, seeds: int = 1, steps: int = 1000
) -> Estimate:
    """Estimates I(x; z + σ·noise) for a wire z.

    Args:
        tables: of the wire.
        sigma: deviation of the reference noise, in the features' units.
        weights: bootstrap weights of the test images, (R, M).
        seed: of critics and batches.
        seeds: critics that are trained.
        steps: training steps at most; 0 keeps the frozen start.
    """
    with torch.no_grad():
        view = tables.at(sigma)
        reference = view.reference
        frozen = reference.table(view.test)
        validation = (*reference.inputs(view.validation, INPUTS), reference.table(view.validation))
        test = reference.inputs(view.test, INPUTS)
        structured = read(frozen, weights)
    scores = {"zero": 0.0, "frozen": validation_score(validation[2])}
    pool = []
    # At the ceiling the start alone decides the status: there is nothing that training could mend.
    if steps > 0 and test[0].shape[1] > 0 and not structured.at_ceiling:
        with torch.no_grad():
            drawn = [tables.train_scores(sigma) for _ in range(min(POOL, 1 + steps // 100))]
            pool = [(*reference.inputs(s, INPUTS), reference.table(s)) for s in drawn]
    readings, critics = [], []
    for i in range(seeds if pool else 1):
        residual, trained = _trained(pool, validation, steps, seed, i)
        found = scores | ({"trained": trained - GAIN} if residual is not None else {})
        critic = max(found, key=found.__getitem__)
        with torch.no_grad():
            table = torch.zeros_like(frozen) if critic == "zero" else frozen
            if critic == "trained" and residual is not None:
                table = frozen + residual(*test)
            readings.append(structured if critic == "frozen" else read(table, weights))
        critics.append(critic)
    return Estimate(tuple(readings), structured, tuple(critics))


def _trained(
    pool: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    validation: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    steps: int,
    seed: int,
    number: int,
) -> tuple[Residual | None, float]:
    if not pool:
        return None, 0.0
    images = pool[0][0]
    with seeded_globally(derive("measure critic", seed, number=number)):
        residual = Residual(images.shape[1]).to(images.device)
    draws = generator("measure batches", seed, number=number)
    wires, tables = [p[1] for p in pool], [p[2] for p in pool]
    return residual, train(residual, images, wires, tables, validation, steps, draws)
