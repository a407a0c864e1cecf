"""Per-channel ranges of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .scale import channel_axes


class ChannelRange(nn.Module):
    """Keeps the range of each channel of clean features: running and without gradient in training, then frozen.

    The ends are order statistics: of n values of a channel, ``tail``·n (rounded down) lie below the lower end and as many
    above the upper one; with a tail of 0 they are the least and the largest. :meth:`calibrate` finds them exactly, holding
    no more than these outermost values.

    Args:
        feature_shape: shape of one image's features.
        tail: share of values beyond each end, below 0.5.
        momentum: weight of the newest batch in training.
    """

    low: torch.Tensor
    high: torch.Tensor
    seen: torch.Tensor

    def __init__(self, feature_shape: tuple[int, ...], tail: float = 0.0, momentum: float = 0.1) -> None:
        super().__init__()
        _, shape = channel_axes(torch.empty(1, *feature_shape))
        self.tail, self.momentum = tail, momentum
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.ones(shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the lower and upper ends, shaped to broadcast against z; updates them first while training."""
        if self.training:
            with torch.no_grad():
                rows = _rows(z.detach())
                beyond = int(self.tail * rows.shape[1])
                for end, now in ((self.low, -_largest(-rows, beyond)), (self.high, _largest(rows, beyond))):
                    found = now[:, -1].view(end.shape)
                    end.copy_(found if self.seen == 0 else end.lerp(found, self.momentum))
                self.seen += 1
        return self.low, self.high

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Sets the exact ends over all batches (two passes: to count, and to keep the outermost values)."""
        with torch.no_grad():
            count = sum(_rows(z).shape[1] for z in features())
            if count == 0:
                raise ValueError("calibrate got no features")
            beyond = int(self.tail * count)
            lowest: torch.Tensor | None = None
            highest: torch.Tensor | None = None
            for z in features():
                rows = _rows(z)
                lowest = _largest(-rows if lowest is None else torch.cat([lowest, -rows], 1), beyond)
                highest = _largest(rows if highest is None else torch.cat([highest, rows], 1), beyond)
            if lowest is not None and highest is not None:
                self.low.copy_(-lowest[:, -1].view(self.low.shape))
                self.high.copy_(highest[:, -1].view(self.high.shape))
            self.seen.fill_(1)  # how many batches were seen before has no bearing any more


def _rows(z: torch.Tensor) -> torch.Tensor:
    """Returns features (N, ...) as one row of values for each channel, (C, values)."""
    axes, _ = channel_axes(z)
    channel = next(a for a in range(z.ndim) if a not in axes)
    return z.movedim(channel, 0).flatten(1)


def _largest(rows: torch.Tensor, beyond: int) -> torch.Tensor:
    """Returns the largest ``beyond`` + 1 values of each row in falling order, or all where there are fewer."""
    if beyond == 0:
        return rows.amax(1, keepdim=True)
    return rows.topk(min(beyond + 1, rows.shape[1]), dim=1).values
