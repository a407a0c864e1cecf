"""SiftFunnel's corrected loss terms, their gradients, and what they cost in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from siftfunnel_targets import batch, target
from torch.utils._python_dispatch import TorchDispatchMode

from splitaudit.defenses._siftfunnel_losses import relative_activity, smoothed_divergence
from splitaudit.defenses.siftfunnel import SiftFunnel, SiftFunnelParams
from splitaudit.nn._pairwise import LinearMemoryDistances, pairwise_distances
from splitaudit.nn.dependence import (
    channel_correlation,
    channel_correlation_published,
    distance_correlation,
    distance_correlation_published,
)
from splitaudit.split import Normalize


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def defense(**params: Any) -> SiftFunnel:
    made = SiftFunnel(SiftFunnelParams(**params))
    made.normalize = Normalize(torch.zeros(3), torch.ones(3))
    return made


# -- independence ---------------------------------------------------------------------------------------------------


def test_the_corrected_dependence_of_independent_samples_is_zero_on_average() -> None:
    """100 pairs of batches: the mean lies within three standard errors of 0, the published form far above."""
    pairs = [(noise(16, 24, seed=i), noise(16, 3, 4, 4, seed=1000 + i)) for i in range(100)]
    corrected = torch.stack([distance_correlation(x, z) for x, z in pairs])
    published = torch.stack([distance_correlation_published(x, z) for x, z in pairs])
    assert abs(float(corrected.mean())) < 3 * float(corrected.std()) / 10
    assert float(published.mean()) > 0.5


def test_the_corrected_correlation_of_independent_channels_is_zero_on_average() -> None:
    z = noise(400, 6, 4, 4)
    values = torch.stack([channel_correlation(one[None]) for one in z])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20
    assert float(channel_correlation_published(z)) > 1 / 6


def test_the_corrected_correlation_is_that_of_different_channels() -> None:
    """Two channels with ρ = 0.6 over 100 positions: (0.36 − 1/99) · 99/98, whatever their scale and offset."""
    a = noise(100)
    a = (a - a.mean()) / (a - a.mean()).norm()
    b = noise(100, seed=1)
    b = b - b.mean() - (b @ a) * a
    b = 0.6 * a + 0.8 * b / b.norm()
    z = torch.stack([3 * a + 5, 1e-3 * b - 2]).reshape(1, 2, 10, 10)
    assert float(channel_correlation(z)) == pytest.approx((0.36 - 1 / 99) * 99 / 98, abs=1e-9)


def redundancy(z: torch.Tensor) -> float:
    """The corrected term by numpy's correlation coefficients, image by image and pair by pair; dead channels count 1."""
    values: list[float] = []
    for image in z.double().numpy():
        rows = image.reshape(len(image), -1)
        n = rows.shape[1]
        for i in range(len(rows)):
            for j in range(len(rows)):
                if i != j and (np.ptp(rows[i]) == 0 or np.ptp(rows[j]) == 0):
                    values.append(1.0)
                elif i != j:
                    rho = np.corrcoef(rows[i], rows[j])[0, 1]
                    values.append(1 - (1 - rho**2) * (n - 1) / (n - 2))
    return float(np.mean(values))


@pytest.mark.parametrize("dead", [[], [2], [0, 3]], ids=lambda d: f"{len(d)} dead")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_corrected_correlation_of_many_channels_agrees_with_numpys(dtype: torch.dtype, dead: list[int]) -> None:
    z = noise(4, 5, 6, 7) @ noise(7, 7, seed=1)
    z = (torch.einsum("dc,nchw->ndhw", noise(5, 5, seed=2), z) + 2).clamp_min(0).to(dtype)
    z[1:3, dead] = 0.7
    expected = redundancy(z)
    assert 0.05 < expected < 0.9
    assert float(channel_correlation(z)) == pytest.approx(expected, rel=1e-10 if dtype == torch.float64 else 1e-5)
    x, y = batch(4)
    alone = defense(variant="corrected", beta=0.0, activity=0.0, gamma=3.0).extra_loss(x, z, y, torch.zeros(4, 4))
    assert alone is not None
    assert float(alone) == pytest.approx(3 * expected, rel=1e-5)


def test_equal_channels_are_fully_redundant_and_a_single_one_is_not() -> None:
    one = noise(2, 1, 5, 5)
    assert float(channel_correlation(one.expand(2, 4, 5, 5))) == pytest.approx(1.0)
    assert float(channel_correlation(one)) == 0.0


@pytest.mark.parametrize("kind", ["independent", "alike", "mixed"])
def test_killing_channels_is_never_rewarded(kind: str) -> None:
    """The published term falls when channels die; the corrected one counts a dead channel as a copy of another."""
    z = noise(3, 6, 6, 6)
    if kind == "alike":
        z = z[:, :1] + 0.01 * z
    elif kind == "mixed":
        z[:, 1] = z[:, 0] + 0.1 * z[:, 1]
    before = float(channel_correlation(z))
    for dead in ([0], [1], [0, 1], [2, 3, 4], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]):
        killed = z.clone()
        killed[:, dead] = 0.7 if len(dead) == 2 else 0.0  # constant is as dead as zero
        assert float(channel_correlation(killed)) >= before - 1e-12, dead
        assert float(channel_correlation_published(killed)) < float(channel_correlation_published(z)), dead


def test_maps_too_small_for_a_correlation_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 positions, got 2"):
        channel_correlation(noise(2, 3, 1, 2))


# -- scale ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_rescaled_features_have_the_same_corrected_loss_and_not_the_same_published_one(scale: float) -> None:
    x, y = batch(12)
    z, logits = noise(12, 6, 5, 5, dtype=torch.float32).clamp_min(0), noise(12, 4, dtype=torch.float32)

    def loss(variant: str, z: torch.Tensor) -> float:
        extra = defense(variant=variant, setting="argparse").extra_loss(x, z, y, logits)
        assert extra is not None
        return float(extra)

    assert loss("corrected", scale * z) == pytest.approx(loss("corrected", z), rel=1e-5)
    assert abs(loss("published", scale * z) - loss("published", z)) > 1e-3


@pytest.mark.parametrize(
    ("z", "value"),
    [
        (torch.full((2, 9), -3.0), 1.0),
        (torch.eye(16)[:2], 0.25),
        (torch.zeros(2, 9), 0.0),
        (noise(4, 4000, dtype=torch.float32), (2 / torch.pi) ** 0.5),
        (1e-30 * noise(4, 4000, dtype=torch.float32), (2 / torch.pi) ** 0.5),
        (torch.cat([torch.zeros(1, 4), torch.ones(1, 4)]), 0.5),
    ],
    ids=["equal", "one of sixteen", "zero", "gaussian", "tiny", "one image dead"],
)
def test_relative_activity_has_its_known_values(z: torch.Tensor, value: float) -> None:
    assert float(relative_activity(z)) == pytest.approx(value, abs=0.01 if z.shape[1] == 4000 else 1e-6)


# -- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [channel_correlation, relative_activity], ids=lambda f: f.__name__)
def test_gradients_of_the_corrected_terms_are_right(measure: Any) -> None:
    z = noise(3, 3, 3, 3)
    z[0, 1] = 0.0
    mask = torch.ones_like(z)
    mask[0, 1] = 0.0  # at a dead channel the value jumps
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: measure(v * mask), z)


@pytest.mark.parametrize("variant", ["published", "corrected"])
@pytest.mark.parametrize("kind", ["zero", "constant", "dead channels", "equal images", "one live element"])
def test_the_penalties_and_their_gradients_are_finite_for_degenerate_features(variant: str, kind: str) -> None:
    z = noise(8, 4, 6, 6, dtype=torch.float32).clamp_min(0)
    if kind == "zero":
        z = torch.zeros_like(z)
    elif kind == "constant":
        z = torch.full_like(z, 0.3)
    elif kind == "dead channels":
        z[:, 1:] = 0
    elif kind == "equal images":
        z = z[:1].expand_as(z).clone()
    else:
        z = torch.zeros_like(z)
        z[0, 0, 0, 0] = 1e-20
    z.requires_grad_()
    x, y = batch(8)
    extra = defense(variant=variant).extra_loss(x, z, y, torch.zeros(8, 4))
    assert extra is not None
    assert bool(torch.isfinite(extra))
    (gradient,) = torch.autograd.grad(extra, z)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("backbone", ["cnn4", "resnet18", "vgg16_bn"])
@pytest.mark.parametrize("variant", ["published", "corrected"])
def test_every_penalty_reaches_the_edges_first_weights_by_itself(backbone: str, variant: str) -> None:
    model = target(backbone, width=32).train()
    x, y = batch(8)
    z = model.clean(x)
    first = next(p for p in model.edge.parameters())
    for term in ("beta", "gamma", "activity"):
        alone = {"beta": 0.0, "gamma": 0.0, "activity": 0.0, term: 1.0}
        model.defense.params = SiftFunnelParams.model_validate({"variant": variant, **alone})
        extra = model.defense.extra_loss(x, z, y, torch.zeros(8, 4))
        assert extra is not None, term
        (gradient,) = torch.autograd.grad(extra, first, retain_graph=True)
        assert bool(torch.isfinite(gradient).all()), term
        assert bool(gradient.any()), term


def test_a_batch_too_small_for_the_corrected_dependence_goes_without_it() -> None:
    x, y = batch(3)
    z = noise(3, 4, 5, 5, dtype=torch.float32)
    small = defense(variant="corrected").extra_loss(x, z, y, torch.zeros(3, 4))
    without = defense(variant="corrected", beta=0).extra_loss(x, z, y, torch.zeros(3, 4))
    assert small is not None
    assert without is not None
    assert float(small) == float(without)


def test_without_smoothing_the_task_term_is_the_cross_entropy() -> None:
    logits, y = noise(6, 5), torch.arange(6) % 5
    expected = torch.nn.functional.cross_entropy(logits, y)
    assert float(smoothed_divergence(logits, y, 0.0)) == pytest.approx(float(expected), abs=1e-12)
    assert float(smoothed_divergence(logits, y, 1e-9)) == pytest.approx(float(expected), abs=1e-6)


# -- memory ---------------------------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return out


@pytest.mark.parametrize("measure", [distance_correlation, distance_correlation_published], ids=lambda f: f.__name__)
@pytest.mark.parametrize("distances", [pairwise_distances, LinearMemoryDistances.apply], ids=["cdist", "own backward"])
def test_distance_correlation_never_holds_a_number_per_pair_and_feature(
    measure: Any, distances: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By broadcasting, a batch of 128 at 12,288 pixels takes 0.75 GiB; here nothing is larger than the batch itself."""
    monkeypatch.setattr("splitaudit.nn.dependence.pairwise_distances", distances)
    x, z = noise(32, 3, 16, 16), noise(32, 12, 8, 8, seed=1).requires_grad_()
    with LargestTensor() as largest:
        measure(x, z).backward()
    assert largest.numel <= max(x.numel(), z.numel())
    with LargestTensor() as broadcast:
        (z.flatten(1)[:, None] - z.flatten(1)[None]).square().sum(2)
    assert broadcast.numel == 32 * z.numel(), "what this test would see of broadcasting"
    assert z.grad is not None
    assert bool(z.grad.any())


@pytest.mark.parametrize("measure", [channel_correlation, channel_correlation_published], ids=lambda f: f.__name__)
def test_channel_correlation_holds_the_matrices_of_a_few_images_at_a_time(
    measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without parts the matrices of 16 images of 64 channels are 16 times their maps of 2×2; the values stay as they are."""
    z = noise(16, 64, 2, 2)
    z[3, 5] = 1.0  # a dead channel
    found = []
    for at_once in (2**22, 2 * 64 * 64):
        monkeypatch.setattr("splitaudit.nn.dependence.AT_ONCE", at_once)
        with LargestTensor() as largest:
            value = measure(u := z.clone().requires_grad_())
            value.backward()
        assert u.grad is not None
        found.append((float(value.detach()), u.grad, largest.numel))
    (whole, gradient, held), (parts, same, less) = found
    assert (held, less) == (16 * 64 * 64, 2 * 64 * 64)
    assert parts == pytest.approx(whole, rel=1e-12)
    assert torch.allclose(same, gradient, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("measure", [distance_correlation, distance_correlation_published], ids=lambda f: f.__name__)
def test_distance_correlation_of_65536_features_is_right_at_single_precision(measure: Any) -> None:
    """Gradient included; a plain sum of the squares is off by 1e-5 and more."""
    x, z = noise(64, 3072), noise(64, 65_536, seed=1)
    z[:, :3072] += 3 * x
    found = []
    for dtype in (torch.float64, torch.float32):
        u = z.to(dtype).requires_grad_()
        value = measure(x.to(dtype), u)
        (gradient,) = torch.autograd.grad(value, u)
        found.append((float(value.detach()), gradient.double()))
    (exact, pulls), (single, pulls_single) = found
    assert single == pytest.approx(exact, abs=1e-5)
    assert float((pulls_single - pulls).norm() / pulls.norm()) < 1e-4


def test_the_gradient_in_linear_memory_is_that_of_cdist() -> None:
    """Also where two samples are equal, and where all share a large part that cancels."""
    z = noise(10, 50) + 1e3
    z[4] = z[7]
    weight = noise(10, 10, seed=1)
    found = []
    for distances in (pairwise_distances, LinearMemoryDistances.apply):
        u = z.clone().requires_grad_()
        d: Any = distances(u)
        (gradient,) = torch.autograd.grad((weight * d).sum(), u)
        found.append((d.detach(), gradient))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], atol=1e-9)


@pytest.mark.gpu
def test_on_a_gpu_the_distance_correlation_of_wide_features_fits() -> None:
    """cdist's own backward pass would need 16 GiB for these 128 MiB of features."""
    z = torch.randn(128, 262_144, device="cuda", requires_grad=True)
    x = torch.randn(128, 12_288, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    distance_correlation(x, z).backward()
    assert torch.cuda.max_memory_allocated() - before < 8 * z.numel() * z.element_size()
