"""Reference rows: mean colours and thumbnails of the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitaudit.references import (
    REFERENCE_ROWS,
    measured_sides,
    reference_guesses,
    thumbnail,
    thumbnail_errors,
)


def images(n: int = 4, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 7, 7, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return 0.8 * smooth + 0.2 * torch.rand(n, channels, height, width, generator=g)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 48)])
def test_side_1_is_each_images_mean_colour_and_the_full_side_the_image(height: int, width: int) -> None:
    x = images(height=height, width=width)
    torch.testing.assert_close(thumbnail(x, 1), x.mean((2, 3), keepdim=True).expand_as(x))
    assert torch.equal(thumbnail(x, min(height, width)), x)


def test_shrinking_averages_areas() -> None:
    x = images(height=8, width=8)
    small = thumbnail(x, 4)
    # Bilinear enlarging by 2 gives the corners the outermost averages themselves.
    torch.testing.assert_close(small[..., 0, 0], x[..., :2, :2].mean((2, 3)))
    torch.testing.assert_close(small[..., -1, -1], x[..., -2:, -2:].mean((2, 3)))


def test_shrinking_by_a_fraction_divides_pixels() -> None:
    """Three pixels to two: each keeps one whole neighbour and half of the middle one."""
    x = torch.tensor([0.0, 0.3, 0.9]).reshape(1, 1, 1, 3).expand(1, 1, 3, 3).contiguous()
    corner = thumbnail(x, 2)[0, 0, 0]
    assert corner[0].item() == pytest.approx((0.0 + 0.3 / 2) / 1.5, abs=1e-6)
    assert corner[-1].item() == pytest.approx((0.9 + 0.3 / 2) / 1.5, abs=1e-6)


@pytest.mark.parametrize("side", [2, 5, 16, 31])
def test_a_thumbnail_stays_between_0_and_1_and_keeps_a_constant_image(side: int) -> None:
    x = (images() > 0.5).float()
    small = thumbnail(x, side)
    assert small.shape == x.shape
    assert float(small.min()) >= 0
    assert float(small.max()) <= 1 + 1e-6
    grey = torch.full((1, 3, 32, 32), 0.37)
    torch.testing.assert_close(thumbnail(grey, side), grey)


def test_a_side_that_the_images_do_not_have_is_refused() -> None:
    for side in (0, 33):
        with pytest.raises(ValueError, match="expected 1 to 32"):
            thumbnail(images(), side)


def test_thumbnails_of_twice_the_side_have_smaller_errors_down_to_0() -> None:
    errors = thumbnail_errors(images())
    assert list(errors) == list(range(1, 33))
    means = [errors[side].mean() for side in (1, 2, 4, 8, 16, 32)]
    assert all(np.diff(means) < 0)
    assert means[-1] == 0
    assert errors[5].shape == (4,)
    x = images()
    np.testing.assert_allclose(errors[5], (thumbnail(x, 5) - x).square().mean((1, 2, 3)).numpy(), rtol=1e-6)


def test_large_images_have_a_selection_of_at_most_32_sides_from_1_to_their_own() -> None:
    for side in (33, 64, 224, 512):
        sides = measured_sides(side)
        assert len(sides) <= 32
        assert sides[0] == 1
        assert sides[-1] == side
        assert sides == sorted(set(sides))


def test_every_reference_row_is_given_or_left_out_with_its_reason() -> None:
    guesses, left_out = reference_guesses(images())
    assert tuple(guesses) == REFERENCE_ROWS
    assert left_out == {}
    assert torch.equal(guesses["thumbnail-8"], thumbnail(images(), 8))
    guesses, left_out = reference_guesses(images(height=16, width=40))
    assert tuple(guesses) == REFERENCE_ROWS[:3]
    assert left_out == {"thumbnail-16": "a thumbnail of 16 px is no smaller than the images (16 px)"}
