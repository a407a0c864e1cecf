"""The control edges and toy data do what the checks take for granted, in numbers."""

from __future__ import annotations

import contextlib
import copy
import math

import pytest
import torch
from kit_toys import ToyAttack

from splitaudit.data.base import PARTS
from splitaudit.testing import Blind, Oracle, attacked, control_edge, control_target, toy_images, toy_part
from splitaudit.testing.data import CLASSES, part
from splitaudit.testing.edges import CONTROLS, TooManyPasses, with_passes
from splitaudit.testing.hidden import hidden, peek, under_attack

SHAPE = (3, 16, 16)


def images(shape: tuple[int, int, int] = SHAPE, n: int = 5) -> torch.Tensor:
    return toy_images(n, shape)[0]


@pytest.mark.parametrize("shape", [SHAPE, (1, 12, 20)])
def test_the_identity_edge_sends_the_image(shape: tuple[int, int, int]) -> None:
    assert torch.equal(control_edge("identity", shape)(images(shape)), images(shape))


@pytest.mark.parametrize("shape", [SHAPE, (1, 12, 20)])
def test_the_linear_edge_is_an_orthogonal_matrix(shape: tuple[int, int, int]) -> None:
    x = images(shape).flatten(1)
    z = control_edge("linear", shape)(images(shape)).detach()
    assert z.shape == (5, math.prod(shape))
    torch.testing.assert_close(z @ z.T, x @ x.T, rtol=1e-4, atol=1e-4)
    matrix = control_edge("linear", shape).get_submodule("matrix").weight
    torch.testing.assert_close(z @ matrix, x, rtol=1e-4, atol=1e-5)
    assert float((z - x).abs().mean()) > 0.1  # it is not the identity


@pytest.mark.parametrize("shape", [SHAPE, (1, 12, 20)])
def test_the_orthogonal_edge_keeps_every_inner_product_and_halves_the_sides(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    edge = control_edge("orthogonal", shape)
    x, z = images(shape), edge(images(shape))
    assert z.shape == (5, 4 * channels, height // 2, width // 2)
    torch.testing.assert_close(z.flatten(1) @ z.flatten(1).T, x.flatten(1) @ x.flatten(1).T, rtol=1e-4, atol=1e-4)
    kernel = edge.get_submodule("conv").weight
    torch.testing.assert_close(torch.nn.functional.conv_transpose2d(z, kernel, stride=2), x, rtol=1e-4, atol=1e-5)


def test_odd_sides_lose_their_last_row_and_column() -> None:
    x = images((3, 15, 17))
    edge = control_edge("orthogonal", (3, 15, 17))
    assert edge(x).shape == (5, 12, 7, 8)
    changed = x.clone()
    changed[:, :, -1], changed[:, :, :, -1] = 1, 0
    assert torch.equal(edge(changed), edge(x))


def test_the_constant_edge_sends_the_same_for_every_image_and_gives_no_gradient() -> None:
    x = images().requires_grad_(True)
    z = control_edge("constant", SHAPE)(x)
    assert z.shape == (5, 6, 8, 8)
    assert torch.equal(z, z[:1].expand_as(z))
    assert float(z.detach().min()) == pytest.approx(0.2)  # nothing to divide by zero, and not the same everywhere
    assert float(z.detach().max()) == pytest.approx(1.0)
    z.square().sum().backward()
    assert x.grad is not None
    assert not bool(x.grad.any())


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_rescaled_edge_sends_the_same_features_times_the_factor(kind: str) -> None:
    plain, scaled = control_edge(kind, SHAPE)(images()), control_edge(kind, SHAPE, scale=1e-3)(images())
    torch.testing.assert_close(scaled, 1e-3 * plain)


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_edge_is_the_same_every_time_and_leaves_the_global_generator_alone(kind: str) -> None:
    before = torch.get_rng_state()
    first, again = control_edge(kind, SHAPE)(images()), control_edge(kind, SHAPE)(images())
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(m.training for m in control_edge(kind, SHAPE).modules())


def test_an_unknown_control_edge_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="'identical' is not known, expected one of identity, linear, orthogonal, constant"
    ):
        control_edge("identical", SHAPE)


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_target_has_a_cloud_that_fits_its_edge(kind: str) -> None:
    model = control_target(kind)
    assert model(images(), torch.Generator()).shape == (5, CLASSES)
    assert not any(m.training for m in model.modules())


def test_passes_are_counted_only_while_an_attack_runs_and_in_copies_too() -> None:
    edge, passes = with_passes(control_edge("orthogonal", SHAPE))
    edge(images())
    assert (passes.images, passes.backward) == (0, 0)
    with hidden(images()):
        edge(images())
        copy.deepcopy(edge)(images().requires_grad_(True)).sum().backward()
    assert (passes.images, passes.backward) == (10, 5)


def test_an_edge_with_a_limit_stops_even_who_catches_every_exception() -> None:
    edge, passes = with_passes(control_edge("identity", SHAPE), limit=12)

    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                edge(images())

    with hidden(images()), pytest.raises(TooManyPasses):
        stubborn()
    assert passes.images == 15
    assert not issubclass(TooManyPasses, Exception)


def test_the_truth_is_in_reach_of_a_cheat_only_while_its_attack_runs() -> None:
    x = images()
    with hidden(x):
        assert under_attack()
        assert peek() is x
    assert not under_attack()
    with pytest.raises(IndexError):
        peek()


def test_the_oracle_is_perfect_on_every_edge_and_the_blind_attack_is_the_prior() -> None:
    for kind in CONTROLS:
        assert attacked(Oracle, kind).leakage() == 1
        assert attacked(Blind, kind).leakage() == pytest.approx(0, abs=1e-6)


def test_an_exact_inverse_sees_everything_on_invertible_edges_and_nothing_on_the_constant_one() -> None:
    for kind in ("identity", "linear", "orthogonal"):
        assert attacked(ToyAttack, kind).leakage() > 1 - 1e-6
    assert attacked(ToyAttack, "constant").leakage() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [SHAPE, (1, 12, 20)])
def test_toy_images_are_in_range_and_of_every_class(shape: tuple[int, int, int]) -> None:
    for other in (False, True):
        x, labels = toy_images(40, shape, other=other)
        assert x.shape == (40, *shape)
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1
        assert labels.bincount().tolist() == [10] * CLASSES
        assert torch.equal(x, toy_images(40, shape, other=other)[0])


def test_toy_images_of_the_other_distribution_are_darker() -> None:
    assert float(toy_images(200, other=True)[0].mean()) < 0.8 * float(toy_images(200)[0].mean())


def test_the_parts_of_the_toy_data_share_no_image() -> None:
    rows = torch.cat([part(name, 40).images.flatten(1) for name in PARTS])
    assert len(rows.unique(dim=0)) == len(PARTS) * 40
    assert toy_part(3).images.dtype == torch.uint8
