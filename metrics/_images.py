"""What every per-image metric asks of its arguments."""

from __future__ import annotations

from collections.abc import Callable

import torch

_TOLERANCE = 1e-3
"""By how much values may leave [0, 1]: rounding, not a wrong scale."""

CHUNK = 64
"""Images per pass of the heavy metrics."""


def check_images(truth: torch.Tensor, guess: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Checks a truth and a guess and returns both in at least single precision.

    Args:
        truth: (N, C, H, W), float, in [0, 1].
        guess: the same shape.

    Raises:
        ValueError: integer images, other shapes, values outside [0, 1] or not finite; the text says what to do.
    """
    for name, images in (("truth", truth), ("guess", guess)):
        if not images.is_floating_point():
            raise ValueError(
                f"{name}: got images of type {images.dtype}, expected float in [0, 1]. "
                "Divide 8-bit images by 255: every metric takes 1 as the peak."
            )
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"{name}: got shape {tuple(images.shape)}, expected (N, C, H, W) with nothing empty")
    if truth.shape != guess.shape:
        raise ValueError(
            f"got a guess of shape {tuple(guess.shape)} for a truth of shape {tuple(truth.shape)}, expected equal "
            "shapes: nothing is broadcast, resized or cut off"
        )
    for name, images in (("truth", truth), ("guess", guess)):
        low, high = (float(v) for v in images.aminmax())
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # NaN fails both comparisons
            raise ValueError(f"{name}: got values from {low:.4g} to {high:.4g}, expected finite ones in [0, 1]")
    dtype = torch.promote_types(torch.promote_types(truth.dtype, guess.dtype), torch.float32)
    return truth.to(dtype), guess.to(dtype)


def squared_error(truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
    """Returns the squared error of each image, averaged over pixels and channels, (N,)."""
    truth, guess = check_images(truth, guess)
    return (truth - guess).square().flatten(1).mean(1)


def in_chunks(
    compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], truth: torch.Tensor, guess: torch.Tensor
) -> torch.Tensor:
    """Applies a per-image comparison to a few images at a time, so that memory does not grow with the set."""
    pairs = zip(truth.split(CHUNK), guess.split(CHUNK), strict=True)
    return torch.cat([compare(t, g) for t, g in pairs])
