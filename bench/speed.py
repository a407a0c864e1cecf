"""How fast this machine computes: a short measurement, once per process."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

MEASURED_S = 0.25
"""Seconds of measurement, after one step that is not counted."""

BATCH, CHANNELS, SIDE = 64, (32, 64), 16
"""A training step of two 3×3 convolutions with norm and pooling between: what targets and decoders spend their time on."""


@lru_cache(maxsize=8)
def cpu_gflops(threads: int, workers: int) -> float:
    """Returns 10⁹ floating-point operations a second that each of some workers reaches while all of them compute.

    The workers are threads here and processes in a run; either way they share cores, caches and memory. What else runs
    on the machine slows this measurement as it will slow the run.

    Args:
        threads: torch threads per worker.
        workers: how many compute at once.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return statistics.mean(pool.map(lambda _: _gflops(), range(workers)))
    finally:
        torch.set_num_threads(before)


def _gflops() -> float:
    import torch
    import torch.nn.functional as F

    a, b = CHANNELS
    layout = torch.channels_last
    # Constants instead of draws: no generator is touched, and the values make no difference to the time.
    x = torch.full((BATCH, a, SIDE, SIDE), 0.5).contiguous(memory_format=layout)
    first = torch.full((b, a, 3, 3), 0.01).contiguous(memory_format=layout).requires_grad_()
    second = torch.full((b, b, 3, 3), 0.01).contiguous(memory_format=layout).requires_grad_()
    gain = torch.ones(b, requires_grad=True)
    macs = 9 * b * SIDE**2 * (a + b / 4)
    gflop = 3 * 2 * macs * BATCH / 1e9  # a backward pass costs two forward passes

    def step() -> float:
        started = time.perf_counter()
        h = F.batch_norm(F.conv2d(x, first, padding=1), None, None, gain, None, training=True)
        F.conv2d(F.relu(F.max_pool2d(h, 2)), second, padding=1).square().mean().backward()
        first.grad = second.grad = gain.grad = None
        return time.perf_counter() - started

    step()
    times = [step()]
    while sum(times) < MEASURED_S or len(times) < 3:
        times.append(step())
    return gflop / statistics.median(times)
