"""Projections of the features: what is kept, what crosses the wire, and what the cloud makes of it."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from splitaudit.composed import Composed
from splitaudit.defense import Defense, Network
from splitaudit.defenses.nullspace import MOST, Nullspace, NullspaceParams, _gram, first_layers
from splitaudit.defenses.pca import Pca, PcaParams
from splitaudit.errors import Unsupported
from splitaudit.models.resnet18 import ResidualBlock
from splitaudit.nn.principal import principal_components
from splitaudit.split import Split, SplitInfo

SHAPE = (4, 3, 3)
SIZE = math.prod(SHAPE)
SIDE = (3, 3, 4)
DRAWS = torch.Generator()
HEAD: list[nn.Module] = [nn.Flatten(), nn.Linear(SIZE, 5)]


def features(n: int = 200, seed: int = 0) -> torch.Tensor:
    """Correlated features whose directions have very different variances."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(SIZE, SIZE, generator=g) * torch.logspace(1, -1, SIZE)[:, None]
    return (torch.randn(n, SIZE, generator=g) @ mix + 2).reshape(n, *SHAPE)


def fitted(made: Defense, z: torch.Tensor, cloud: nn.Sequential | None = None) -> Defense:
    """Returns a defense that was fitted to features z, which the network's "images" are."""
    cloud = cloud or nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 5))
    info = SplitInfo("toy", "block1", SIDE, 5)
    made.prepare(Split(info, nn.Sequential(nn.Unflatten(1, (4,)), nn.Identity()), cloud))
    made.fit(Network(lambda x: x, cloud.eval(), lambda: z.split(64)))
    return made.eval()


@pytest.fixture
def unshaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the toy split have features of the test's shape without a network that makes them."""
    monkeypatch.setattr(Split, "feature_shape", lambda self: self.received or SHAPE)
    monkeypatch.setattr("splitaudit.defenses.nullspace.feature_shape", lambda *_: SHAPE)


@pytest.mark.usefixtures("unshaped")
def test_pca_keeps_as_much_variance_as_numpys_singular_vectors() -> None:
    z = features()
    made = fitted(Pca(PcaParams(keep=0.25)), z)
    sent = made.protect(z, DRAWS)
    assert sent.shape == (len(z), 9)
    rows = z.flatten(1).double().numpy()
    centred = rows - rows.mean(0)
    s = np.linalg.svd(centred, compute_uv=False)
    assert float(sent.double().square().sum()) == pytest.approx(float((s[:9] ** 2).sum()), rel=1e-5)
    left = (made.lift(sent) - z).double().square().sum()
    assert float(left) == pytest.approx(float((s[9:] ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize("n", [20, 200], ids=["fewer rows than numbers", "more"])
def test_principal_components_are_orthonormal_and_span_what_numpys_do(n: int) -> None:
    rows = features(n).flatten(1)
    found = principal_components(rows, 6).double()
    assert torch.allclose(found.T @ found, torch.eye(6, dtype=torch.float64), atol=1e-5)
    _, _, vt = np.linalg.svd((rows - rows.mean(0)).double().numpy(), full_matrices=False)
    overlap = np.linalg.svd(vt[:6] @ found.numpy(), compute_uv=False)
    assert overlap.min() > 1 - 1e-5


@pytest.mark.usefixtures("unshaped")
def test_more_components_than_the_images_have_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"keep=0.5 asks for 18 components, which the features of 12 images"):
        fitted(Pca(PcaParams(keep=0.5)), features(12))
    with pytest.raises(ValueError, match="vary in 3 directions, 5 were asked for"):
        principal_components(torch.randn(50, 3) @ torch.randn(3, SIZE), 5)


@pytest.mark.usefixtures("unshaped")
def test_a_linear_first_layer_misses_nothing_of_what_lies_in_its_null_space() -> None:
    """Ten outputs read ten directions: with as many coefficients the logits are those without a defense."""
    cloud = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 10))
    z = features()
    made = fitted(Nullspace(NullspaceParams(keep=10 / SIZE)), z, cloud)
    lifted = made.lift(made.protect(z, DRAWS))
    with torch.no_grad():
        assert torch.allclose(cloud(lifted), cloud(z), rtol=1e-4, atol=1e-3)
    assert float((lifted - z).square().mean() / z.var()) > 0.05, "something was removed"


@pytest.mark.usefixtures("unshaped")
def test_the_components_that_change_the_first_layer_least_are_left_out() -> None:
    cloud = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5))
    z = features()
    conv = cloud[0]
    errors = []
    with torch.no_grad():
        for keep in (0.25, 0.5, 0.75):
            made = fitted(Nullspace(NullspaceParams(keep=keep)), z, cloud)
            error = float((conv(made.lift(made.protect(z, DRAWS))) - conv(z)).square().mean())
            # What the same vectors in another order would leave: the mean over random choices of as many.
            gram = _gram(conv, SHAPE, z)
            vectors = torch.linalg.eigh(gram)[1]
            others = []
            for seed in range(8):
                pick = torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed))[: made.count(SHAPE)]
                v, centred = vectors[:, pick], z.flatten(1) - z.flatten(1).mean(0)
                other = (z.flatten(1).mean(0) + centred @ v @ v.T).reshape(z.shape)
                others.append(float((conv(other) - conv(z)).square().mean()))
            assert error < min(others)
            errors.append(error)
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 2, 1, stride=2), nn.Linear(SIZE, 7)], ids=str
)
def test_the_matrix_of_a_layer_is_its_jacobians_product(layer: nn.Conv2d | nn.Linear) -> None:
    shape = (SIZE,) if isinstance(layer, nn.Linear) else SHAPE
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v.reshape(1, *shape)).flatten(), torch.zeros(SIZE))
    with torch.no_grad():
        assert torch.allclose(_gram(layer, SHAPE, torch.zeros(1)), jacobian.T @ jacobian, atol=1e-5)


def test_every_layer_that_reads_the_features_is_found_and_no_other() -> None:
    block = ResidualBlock(4, 8, stride=2)
    found = first_layers(nn.Sequential(block, nn.Flatten(), nn.Linear(32, 5)).eval(), torch.randn(2, *SHAPE))
    assert {id(m) for m in found} == {id(block.conv1), id(block.shortcut.conv)}
    head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=nn.Linear(SIZE, 5), logits=nn.Linear(5, 2)))
    assert first_layers(head, torch.randn(2, *SHAPE)) == [head.hidden]
    with pytest.raises(Unsupported, match="does not begin with a convolution or a linear layer"):
        first_layers(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)), torch.randn(2, *SHAPE))


@pytest.mark.usefixtures("unshaped")
@pytest.mark.parametrize(
    ("parts", "cloud", "images", "reason"),
    [
        ([Nullspace(NullspaceParams(keep=0.5))], HEAD, 2, None),
        ([Nullspace(NullspaceParams(keep=0.5))], HEAD, 1, "nullspace needs at least 2 images"),
        ([Nullspace(NullspaceParams(keep=1))], [nn.MaxPool2d(2), *HEAD], 1, None),
        ([Nullspace(NullspaceParams(keep=0.5))], [nn.ReLU(), *HEAD], 2, "does not begin with a convolution"),
        ([Pca(PcaParams(keep=0.5)), Nullspace(NullspaceParams(keep=0.5))], HEAD, 99, "has to be the first defense"),
        ([Nullspace(NullspaceParams(keep=0.5)), Pca(PcaParams(keep=0.5))], HEAD, 10, None),
        ([Nullspace(NullspaceParams(keep=0.5)), Pca(PcaParams(keep=0.5))], HEAD, 9, "asks for 9 components"),
        ([Pca(PcaParams(keep=0.5))], HEAD, 19, None),
        ([Pca(PcaParams(keep=0.5))], HEAD, 18, "asks for 18 components, which the features of 18 images"),
        ([Pca(PcaParams(keep=1))], HEAD, 1, None),
    ],
)
def test_what_cannot_be_projected_is_known_before_anything_is_fitted(
    parts: list[Defense], cloud: list[nn.Module], images: int, reason: str | None
) -> None:
    split = Split(SplitInfo("toy", "block1", SIDE, 5), nn.Sequential(nn.Identity()), nn.Sequential(*cloud))
    found = (Composed(parts) if len(parts) > 1 else parts[0]).obstacle(split, images)
    assert found is None if reason is None else reason in str(found)
    assert split.cloud.training, "asking leaves the network as it is"


def test_what_no_memory_holds_is_not_built_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitaudit.defenses.nullspace.feature_shape", lambda *_: (MOST + 1,))
    split = Split(SplitInfo("toy", "block1", SIDE, 5), nn.Sequential(), nn.Sequential(*HEAD), received=(MOST + 1,))
    with pytest.raises(Unsupported, match="at most 8,192 numbers an image, got 8,193: cut deeper"):
        Nullspace(NullspaceParams(keep=0.5)).prepare(split)


@pytest.mark.usefixtures("unshaped")
def test_behind_a_projection_noise_is_on_the_coefficients_and_the_cloud_fills_up() -> None:
    from splitaudit.defenses.noise import Noise, NoiseParams

    z = features()
    pca, noise = Pca(PcaParams(keep=0.25)), Noise(NoiseParams(sigma=0.5))
    both = fitted(Composed([pca, noise]), z)
    both.calibrate(lambda: z.split(64))
    assert noise.scale is not None
    torch.testing.assert_close(
        noise.scale.std.flatten(), pca.protect(z, DRAWS).std(0, unbiased=False), rtol=1e-4, atol=1e-4
    )
    assert both.wire_shape(SHAPE) == (9,)
    assert both.wire_bits(SHAPE) == 32 * 9
    assert both.lift(both.protect(z, DRAWS)).shape == z.shape
