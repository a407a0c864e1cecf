"""Reference values for metrics: a fixture of sines whose figures were derived independently in numpy.

x[b,c,h,w] = sin(.37b + 1.3c + .21h + .11w + .05bh), 8×3×16×16; y = (x + 1)/2 against r[…,w] = .5 + .5 cos(.2w). The
values are those of the definitions in the official code of arXiv 2501.00824, and the tests say where ours differ.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from splitaudit.metrics.mse import MSE
from splitaudit.metrics.psnr import PSNR
from splitaudit.metrics.ssim import SSIM


def grid(*shape: int) -> list[torch.Tensor]:
    return [
        torch.arange(n, dtype=torch.float64).reshape([-1 if i == axis else 1 for i in range(4)])
        for axis, n in enumerate(shape)
    ]


def fixture_images() -> tuple[torch.Tensor, torch.Tensor]:
    b, c, h, w = grid(8, 3, 16, 16)
    y = (torch.sin(0.37 * b + 1.3 * c + 0.21 * h + 0.11 * w + 0.05 * b * h) + 1) / 2
    return y, (0.5 + 0.5 * torch.cos(0.2 * w)).expand_as(y).contiguous()


def test_mse_of_the_fixture() -> None:
    assert float(MSE().per_sample(*fixture_images()).mean()) == pytest.approx(0.2515419175, abs=1e-9)


def test_mse_summed_over_channels_is_three_times_ours() -> None:
    assert 3 * float(MSE().per_sample(*fixture_images()).mean()) == pytest.approx(0.7546257524, abs=1e-9)


def test_psnr_of_the_fixture_is_the_pooled_value_only_when_pooled() -> None:
    y, r = fixture_images()
    pooled = -10 * np.log10(float(MSE().per_sample(y, r).mean()))
    assert pooled == pytest.approx(5.99389633, abs=1e-7)
    values = PSNR().per_sample(y, r)
    assert float(values.mean()) - pooled > 1e-3
    one = torch.cat(list(y.split(1)), dim=2), torch.cat(list(r.split(1)), dim=2)
    assert float(PSNR().per_sample(*one)) == pytest.approx(5.99389633, abs=1e-7)


def test_ssim_of_the_fixture_is_scikit_images_and_not_the_three_dimensional_one() -> None:
    y, r = fixture_images()
    expected = [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=0
        )
        for a, b in zip(y.numpy(), r.numpy())
    ]
    values = SSIM().per_sample(y, r).numpy()
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert abs(values.mean() - -0.00015421) > 1e-3
