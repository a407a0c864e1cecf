"""The trained part of the critic and the choice between critics."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from splitaudit.metrics._bounds import donsker_varadhan, info_nce, off_diagonal

WIDTH = 128
PRODUCT = 32
INPUTS = 64
"""Principal coordinates that the trained part sees."""

BATCH = 256
EVERY = 50
PATIENCE = 5
EMA = 0.01
CLAMP = 5.0


class Residual(nn.Module):
    """Scores pairs by ⟨g₁(x), g₂(z)⟩ + a(x) + b(z); unbounded, and zero before training.

    A critic that ends in a sigmoid or tanh caps the estimate at the width of its range, whatever the truth.

    Args:
        inputs: coordinates of an image's centre, and of a wire.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.of_image = _mlp(inputs)
        self.of_wire = _mlp(inputs)
        # Zero on one side only: were both factors of the product zero, neither would get a gradient.
        last = self.of_wire[-1]
        if isinstance(last, nn.Linear):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor, wires: torch.Tensor) -> torch.Tensor:
        """Returns the table (M, M), row a wire, column an image."""
        x, z = self.of_image(images), self.of_wire(wires)
        product = z[:, 1:] @ x[:, 1:].T / math.sqrt(PRODUCT)
        return product + self.gain * x[:, 0] + z[:, :1]


def validation_score(table: torch.Tensor) -> float:
    """Returns what critics are chosen by, in nats: the mean of InfoNCE and the Donsker–Varadhan value.

    The latter counts for at most one nat above InfoNCE, because it can run away where few pairs decide. The
    self-inclusive form that is often used instead punishes real features, some of whose images carry far more than the
    average: it fell below 0 where both values were right.
    """
    nce = float(info_nce(table))
    return (nce + min(float(donsker_varadhan(table)), nce + 1)) / 2


def train(
    residual: Residual,
    images: torch.Tensor,
    wires: list[torch.Tensor],
    tables: list[torch.Tensor],
    validation: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    steps: int,
    generator: torch.Generator,
) -> float:
    """Trains the residual on top of frozen tables and leaves it at its best validation score, which is returned.

    The gradient is that of the Donsker–Varadhan value with the partition function's moving average, kept as a logarithm
    (MINE, equation 12). Each step takes another draw of the noise and all off-diagonal pairs of a batch.

    Args:
        residual: changed in place.
        images: coordinates of the train images' centres, (n, k).
        wires: coordinates of several draws of their wires, (n, k) each.
        tables: the frozen start for each draw, (n, n) each.
        validation: the same three for the validation images and one draw.
        steps: at most.
        generator: of batches, on the CPU.
    """
    optimiser = torch.optim.AdamW(residual.parameters(), lr=3e-4, weight_decay=1e-3)
    best, best_state, stale = -math.inf, copy.deepcopy(residual.state_dict()), 0
    average: torch.Tensor | None = None
    size = min(BATCH, len(images))
    pairs = math.log(size * (size - 1))
    for step in range(1, steps + 1):
        draw = int(torch.randint(len(wires), (), generator=generator))
        pick = torch.randperm(len(images), generator=generator)[:size].to(images.device)
        table = tables[draw][pick[:, None], pick] + residual(images[pick], wires[draw][pick])
        partition = off_diagonal(table).flatten().logsumexp(0) - pairs
        now = partition.detach()
        average = now if average is None else torch.logaddexp(average + math.log1p(-EMA), now + math.log(EMA))
        loss = (partition - average).clamp(max=CLAMP).exp() - table.diagonal().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(residual.parameters(), 1.0)
        optimiser.step()
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                score = validation_score(validation[2] + residual(validation[0], validation[1]))
            if score > best:
                best, best_state, stale = score, copy.deepcopy(residual.state_dict()), 0
            else:
                stale += 1
            if stale >= PATIENCE:
                break
    residual.load_state_dict(best_state)
    return best


def _mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1 + PRODUCT)
    )
