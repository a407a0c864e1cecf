"""Reference rows, computed from the truth: mean colours and thumbnails, the yardstick of every reconstruction."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

REFERENCE_ROWS = ("mean_colour", "thumbnail-4", "thumbnail-8", "thumbnail-16")
"""Rows that every table shows beside the attacks; they need the truth and are labelled so."""

MOST_SIDES = 32
_CHUNK = 64


def thumbnail(images: torch.Tensor, side: int) -> torch.Tensor:
    """Returns images as a thumbnail shows them: shrunk by exact area averaging, enlarged bilinearly.

    Args:
        images: float in [0, 1], (N, C, H, W).
        side: pixels of the thumbnail's shorter side, 1 to min(H, W). The longer one keeps the proportions; side 1 is
            one pixel whatever the proportions: each image's own mean colour. The full side is the image itself.
    """
    height, width = images.shape[-2:]
    short = min(height, width)
    if not 1 <= side <= short:
        raise ValueError(f"got a thumbnail of side {side}, expected 1 to {short} for images of {height}×{width} px")
    if side == short:
        return images.clone()
    if side == 1:
        return images.mean((-2, -1), keepdim=True).expand_as(images).contiguous()
    rows, columns = (round(n * side / short) for n in (height, width))
    small = _averaging(height, rows, images) @ images @ _averaging(width, columns, images).T
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def reference_guesses(truth: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Returns the guesses of each reference row and, for rows that are left out, the reason.

    Args:
        truth: images, float in [0, 1], (N, C, H, W).
    """
    short = min(truth.shape[-2:])
    guesses: dict[str, torch.Tensor] = {}
    left_out: dict[str, str] = {}
    for row in REFERENCE_ROWS:
        side = 1 if row == "mean_colour" else int(row.removeprefix("thumbnail-"))
        if side >= short:
            left_out[row] = f"a thumbnail of {side} px is no smaller than the images ({short} px)"
        else:
            guesses[row] = thumbnail(truth, side)
    return guesses, left_out


def measured_sides(side: int) -> list[int]:
    """Returns the sides of the thumbnails that are measured for images of a side: all, or 32 in geometric steps."""
    if side <= MOST_SIDES:
        return list(range(1, side + 1))
    return sorted({round(s) for s in np.geomspace(1, side, MOST_SIDES)})


def thumbnail_errors(truth: torch.Tensor) -> dict[int, np.ndarray]:
    """Returns the MSE of thumbnails of every measured side against their images: side to (N,), in double precision.

    Args:
        truth: images, float in [0, 1], (N, C, H, W).
    """
    return {
        side: np.concatenate(
            [(thumbnail(x, side) - x).square().flatten(1).mean(1).double().cpu().numpy() for x in truth.split(_CHUNK)]
        )
        for side in measured_sides(min(truth.shape[-2:]))
    }


def _averaging(n: int, m: int, like: torch.Tensor) -> torch.Tensor:
    """Returns the (m, n) matrix that averages n pixels over m equal intervals, pixels cut where an interval ends."""
    ends = torch.arange(m + 1, dtype=torch.float64) * n / m
    pixels = torch.arange(n, dtype=torch.float64)
    overlap = torch.minimum(ends[1:, None], pixels + 1) - torch.maximum(ends[:-1, None], pixels)
    return (overlap.clamp(min=0) * m / n).to(like.device, like.dtype)
