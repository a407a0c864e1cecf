"""Structural similarity of a reconstruction."""

from __future__ import annotations

import torch

from splitaudit.metric import Metric
from splitaudit.metrics._images import check_images, in_chunks

WINDOW = 11
SIGMA = 1.5


class SSIM(Metric):
    """Computes the structural similarity index with the Gaussian window of the original paper, per image.

    Window 11×11, standard deviation 1.5 px, K1 0.01, K2 0.03, data range 1, no sample covariance; the map is computed
    per channel and averaged over channels and over the pixels whose window lies inside the image. No window reaches
    into another image of the batch.

    Departure: none from Wang et al. 2004 for one channel; colour channels are averaged, as scikit-image does.
    """

    version = 1
    source = "Wang et al. 2004, IEEE TIP 13(4), equation 13"
    label = "structural similarity"
    bounds = (-1.0, 1.0)
    best = 1.0
    higher_means = "more leakage"
    reference = (
        "skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, "
        "data_range=1, channel_axis=0)"
    )

    def unavailable(self, image_shape: tuple[int, int, int]) -> str | None:
        _, height, width = image_shape
        if min(height, width) < WINDOW:
            return f"SSIM needs images of at least {WINDOW} px a side (its window), got {height}×{width}"
        return None

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        truth, guess = check_images(truth, guess)
        reason = self.unavailable((truth.shape[1], truth.shape[2], truth.shape[3]))
        if reason is not None:
            raise ValueError(reason)
        return in_chunks(_ssim, truth, guess)


def _ssim(truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
    # Imported here: it costs 1.5 s, and most commands need no SSIM.
    from torchmetrics.functional.image import structural_similarity_index_measure

    result = structural_similarity_index_measure(
        guess,
        truth,
        gaussian_kernel=True,
        sigma=SIGMA,
        kernel_size=WINDOW,
        reduction="none",
        data_range=1.0,
        k1=0.01,
        k2=0.03,
        return_full_image=True,
    )
    # torchmetrics' own mean keeps the reflected border; only windows inside the image are wanted.
    full = result[1]
    edge = WINDOW // 2
    return full[..., edge:-edge, edge:-edge].flatten(1).mean(1)
