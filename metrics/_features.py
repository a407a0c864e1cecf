"""The features of many images as rows of numbers: as they are, or as block means where they would not fit."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from splitaudit.data.base import Part
from splitaudit.metric import MeasureContext
from splitaudit.pixels import to_float


class Rows:
    """Clean and defended features of a part's images, one row of at most so many bytes in all.

    Features that are larger are reduced to block means: k × k positions of a map (k elements of anything else) are
    added and divided by the root of their number. The rows of that projection are orthonormal, so white noise stays
    white with the same deviation, and what it keeps is the low frequencies, where feature maps have most of their power.
    Information of the projected wire is at most that of the wire: lower bounds hold, upper bounds do not.

    Args:
        context: the target and its data.
        part: the images.
        most_bytes: of one copy of all rows.

    Attributes:
        unit: what rows are divided by, so that squares neither overflow nor vanish whatever the features' scale.
    """

    def __init__(self, context: MeasureContext, part: Part, most_bytes: int = 2**30) -> None:
        self.context, self.part, self.unit = context, part, 1.0
        model = context.model
        self.shape = tuple(model.defense.wire_shape(model.feature_shape))
        self.same_shape = self.shape == tuple(model.feature_shape)
        self.elements = math.prod(self.shape)
        budget = max(1, most_bytes // (4 * max(1, len(part))))
        self.block = 1
        while reduced(self.shape, self.block) > budget and self.block < max(self.shape):
            self.block *= 2
        self._in_memory = max(self.elements, math.prod(model.feature_shape)) * len(part) * 4 <= most_bytes

    @property
    def projection(self) -> str:
        """The projection in words; empty where there is none."""
        if self.block == 1:
            return ""
        what = f"{self.block} x {self.block} positions" if len(self.shape) == 3 else f"{self.block} elements"
        return f"block means of {what}: {reduced(self.shape, self.block)} of {self.elements} numbers"

    def batches(self) -> Iterator[torch.Tensor]:
        """Yields the clean features of the images in their order, (n, *feature_shape)."""
        with torch.no_grad():
            if self._in_memory:
                yield from self.context.clean_features(self.part).split(self.context.batch)
            else:
                for images in self.part.images.split(self.context.batch):
                    yield self.context.model.clean(to_float(images.to(self.context.device)))

    def clean(self) -> torch.Tensor:
        """Returns the rows of the clean features, (N, D); only where the wire has their shape."""
        return torch.cat([self._row(z) for z in self.batches()])

    def sent(self, generator: torch.Generator) -> torch.Tensor:
        """Returns the rows of one draw of the wire, (N, D)."""
        with torch.no_grad():
            return torch.cat([self._row(self.context.model.protect(z, generator)) for z in self.batches()])

    def sent_frozen(self, seed: int, most: int | None = None) -> torch.Tensor:
        """Returns the rows of the wire as if the defense drew the same randomness for every image, (N, D).

        Args:
            seed: of that randomness.
            most: images at most.
        """
        out: list[torch.Tensor] = []
        with torch.no_grad():
            for batch in self.batches():
                for z in batch.split(1):
                    if most is not None and len(out) >= most:
                        return torch.cat(out)
                    draws = torch.Generator(device=z.device).manual_seed(seed)
                    out.append(self._row(self.context.model.protect(z, draws)))
        return torch.cat(out)

    def root_mean_square(self) -> float:
        """Returns the root mean square of the clean features about their mean, over all images and elements.

        It is NaN where a feature of any image is not finite, and 0 where the features are constant.
        """
        total: torch.Tensor | None = None
        squares, broken = 0.0, False
        first: torch.Tensor | None = None
        for z in self.batches():
            flat = z.flatten(1).double()
            broken = broken or not bool(torch.isfinite(flat).all())
            # About the first image, so that a large mean does not eat the digits.
            first = flat[0] if first is None else first
            flat = flat - first
            total = flat.sum(0) if total is None else total + flat.sum(0)
            squares += float(flat.square().sum())
        if broken or total is None:
            return math.nan
        n = len(self.part)
        variance = squares / n - float((total / n).square().sum())
        size = 0.0 if first is None else float(first.square().mean())
        found = max(variance, 0.0) / len(total)
        # Below a millionth of the features' size it is rounding, which differs between batches.
        return math.sqrt(found) if found > 1e-12 * size else 0.0

    def _row(self, z: torch.Tensor) -> torch.Tensor:
        return block_means(z / self.unit if self.unit != 1 else z, self.block).float()


def reduced(shape: tuple[int, ...], block: int) -> int:
    """Returns how many block means a wire of a shape has."""
    if len(shape) == 3:
        return shape[0] * -(-shape[1] // block) * -(-shape[2] // block)
    return -(-math.prod(shape) // block)


def block_means(z: torch.Tensor, block: int) -> torch.Tensor:
    """Returns sums over blocks divided by the root of their size, (N, D), for features (N, ...).

    Blocks at the far edges may be smaller; they are divided by the root of their own size.
    """
    if block == 1:
        return z.flatten(1)
    if z.ndim == 4:
        ones = torch.ones_like(z[:1, :1])
        pooled = F.avg_pool2d(z, block, ceil_mode=True, divisor_override=1)
        count = F.avg_pool2d(ones, block, ceil_mode=True, divisor_override=1)
        return (pooled / count.sqrt()).flatten(1)
    flat = F.pad(z.flatten(1), (0, -z[0].numel() % block))
    count = F.pad(torch.ones_like(z[:1]).flatten(1), (0, -z[0].numel() % block))
    return flat.unflatten(1, (-1, block)).sum(2) / count.unflatten(1, (-1, block)).sum(2).sqrt()
