"""Local differential privacy on the wire: features clipped to a norm, and noise set from epsilon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense, NoiseShape
from splitaudit.guarantee import Guarantee
from splitaudit.params import Params
from splitaudit.split import Split

from ._gaussian_mechanism import epsilon_of, noise_multiple

TINY = 1e-12
"""The least clipping norm: where client_train has zero features only, almost nothing is sent, and nothing is infinite."""


class ClipNoiseParams(Params):
    """Parameters of :class:`ClipNoise`."""

    epsilon: float = Field(
        8.0, gt=0, description="privacy budget ε of sending one image once, in nats; less is stricter"
    )
    delta: float = Field(
        1e-5, ge=1e-15, lt=1, description="δ, the probability with which ε may be exceeded; Gaussian noise only"
    )
    distribution: Literal["gaussian", "laplace"] = Field(
        "gaussian", description="shape of the noise: gaussian clips the L2 norm, laplace the L1 norm and has δ = 0"
    )
    clip: float = Field(
        1.0, gt=0, description="clipping norm in units of the median norm of an image's clean features on client_train"
    )


class ClipNoise(Defense):
    """Clips each image's features to a norm C and adds noise that makes one image private: z' = z·min(1, C/‖z‖) + n.

    The norm is that of all features of an image together. Any two images lie at most 2C apart after clipping, so

    - Gaussian: n ~ N(0, σ²) with the least σ that is (ε, δ) private for an L2 distance of 2C, exactly (at ε = 8,
      δ = 1e-5: 1.2·C);
    - Laplace: n with scale b = 2C/ε for an L1 distance of 2C, which is ε private (δ = 0).

    **What is guaranteed**: local differential privacy of one release. Whoever receives z' can tell any image from any
    other one at most by a factor e^ε (but for a probability of δ), whatever else is known: the weights, other images, the
    attack. K releases of one image cost K·ε, also when the attacker averages them; :meth:`epsilon_after` gives the exact
    figure, which for Gaussian noise grows about as √K while it is small and as K where it is large. The guarantee is in
    :attr:`epsilon` and :attr:`delta`, and in the tables (``privacy_epsilon``) by :meth:`guarantees`.

    **Accounting**: the closed form of Balle and Wang and its root are code of this project. opacus (an extra, which only
    ``dpsgd_groupnorm`` needs) bounds Rényi divergences or approximates, where one release of Gaussian noise has an exact
    answer: its ε would be too large, so the noise too. ``dp-accounting`` has the exact answer, but would be a dependency
    of every installation, one that pins old versions of other packages, for the root of one equation. Its figures
    (0.6.0) are in the tests: they agree to 1e-8, and ours is never on the side of less noise.

    **What is not**: C is ``clip`` times the median norm of clean features on ``client_train`` (running and without
    gradient in training, exact and frozen afterwards). At inference it is a public constant that does not depend on the
    image that is sent, so the guarantee holds as stated for every image that the device sends. It says nothing about the
    images of client_train: C and the weights are computed from them, without noise. Nor does it cover the label, the
    number of images, or what floating-point noise leaks (Mironov, CCS 2012: exact arithmetic is assumed).

    **Dimension**: each element's noise is as large in thousands of elements as in one, while the length of the signal is
    at most C. Over D elements the noise has the length σ·√D (Gaussian), or D·b in L1 (Laplace): at ε = 8 and D = 4,096
    that is 77 and 1,024 times C. Features that are trained with it learn to live with that, all their length in a few
    directions, at a cost in accuracy; those of a network trained without it drown. Signal and noise are equally long
    near ε = 2·D, for both shapes: such a budget is a noise level and no guarantee.

    Source: Dwork et al., TCC 2006 (Laplace mechanism); Balle and Wang, ICML 2018 (analytic Gaussian mechanism); clipping
    by norm as in Abadi et al., CCS 2016. Departures: there a data set's answer is protected, here a single image's
    features (neighbours are any two images, hence 2C, where the addition of one record gives C); the bound is relative to
    the features instead of a free constant, so that an edge cannot win by inflating them; the cloud is trained with
    clipping and noise unless ``when: infer``. Rectified features lie closer than 2C in L2 (√2·C); this is not used, the
    guarantee holds for any edge. There are no neutral parameters: clipping has no end.
    """

    Params = ClipNoiseParams
    version = 1
    source = "Dwork et al., TCC 2006; Balle and Wang, ICML 2018, theorem 8; clipping as in Abadi et al., CCS 2016"
    claims = {"mse": "up"}  # noqa: RUF012
    acts_on_wire = True

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def noise_shape(self) -> NoiseShape:
        return self.params.distribution

    @property
    def epsilon(self) -> float:
        """ε of sending one image once."""
        return self.epsilon_after(1)

    @property
    def delta(self) -> float:
        """δ that goes with it; 0 for Laplace noise."""
        return self.params.delta if self.params.distribution == "gaussian" else 0.0

    def epsilon_after(self, releases: int) -> float:
        """Returns ε, at the same δ, once an image has been sent several times with fresh noise.

        Exact: K·ε for Laplace noise; K draws of Gaussian noise say as much as their mean, whose deviation is σ/√K.

        Args:
            releases: K, at least 1.
        """
        if releases < 1:
            raise ValueError(f"got {releases} releases, expected at least 1")
        if self.params.distribution == "laplace" or releases == 1:
            return self.params.epsilon * releases
        return epsilon_of(self.noise_scale / 2 / releases**0.5, self.params.delta)

    def guarantees(self, notes: Mapping[str, Any], releases: int = 1) -> tuple[Guarantee, ...]:
        gaussian = self.params.distribution == "gaussian"
        often = "once" if releases == 1 else f"{releases} times"
        more = "an image that is sent more often" if releases == 1 else "an image that is sent more often than that"
        exact = "exact for Gaussian noise (Balle and Wang 2018)" if gaussian else "exact for Laplace noise (K·ε)"
        return (
            Guarantee(
                about="sent image",
                epsilon=self.epsilon_after(releases),
                delta=self.delta,
                protects=f"one image sent {often} (local DP)",
                leaves_out=f"{more}; the images that the network was trained on; against who knows the suite's seed, and so "
                "the noise",
                accountant=exact,
            ),
        )

    @property
    def noise_scale(self) -> float:
        """The noise in units of C: standard deviation σ/C (Gaussian) or scale b/C (Laplace)."""
        if self.params.distribution == "gaussian":
            return 2 * noise_multiple(self.params.epsilon, self.params.delta)
        return 2 / self.params.epsilon

    def prepare(self, split: Split) -> None:
        self.typical = MedianNorm(2 if self.params.distribution == "gaussian" else 1)

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        self.typical.calibrate(features)

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        bound = self._bound(z)  # once: in training each look at features moves it
        return self._clipped(z, bound) + self.noise_scale * bound * self._unit(z, generator)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return self._clipped(z, self._bound(z))

    def _bound(self, z: torch.Tensor) -> torch.Tensor:
        return (self.params.clip * self.typical(z)).clamp_min(TINY)

    def _clipped(self, z: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
        norm = self.typical.norm(z)
        return z * (bound / torch.maximum(norm, bound)).reshape(-1, *[1] * (z.ndim - 1))

    def _unit(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.params.distribution == "gaussian":
            return torch.empty_like(z).normal_(generator=generator)
        # A difference of two exponentials of rate 1 is Laplace of scale 1.
        first = torch.empty_like(z).exponential_(generator=generator)
        return first - torch.empty_like(z).exponential_(generator=generator)


class MedianNorm(nn.Module):
    """Keeps the median norm of an image's clean features: a running statistic without gradient, then frozen.

    Args:
        order: 1 or 2, of the norm.
        momentum: weight of the newest batch in training.
    """

    median: torch.Tensor
    seen: torch.Tensor

    def __init__(self, order: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.order, self.momentum = order, momentum
        self.register_buffer("median", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def norm(self, z: torch.Tensor) -> torch.Tensor:
        """Returns the norm of all features of each image, (N,)."""
        return torch.linalg.vector_norm(z.flatten(1), self.order, dim=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Returns the median norm, a scalar; updates it first while training."""
        if self.training:
            with torch.no_grad():
                median = self.norm(z.detach()).quantile(0.5)
                self.median.copy_(median if self.seen == 0 else self.median.lerp(median, self.momentum))
                self.seen += 1
        return self.median

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Sets the exact median over all images."""
        with torch.no_grad():
            norms = [self.norm(z) for z in features()]
            if not norms:
                raise ValueError("calibrate got no features")
            self.median.copy_(torch.cat(norms).quantile(0.5))
            self.seen.fill_(1)  # how many batches were seen before has no bearing any more
