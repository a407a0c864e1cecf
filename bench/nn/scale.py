"""Per-channel statistics of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn


def channel_axes(z: torch.Tensor) -> tuple[list[int], list[int]]:
    """Returns the axes to average over for per-channel statistics, and the shape that broadcasts them back.

    Maps (N, C, H, W) have their channels on axis 1, vectors (N, D) treat each element as a channel, tokens (N, T, D)
    have them on the last axis.
    """
    channel = z.ndim - 1 if z.ndim == 3 else 1
    axes = [a for a in range(z.ndim) if a != channel]
    shape = [1] * z.ndim
    shape[channel] = z.shape[channel]
    return axes, shape


def channel_moments(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the mean and standard deviation of each channel, shaped to broadcast against z."""
    axes, shape = channel_axes(z)
    return z.mean(axes).reshape(shape), z.std(axes, unbiased=False).reshape(shape)


def batch_standardised(z: torch.Tensor) -> torch.Tensor:
    """Returns features (N, ...) with mean 0 and deviation 1 over the batch in each channel; the same shape.

    The gradient passes through the statistics, so a loss of the result pulls neither at the scale nor at the offset of a
    channel. A channel that is constant over the batch becomes 0, with a gradient of 0. One copy of the features is kept
    for the backward pass.
    """
    axes, shape = channel_axes(z)
    with torch.no_grad():
        alive = (z.var(axes, unbiased=False) > 1e-24).to(z.dtype)
    rows = z.reshape(-1, shape[-1]) if z.ndim == 3 else z
    # The weight of 0 keeps 1/√eps out of the gradient of constant channels.
    return F.batch_norm(rows, None, None, weight=alive, training=True, eps=1e-30).reshape(z.shape)


class Standardised(nn.Module):
    """What networks that read features share: the features standardised per channel by statistics that the caller sets.

    Vectors and tokens have a statistic for each number.

    Args:
        feature_shape: shape of one image's features.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, feature_shape: tuple[int, ...]) -> None:
        super().__init__()
        each = (feature_shape[0], 1, 1) if len(feature_shape) == 3 else feature_shape
        self.register_buffer("mean", torch.zeros(1, *each))
        self.register_buffer("std", torch.ones_like(self.mean))

    def set_scale(self, z: torch.Tensor) -> None:
        """Sets the standardisation from a sample of features (N, *feature_shape); dead channels keep scale 1."""
        axes = [0, 2, 3] if z.ndim == 4 else [0]
        std = z.std(axes, unbiased=False).reshape(self.std.shape)
        self.mean.copy_(z.mean(axes).reshape(self.mean.shape))
        self.std.copy_(torch.where(std > 1e-12, std, torch.ones_like(std)))

    def standardised(self, z: torch.Tensor) -> torch.Tensor:
        """Returns features (N, *feature_shape) in that scale."""
        return (z - self.mean) / self.std


class ChannelScale(nn.Module):
    """Keeps each channel's standard deviation of clean features: a running statistic without gradient.

    In training it follows the batches with momentum; :meth:`calibrate` replaces it by the exact value over
    ``client_train``, after which it is frozen. An edge cannot gain by inflating its features, because noise that is
    relative to this scale grows with them.

    Args:
        channels: shape that broadcasts against features, without the batch axis, for instance (C, 1, 1).
        momentum: weight of the newest batch.
    """

    std: torch.Tensor
    seen: torch.Tensor

    def __init__(self, feature_shape: tuple[int, ...], momentum: float = 0.1) -> None:
        super().__init__()
        _, shape = channel_axes(torch.empty(1, *feature_shape))
        self.momentum = momentum
        self.register_buffer("std", torch.ones(shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Returns the standard deviations (1, C, 1, 1); updates them first while training."""
        if self.training:
            with torch.no_grad():
                _, std = channel_moments(z.detach())
                self.std.copy_(std if self.seen == 0 else self.std.lerp(std, self.momentum))
                self.seen += 1
        return self.std

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Sets the exact standard deviations over all batches (two passes in double precision, stable)."""
        with torch.no_grad():
            total, count = None, 0
            for z in features():
                axes, shape = channel_axes(z)
                part = z.double().sum(axes).reshape(shape)
                total = part if total is None else total + part
                count += z.numel() // part.numel()
            if total is None:
                raise ValueError("calibrate got no features")
            mean, square = total / count, torch.zeros_like(total)
            for z in features():
                axes, shape = channel_axes(z)
                square += (z.double() - mean).square().sum(axes).reshape(shape)
            self.std.copy_((square / count).sqrt())
            self.seen.fill_(1)  # how many batches were seen before has no bearing any more
