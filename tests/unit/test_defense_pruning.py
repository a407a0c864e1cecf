"""Pruning: what is pruned is zero and stays so, costs nothing, and is chosen by how much a channel moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from splitaudit.composed import Composed
from splitaudit.defense import Course
from splitaudit.defenses._pruned import (
    ChannelMask,
    PrunedConv,
    channel_sparsity,
    layers_of,
    prunable,
    spectral_norm,
)
from splitaudit.defenses.adversarial import Adversarial, AdversarialParams
from splitaudit.defenses.pruning import Pruning, PruningParams, pruned_share
from splitaudit.defenses.siftfunnel import SiftFunnel
from splitaudit.errors import Unsupported
from splitaudit.metric import MeasureContext
from splitaudit.metrics.cost import Cost
from splitaudit.nn.scale import batch_standardised
from splitaudit.pixels import to_float
from splitaudit.plugins import BACKBONES
from splitaudit.split import Split, SplitModel
from splitaudit.targets import restore, stored_state
from splitaudit.testing import toy_part
from splitaudit.testing.data import part
from splitaudit.testing.targets import CPU, NAMES, Home, control_target, defended, home_of, toy_target
from splitaudit.training import TrainingParams, calibrate, learned, train

PLACES = [
    ("cnn4", "block1"),
    ("cnn4", "block3"),
    ("resnet18", "layer2_block1"),
    ("resnet18", "pool"),
    ("vgg16_bn", "pool2"),
]


def defense(**given: Any) -> Pruning:
    return Pruning(PruningParams(**({"width": 4} | given)))


def home(name: str, cut: str) -> Home:
    cls = BACKBONES.get(name)
    return Home(cls(cls.Params(width=8)), name, cut, (3, 32, 32))


def masks_of(model: SplitModel) -> list[ChannelMask]:
    return [m for m in model.edge.modules() if isinstance(m, ChannelMask)]


def pruned_at_random(name: str, cut: str) -> SplitModel:
    """Returns a target with norms that do something, and half of each mask gone, each mask another half."""
    model = defended(defense(), home(name, cut)).eval()
    g = torch.Generator().manual_seed(0)
    for module in model.edge.modules():
        if isinstance(module, nn.BatchNorm2d):
            for t in (module.weight, module.bias, module.running_mean, module.running_var):
                assert t is not None
                with torch.no_grad():
                    t.copy_(0.5 + torch.rand(t.shape, generator=g))
        if isinstance(module, ChannelMask):
            module.activity.copy_(torch.rand(module.activity.shape, generator=g))
            module.prune(len(module.mask) // 2)
    return model


# -- what is pruned is gone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cut"), PLACES)
def test_pruned_channels_are_zero_for_every_image(name: str, cut: str) -> None:
    model = pruned_at_random(name, cut)
    x = torch.cat([to_float(toy_part(3, (3, 32, 32)).images), torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)])
    with torch.no_grad():
        z = model.clean(x)
    gone = masks_of(model)[-1].mask == 0
    if z.ndim == 2:  # 2×2 places of each channel in a row
        gone = gone.repeat_interleave(4)
    assert int(gone.sum()) * 2 == z.shape[1]
    assert not bool(z[:, gone].any())
    assert bool(z[:, ~gone].any())


@pytest.mark.parametrize(("name", "cut"), PLACES)
def test_leaving_pruned_channels_out_changes_no_feature(name: str, cut: str) -> None:
    model = pruned_at_random(name, cut)
    x = to_float(toy_part(4, (3, 32, 32)).images).requires_grad_()
    results = []
    for dense in (False, True):
        for module in model.edge.modules():
            if isinstance(module, PrunedConv):
                module.train(dense)
        z = model.clean(x)
        results.append((z.detach(), torch.autograd.grad(z.square().sum(), x)[0]))
    for few, all_ in zip(*results, strict=True):
        assert float((few - all_).abs().max()) < 1e-5 * max(1.0, float(all_.abs().max()))


@pytest.mark.parametrize(("name", "cut"), PLACES)
def test_nothing_pruned_is_the_edge_as_it_was(name: str, cut: str) -> None:
    place = home(name, cut)
    model, split = defended(defense(), place).eval(), place.split(part("client_train", 8, place.image_shape), 0)
    x = to_float(toy_part(4, place.image_shape).images)
    with torch.no_grad():
        assert torch.allclose(model.clean(x), split.edge.eval()(x), atol=1e-5)
    own = {n for n, _ in split.edge.named_parameters()}
    assert {n for n, _ in model.edge.named_parameters()} == own


def macs(model: SplitModel) -> int:
    return Cost(Cost.Params()).measure(MeasureContext(model.eval(), toy_part(4), 0, CPU)).values["edge_macs"]


def test_the_cost_of_an_edge_of_plain_blocks_falls_with_both_ends_of_a_convolution() -> None:
    model = defended(defense(), home("cnn4", "block2"))
    assert macs(model) == 9 * (3 * 8 * 32**2 + 8 * 16 * 16**2)
    first, second = masks_of(model)
    first.prune(6)
    second.prune(4)
    assert macs(model) == 9 * (3 * 2 * 32**2 + 2 * 12 * 16**2)


def test_in_a_residual_block_the_channels_between_its_convolutions_stay() -> None:
    model = defended(defense(), home("resnet18", "layer2_block1"))
    for mask in masks_of(model):
        mask.prune(len(mask.mask) // 2)
    inner = 9 * 32**2 * (3 * 4 + 2 * (4 * 8 + 8 * 4)) + 16**2 * (9 * (4 * 16 + 16 * 8) + 4 * 8)
    assert macs(model) == inner


def test_a_pruned_channel_gets_no_gradient_and_the_others_do() -> None:
    model = pruned_at_random("cnn4", "block2")
    model.edge.train()
    model.clean(to_float(toy_part(8, (3, 32, 32)).images)).square().sum().backward()
    conv = model.edge.get_submodule("block2.conv")
    assert isinstance(conv, PrunedConv)
    assert conv.weight.grad is not None
    there = masks_of(model)[1].mask > 0
    moved = conv.weight.grad.abs().sum((1, 2, 3)) > 0
    assert torch.equal(moved, there)


# -- which, and when --------------------------------------------------------------------------------------------------------


def test_the_least_active_channels_go_and_never_come_back() -> None:
    mask = ChannelMask(6).train()
    size = torch.tensor([3.0, 1.0, 6.0, 2.0, 5.0, 4.0])
    z = torch.randn(50, 6, 4, 4, generator=torch.Generator().manual_seed(0)) * size[:, None, None] + 10
    mask(z)
    assert torch.allclose(mask.activity, z.std((0, 2, 3), unbiased=False), rtol=1e-5)
    mask.prune(2)
    assert mask.mask.tolist() == [1, 0, 1, 0, 1, 1]
    mask.activity.copy_(1 / size)
    mask.prune(1)
    assert mask.mask.tolist() == [1, 0, 1, 0, 1, 1]
    mask.prune(3)
    assert mask.mask.tolist() == [1, 0, 0, 0, 1, 1]
    mask.prune(100)
    assert float(mask.mask.sum()) == 1


def test_the_activity_is_a_running_one_and_stands_still_at_inference() -> None:
    mask = ChannelMask(2).train()
    z = torch.randn(50, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    first = z.std((0, 2, 3), unbiased=False)
    mask(z)
    mask(11 * z)
    assert torch.allclose(mask.activity, 2 * first, rtol=1e-5)
    mask.eval()(100 * z)
    assert torch.allclose(mask.activity, 2 * first, rtol=1e-5)


@pytest.mark.parametrize(
    ("place", "until", "share"),
    [(0.0, 0.6, 0), (0.1, 0.6, 0), (0.35, 0.6, 0.875), (0.6, 0.6, 1), (1, 0.6, 1), (1, 1, 1)],
)
def test_the_share_that_is_gone_follows_the_published_schedule(place: float, until: float, share: float) -> None:
    assert pruned_share(place, until) == pytest.approx(share, abs=1e-12)


def steps_of(model: SplitModel, steps: int, total: int) -> list[int]:
    """Takes the defense through steps of a training and returns how many channels of the first block are gone after each."""
    data = part("client_train", 8)
    x, gone = to_float(data.images), []
    course = Course(model, torch.optim.SGD(learned(model), lr=0.0), 8 * total, 8, 1, torch.Generator())
    with model.defense.during(course):
        for _ in range(steps):
            z = model.clean(x)
            model.defense.train_helpers(x, z.detach(), data.labels)
            gone.append(int((masks_of(model)[0].mask == 0).sum()))
    return gone


def test_in_a_training_channels_go_by_the_schedule_and_the_share_is_reached_early() -> None:
    model = toy_target(defense(ratio=0.5, until=0.6), steps=False).train()
    gone = steps_of(model, 20, 20)
    assert gone == [int(4 * pruned_share((t + 1) / 20, 0.6) + 1e-9) for t in range(20)]
    assert gone[1] == 0
    assert gone[11:] == [4] * 9


def test_a_training_that_is_cut_short_is_pruned_at_its_end() -> None:
    model = toy_target(defense(ratio=0.75), steps=False)
    assert steps_of(model.train(), 2, 20) == [0, 0]
    calibrate(model, toy_part(8), CPU)
    assert float(masks_of(model)[0].mask.sum()) == 2


def run(epochs: int = 3) -> SplitModel:
    model = toy_target(defense(ratio=0.5), steps=False)
    data, val = part("client_train", 64), part("client_val", 8)
    train(model, data, val, TrainingParams(epochs=epochs, batch=16), 0, dict(NAMES), CPU)
    return model.eval()


def test_the_shared_training_prunes_and_gives_the_same_edge_twice() -> None:
    first, again = run(), run()
    assert float(masks_of(first)[0].mask.sum()) == 4  # before calibrate: by the schedule alone
    for (name, one), (_, other) in zip(first.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_the_masks_are_stored_and_the_decoder_is_not() -> None:
    model = toy_target(defense(ratio=0.5))
    state = stored_state(model)
    assert not any(name.startswith("defense") for name in state)
    again = toy_target(defense(ratio=0.5), steps=False)
    restore(again, state)
    assert torch.equal(masks_of(again)[0].mask, masks_of(model)[0].mask)
    assert float(masks_of(again)[0].mask.sum()) == 4
    x = to_float(toy_part(4).images)
    with torch.no_grad():
        assert torch.equal(model.clean(x), again.clean(x))


# -- the loss ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (30, 2, 3, 3)])
@pytest.mark.parametrize("with_norm", [False, True])
def test_the_spectral_norm_agrees_with_numpy(shape: tuple[int, ...], with_norm: bool) -> None:
    g = torch.Generator().manual_seed(0)
    conv, norm = nn.Conv2d(shape[1], shape[0], shape[2]), nn.BatchNorm2d(shape[0])
    assert norm.running_var is not None
    with torch.no_grad():
        conv.weight.copy_(torch.randn(shape, generator=g))
        norm.weight.copy_(torch.randn(shape[0], generator=g))
        norm.running_var.copy_(0.1 + torch.rand(shape[0], generator=g))
    matrix = conv.weight.detach().double().numpy().reshape(shape[0], -1)
    if with_norm:
        matrix = matrix * (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double().numpy()[:, None]
    expected = np.linalg.svd(matrix, compute_uv=False)[0]
    assert float(spectral_norm(conv, norm if with_norm else None).detach()) == pytest.approx(expected, rel=1e-5)


def test_with_a_norm_the_gradient_does_not_shrink_the_kernel_and_does_lower_the_constant() -> None:
    conv, norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(0)))
    before = spectral_norm(conv, norm)
    weight, factor = torch.autograd.grad(before, [conv.weight, norm.weight])
    along = (weight * conv.weight.detach()).flatten(1).sum(1)
    assert float(along.abs().max()) < 1e-5 * float(weight.norm() * conv.weight.detach().norm())
    with torch.no_grad():
        norm.weight -= 0.1 * factor
    assert float(spectral_norm(conv, norm).detach()) < float(before.detach()) - 1e-3


def test_a_kernel_of_zeros_has_a_finite_gradient() -> None:
    conv = nn.Conv2d(2, 3, 3)
    nn.init.zeros_(conv.weight)
    for norm in (None, nn.BatchNorm2d(3)):
        (gradient,) = torch.autograd.grad(spectral_norm(conv, norm), conv.weight)
        assert bool(torch.isfinite(gradient).all())


def test_each_convolution_is_found_with_its_own_norm() -> None:
    edge = home("resnet18", "layer2_block1").split(part("client_train", 8, (3, 32, 32)), 0).edge
    found = {id(conv): norm for conv, norm in layers_of(edge)}
    pairs = [("stem.conv", "stem.norm"), ("layer1_block1.conv2", "layer1_block1.norm2")]
    pairs.append(("layer2_block1.shortcut.conv", "layer2_block1.shortcut.norm"))
    assert len(found) == 8
    for conv, norm in pairs:
        assert found[id(edge.get_submodule(conv))] is edge.get_submodule(norm)
    plain = nn.Conv2d(3, 4, 1)
    assert layers_of(nn.Sequential(plain, nn.ReLU(), nn.BatchNorm2d(4))) == [(plain, None)]


def test_the_sparsity_agrees_with_numpy_and_knows_no_scale() -> None:
    deviation = torch.tensor([0.5, 2.0, 0.1, 3.0])
    values = deviation.double().numpy()
    expected = values.mean() / np.sqrt((values**2).mean())
    for factor in (1e-4, 1.0, 1e4):
        assert float(channel_sparsity(factor * deviation)) == pytest.approx(expected, rel=1e-5)
    assert float(channel_sparsity(torch.full((9,), 3.0))) == pytest.approx(1.0)
    assert float(channel_sparsity(torch.tensor([0, 0, 0, 5.0]))) == pytest.approx(0.5)


def penalty(**given: Any) -> tuple[float, float, SplitModel, torch.Tensor]:
    """Returns the penalty, the size of its gradient at the edge, the target and its features."""
    model = toy_target(defense(**given), steps=False).train()
    data = part("client_train", 16)
    x = to_float(data.images)
    for _ in range(30):
        model.defense.train_helpers(x, model.clean(x).detach(), data.labels)
    z = model.clean(x)
    extra = model.defense.extra_loss(x, z, data.labels, model.cloud(z))
    assert extra is not None
    weights = [p for p in model.edge.parameters() if p.requires_grad]
    found = torch.autograd.grad(extra, weights, allow_unused=True, retain_graph=True)
    return float(extra.detach()), sum(float(g.norm()) for g in found if g is not None), model, z.detach()


def test_each_term_is_as_declared_and_pulls_at_the_edge() -> None:
    none = {"sparsity": 0.0, "lipschitz": 0.0, "weight": 0.0}
    value, pull, model, z = penalty(**none | {"sparsity": 2.0})
    deviation = z.double().numpy().std((0, 2, 3))
    assert value == pytest.approx(2 * deviation.mean() / np.sqrt((deviation**2).mean()), rel=1e-5)
    assert pull > 0
    value, pull, model, _ = penalty(**none | {"lipschitz": 0.5})
    constants = [float(spectral_norm(conv, norm).detach()) for conv, norm in layers_of(model.edge)]
    assert len(constants) == 1
    assert value == pytest.approx(0.5 * sum(constants), rel=1e-5)
    assert pull > 0
    value, pull, model, z = penalty(**none | {"weight": 3.0, "lr": 1e-2})
    assert isinstance(model.defense, Pruning)
    x = to_float(part("client_train", 16).images)
    with torch.no_grad():
        error = (model.defense.opponent.decoder(batch_standardised(z)) - x).square().mean()
    explained = 1 - float(error / (x - x.mean(0)).square().mean())
    assert explained > 0.05
    assert value == pytest.approx(3 * explained, rel=1e-5)
    assert pull > 0


def test_the_terms_add_up() -> None:
    none = {"sparsity": 0.0, "lipschitz": 0.0, "weight": 0.0}
    single = [penalty(**none | {name: 1.0})[0] for name in none]
    assert penalty(sparsity=1.0, lipschitz=1.0, weight=1.0)[0] == pytest.approx(sum(single), rel=1e-5)


def test_the_decoder_is_that_of_the_adversarial_defense() -> None:
    model = toy_target(defense(), steps=False)
    alone = toy_target(Adversarial(AdversarialParams(width=4)), steps=False)
    assert isinstance(model.defense, Pruning)
    assert isinstance(alone.defense, Adversarial)
    shapes = [{n: p.shape for n, p in d.decoder.named_parameters()} for d in (model.defense.opponent, alone.defense)]
    assert shapes[0] == shapes[1]


def test_training_on_grey_images_stays_finite() -> None:
    model = toy_target(defense(), steps=False).train()
    x, y = torch.full((4, 3, 16, 16), 0.5), torch.zeros(4, dtype=torch.int64)
    z = model.clean(x)
    model.defense.train_helpers(x, z.detach(), y)
    extra = model.defense.extra_loss(x, z, y, model.cloud(z))
    assert extra is not None
    found = torch.autograd.grad(extra, [p for p in model.edge.parameters() if p.requires_grad], allow_unused=True)
    assert bool(torch.isfinite(extra))
    assert all(bool(torch.isfinite(g).all()) for g in found if g is not None)


# -- where it does not fit --------------------------------------------------------------------------------------------------


def test_an_edge_without_convolutions_is_refused_with_the_reason() -> None:
    with pytest.raises(Unsupported, match="needs convolutions"):
        control_target("linear", defense())


def test_a_defense_behind_it_that_builds_the_edge_anew_is_refused() -> None:
    place = home("cnn4", "block2")
    with pytest.raises(Unsupported, match="Put pruning last"):
        defended(Composed([defense(), SiftFunnel(SiftFunnel.Params())]), place)
    model = defended(Composed([SiftFunnel(SiftFunnel.Params()), defense()]), place)
    assert masks_of(model)


def test_a_convolution_in_groups_is_masked_behind_and_otherwise_left_alone() -> None:
    block = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=3))
    info = home_of(Pruning).split(part("client_train", 8), 0).info
    split, (mask,) = prunable(Split(info, nn.Sequential(block), nn.Sequential()))
    assert not any(isinstance(m, PrunedConv) for m in split.edge.modules())
    mask.prune(3)
    z = split.edge.eval()(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert int((z.abs().sum((0, 2, 3)) == 0).sum()) == 3
