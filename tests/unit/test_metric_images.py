"""Per-image metrics: definitions, references, and the faults that published code has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from splitaudit.metric import Metric
from splitaudit.metrics.mse import MSE
from splitaudit.metrics.psnr import PSNR
from splitaudit.metrics.retrieval import Retrieval
from splitaudit.metrics.ssim import SSIM
from splitaudit.plugins import METRICS

PIXEL_METRICS = ["mse", "psnr", "ssim", "retrieval"]


def images(n: int = 6, channels: int = 3, height: int = 24, width: int = 20, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 5, 5, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth + 0.1 * torch.rand(n, channels, height, width, generator=g)).clamp(0, 1)


def noisy(x: torch.Tensor, sigma: float = 0.1, seed: int = 1) -> torch.Tensor:
    return (x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def metric(name: str) -> Metric:
    made = METRICS.get(name)()
    assert isinstance(made, Metric)
    return made


@pytest.mark.parametrize("name", PIXEL_METRICS)
def test_a_copy_has_the_declared_best_value(name: str) -> None:
    x = images()
    torch.testing.assert_close(metric(name).per_sample(x, x), torch.full((6,), metric(name).best), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["mse", "psnr", "ssim"])
def test_more_noise_moves_the_value_in_the_declared_direction(name: str) -> None:
    x, m = images(), metric(name)
    little, much = m.per_sample(x, noisy(x, 0.05)), m.per_sample(x, noisy(x, 0.3))
    assert bool((much < little).all() if m.higher_means == "more leakage" else (much > little).all())


@pytest.mark.parametrize("name", PIXEL_METRICS)
def test_integer_images_are_refused_with_what_to_do(name: str) -> None:
    x = (255 * images()).to(torch.uint8)
    with pytest.raises(ValueError, match=r"uint8, expected float in \[0, 1\]. Divide 8-bit images by 255"):
        metric(name).per_sample(x, x)


@pytest.mark.parametrize("name", PIXEL_METRICS)
def test_shapes_are_compared_and_never_broadcast(name: str) -> None:
    x = images()
    with pytest.raises(ValueError, match="expected equal shapes"):
        metric(name).per_sample(x, x[:1])
    with pytest.raises(ValueError, match=r"expected \(N, C, H, W\)"):
        metric(name).per_sample(x[0], x[0])


@pytest.mark.parametrize("value", [float("nan"), 2.0, -0.5])
def test_values_that_cannot_be_an_image_are_refused(value: float) -> None:
    x = images()
    broken = x.clone()
    broken[2, 0, 3, 3] = value
    with pytest.raises(ValueError, match="guess: got values"):
        MSE().per_sample(x, broken)


@pytest.mark.parametrize("name", ["mse", "psnr", "ssim"])
def test_an_images_value_does_not_depend_on_its_batch(name: str) -> None:
    x, m = images(), metric(name)
    y = noisy(x)
    together = m.per_sample(x, y)
    alone = torch.cat([m.per_sample(a, b) for a, b in zip(x.split(1), y.split(1))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(m.per_sample(x[order], y[order]), together[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_mse_and_psnr_agree_with_scikit_image(channels: int) -> None:
    x = images(channels=channels)
    y = noisy(x)
    pairs = list(zip(x.double().numpy(), y.double().numpy()))
    mse = [mean_squared_error(a, b) for a, b in pairs]
    psnr = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
    np.testing.assert_allclose(MSE().per_sample(x, y).numpy(), mse, rtol=1e-5)
    np.testing.assert_allclose(PSNR().per_sample(x, y).numpy(), psnr, rtol=1e-5)


def test_mse_is_a_mean_over_channels_and_no_sum() -> None:
    """SiftFunnel's code divides by the pixels alone, which makes RGB values three times as large."""
    x = torch.zeros(2, 3, 4, 4)
    torch.testing.assert_close(MSE().per_sample(x, x + 0.5), torch.full((2,), 0.25))


def test_psnr_with_the_peak_255_on_8_bit_images_is_refused_and_the_peak_is_1() -> None:
    x = torch.zeros(1, 1, 4, 4)
    assert float(PSNR().per_sample(x, x + 0.1)) == pytest.approx(20.0, abs=1e-4)
    with pytest.raises(ValueError, match=r"guess: got values from 25\.5 to 25\.5"):
        PSNR().per_sample(255 * x, 255 * (x + 0.1))


def test_psnr_is_a_mean_per_image_and_not_of_the_pooled_error() -> None:
    x = torch.zeros(2, 1, 8, 8)
    y = torch.stack([torch.full((1, 8, 8), 0.01), torch.full((1, 8, 8), 10 ** (-10.5 / 20))])
    values = PSNR().per_sample(x, y)
    torch.testing.assert_close(values, torch.tensor([40.0, 10.5]), atol=1e-3, rtol=0)
    pooled = -10 * float(MSE().per_sample(x, y).mean().log10())
    assert float(values.mean()) - pooled == pytest.approx(25.25 - 13.51, abs=0.01)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 24, 20), (3, 24, 20), (3, 11, 32), (1, 64, 48)])
def test_ssim_agrees_with_scikit_images_gaussian_form(channels: int, height: int, width: int) -> None:
    x = images(3, channels, height, width)
    y = noisy(x)
    expected = [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=0
        )
        for a, b in zip(x.numpy(), y.numpy())
    ]
    np.testing.assert_allclose(SSIM().per_sample(x, y).numpy(), expected, atol=1e-4)


def test_ssim_does_not_mix_neighbouring_images() -> None:
    """SiftFunnel's code takes the batch for a third axis of one volume: values depend on the neighbours."""
    x = images(4)
    y = noisy(x, 0.2)
    y[0] = x[0]
    values = SSIM().per_sample(x, y)
    assert float(values[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(values[1:].max()) < 0.95


def test_ssim_of_images_smaller_than_its_window_is_unavailable_with_the_reason() -> None:
    assert SSIM().unavailable((3, 11, 11)) is None
    assert "at least 11 px a side" in str(SSIM().unavailable((3, 32, 10)))
    x = images(height=10, width=32)
    with pytest.raises(ValueError, match="at least 11 px"):
        SSIM().per_sample(x, x)


def test_a_constant_guess_identifies_at_most_one_image() -> None:
    x = images(20)
    for guess in (torch.full_like(x, 0.5), x.mean(0).expand_as(x), x[7].expand_as(x)):
        assert float(Retrieval().per_sample(x, guess.contiguous()).sum()) <= 1


def test_images_that_look_alike_count_as_missed() -> None:
    x = images(5)
    x[4] = x[1]
    assert Retrieval().per_sample(x, x).tolist() == [1.0, 0.0, 1.0, 1.0, 0.0]


def test_retrieval_finds_images_through_noise_and_not_those_of_others() -> None:
    x = images(20)
    assert float(Retrieval().per_sample(x, noisy(x, 0.1)).mean()) == 1.0
    assert float(Retrieval().per_sample(x, noisy(x, 0.1).roll(1, 0)).mean()) == 0.0


def test_retrieval_orders_values_with_its_images() -> None:
    x = images(8)
    y = torch.cat([noisy(x[:5]), noisy(x[5:]).roll(1, 0)])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    values = Retrieval().per_sample(x, y)
    assert values.tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert torch.equal(Retrieval().per_sample(x[order], y[order]), values[order])
