"""A context code for feature maps: quantisation, counts, code lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

LEVELS = 256
BINS = 6
_CHUNK = 64


class Code:
    """A code for feature maps, fitted to some of them.

    A level has the probability of its channel, its left and its upper neighbour; outside the map the neighbour counts
    as the channel's least value. Smoothing blends a context's counts with the channel's, and these with equal shares,
    each by the number of distinct levels seen: p = (count + t·p_below) / (n + t). Every level has a probability above 0
    and they add up to 1, so the lengths are those of a code that exists.

    Args:
        maps: float, (N, C, H, W); a map of one pixel has no neighbours.
    """

    def __init__(self, maps: NDArray[np.float32]) -> None:
        self._low = maps.min((0, 2, 3), keepdims=True)
        span = maps.max((0, 2, 3), keepdims=True) - self._low
        self._span = np.where(span > 0, span, 1)
        self._contexts = BINS * BINS if maps.shape[2] * maps.shape[3] > 1 else 1
        channels = maps.shape[1]
        counts = np.zeros((channels, self._contexts, LEVELS), dtype=np.int64)
        self._edges = self._bin_edges(maps)
        for start in range(0, len(maps), _CHUNK):
            levels, contexts = self._symbols(maps[start : start + _CHUNK])
            counts += np.bincount(self._flat(levels, contexts), minlength=counts.size).reshape(counts.shape)
        alone = _smoothed(counts.sum(1), np.full((channels, LEVELS), 1 / LEVELS))
        self._alone = -np.log2(alone)
        self._bits = self._alone[:, None] if self._contexts == 1 else -np.log2(_smoothed(counts, alone[:, None]))

    def lengths(self, maps: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns bits per map (N,): with neighbours as context, and with every element coded by itself."""
        bits, alone = [], []
        channel = np.arange(maps.shape[1])[:, None, None]
        for start in range(0, len(maps), _CHUNK):
            levels, contexts = self._symbols(maps[start : start + _CHUNK])
            bits.append(self._bits[channel, contexts, levels].sum((1, 2, 3)))
            alone.append(self._alone[channel, levels].sum((1, 2, 3)))
        return np.concatenate(bits), np.concatenate(alone)

    def noise_bits(self, maps: NDArray[np.float32], deviation: NDArray[np.float64]) -> float:
        """Returns the entropy of the levels of maps plus Gaussian noise, in bits per map, mean over the maps given.

        Args:
            maps: without noise, (N, C, H, W).
            deviation: of the noise, broadcastable to one map; elements without noise have none.
        """
        step = self._span / (LEVELS - 1)
        edges = np.arange(LEVELS - 1) + 0.5
        total = 0.0
        noisy = np.broadcast_to(deviation, maps.shape[1:]) > 0
        for one in maps:
            at = ((one - self._low[0]) / step[0])[noisy]
            spread = (np.broadcast_to(deviation, one.shape) / step[0])[noisy]
            below = ndtr((edges - at[:, None]) / spread[:, None])
            p = np.diff(below, axis=1, prepend=0.0, append=1.0)
            total -= float((p * np.log2(np.maximum(p, 1e-300))).sum())
        return total / len(maps)

    def _levels(self, maps: NDArray[np.float32]) -> NDArray[np.uint8]:
        scaled = (maps - self._low) / self._span * (LEVELS - 1)
        return np.clip(np.rint(scaled), 0, LEVELS - 1).astype(np.uint8)

    def _bin_edges(self, maps: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Returns what a level has to exceed to be in bin 1, 2, …, (5, C): the lowest level has a bin of its own."""
        edges = np.zeros((BINS - 1, maps.shape[1]), dtype=np.uint8)
        if self._contexts > 1:
            levels = self._levels(maps)
            for c in range(maps.shape[1]):
                above = levels[:, c][levels[:, c] > 0]
                if above.size:
                    edges[1:, c] = np.quantile(above, np.arange(1, BINS - 1) / (BINS - 1))
        return edges

    def _symbols(self, maps: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        levels = self._levels(maps)
        contexts = np.zeros(levels.shape, dtype=np.intp)
        if self._contexts > 1:
            bins = (levels[None] > self._edges[:, None, :, None, None]).sum(0)
            contexts[..., 1:] += BINS * bins[..., :-1]
            contexts[..., 1:, :] += bins[..., :-1, :]
        return levels, contexts

    def _flat(self, levels: NDArray[np.uint8], contexts: NDArray[np.intp]) -> NDArray[np.intp]:
        channel = np.arange(levels.shape[1])[:, None, None]
        return ((channel * self._contexts + contexts) * LEVELS + levels).ravel()


def _smoothed(counts: NDArray[np.int64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blends counts (..., LEVELS) with the probabilities one step less specific."""
    distinct = np.maximum((counts > 0).sum(-1, keepdims=True), 1)
    return (counts + distinct * below) / (counts.sum(-1, keepdims=True) + distinct)
