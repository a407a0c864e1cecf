"""How long scoring takes: per-image metrics of 128 guesses, and intervals over 1,000 images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from splitaudit import stats
from splitaudit.metrics.mse import MSE
from splitaudit.metrics.retrieval import Retrieval
from splitaudit.metrics.ssim import SSIM
from splitaudit.nn.dependence import distance_correlation


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    return torch.rand(128, 3, 32, 32, generator=g), torch.rand(128, 3, 32, 32, generator=g)


@pytest.mark.parametrize("metric", [MSE, SSIM, Retrieval])
def test_bench_metric_of_128_images(benchmark: Any, images: tuple[torch.Tensor, torch.Tensor], metric: Any) -> None:
    values = benchmark(lambda: metric().per_sample(*images))
    assert values.shape == (128,)


def test_bench_interval_of_1000_images_and_3_seeds(benchmark: Any) -> None:
    values = np.random.default_rng(0).random((3, 1000))
    found = benchmark(lambda: stats.ratio_interval(values, np.ones((1, 1000))))
    assert found.low < found.value < found.high


def test_bench_distance_correlation_step_of_64_images(benchmark: Any) -> None:
    g = torch.Generator().manual_seed(0)
    x, z = torch.rand(64, 3072, generator=g), torch.rand(64, 4096, generator=g, requires_grad=True)

    def step() -> torch.Tensor:
        (grad,) = torch.autograd.grad(distance_correlation(x, z), z)
        return grad

    assert benchmark(step).abs().sum() > 0
