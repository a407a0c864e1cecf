"""DP-SGD: the step against one worked out image by image, the ε against theory, and what is refused."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from splitaudit.composed import Composed
from splitaudit.defense import Course, Defense
from splitaudit.defenses.bottleneck import Bottleneck
from splitaudit.defenses.dpsgd_groupnorm import (
    DpSgdGroupNorm,
    DpSgdGroupNormParams,
    epsilon_of,
    grouped,
    installed,
)
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.defenses.nopeek import NoPeek
from splitaudit.pixels import to_float
from splitaudit.plugins import BACKBONES, DEFENSES
from splitaudit.split import SplitModel
from splitaudit.targets import restore, stored_state
from splitaudit.testing.data import part
from splitaudit.testing.targets import CPU, NAMES, Home, ToyNet, defended
from splitaudit.training import TrainingParams, learned, train

with_opacus = pytest.mark.skipif(not installed(), reason="opacus is not installed: pip install splitaudit[dp]")

HOME = Home(ToyNet(), "toy", "block1", (3, 16, 16))


def target(defense: Defense | None = None, home: Home = HOME, **given: Any) -> SplitModel:
    return defended(defense or DpSgdGroupNorm(DpSgdGroupNormParams(**given)), home)


def course(model: SplitModel, batch: int = 8, images: int = 64, epochs: int = 2, seed: int = 0) -> Course:
    optimizer = torch.optim.SGD(learned(model), lr=1.0)
    return Course(model, optimizer, images, batch, epochs, torch.Generator().manual_seed(seed))


def batch(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    data = part("client_train", n)
    return to_float(data.images), data.labels


def flat(model: SplitModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learned(model)])


def moved(model: SplitModel, x: torch.Tensor, y: torch.Tensor, **given: Any) -> torch.Tensor:
    """Returns the gradient by which one step at learning rate 1 moves a copy's weights."""
    model = copy.deepcopy(model).train()
    before = flat(model)
    with model.defense.during(course(model, batch=len(x), **given)) as optimizer:
        logits = model.answer(model.protect(model.clean(x), torch.Generator().manual_seed(0)))
        optimizer.zero_grad(set_to_none=True)
        model.defense.task_loss(logits, y).backward()
        optimizer.step()
    return before - flat(model)


def image_by_image(model: SplitModel, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns each image's gradient, (N, weights)."""
    rows = []
    for one, label in zip(x.split(1), y.split(1), strict=True):
        loss = F.cross_entropy(model.cloud(model.edge(one)), label)
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, learned(model))]))
    return torch.stack(rows)


# -- the step -------------------------------------------------------------------------------------------------------------


@with_opacus
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("share", [0.3, 0.9, 100.0])
def test_a_step_is_the_mean_of_the_clipped_gradients_of_the_images(share: float, layout: torch.memory_format) -> None:
    """The suite's images and networks are in channels-last order, of which opacus 1.6 alone makes wrong gradients."""
    model, (x, y) = target(), batch()
    x = x.contiguous(memory_format=layout)
    rows = image_by_image(model, x, y)
    norms = rows.norm(dim=1)
    clip = share * float(norms.max())
    expected = (rows * (clip / norms).clamp_max(1)[:, None]).mean(0)
    quiet = target(noise=1e-9, clip=clip).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    assert torch.equal(flat(quiet), flat(model))
    found = moved(quiet, x, y)
    assert float((found - expected).norm()) < 1e-4 * float(expected.norm())
    if share < 1:
        assert float((rows.mean(0) - expected).norm()) > 1e-2 * float(expected.norm())


@with_opacus
def test_one_image_moves_the_weights_by_no_more_than_the_clipping_norm_whatever_it_is() -> None:
    model, (x, y) = target(noise=1e-9, clip=0.05), batch()
    other, labels = x.clone(), y.clone()
    other[3] = 50 * torch.randn(x[3].shape, generator=torch.Generator().manual_seed(0))
    labels[3] = (y[3] + 1) % 4
    reach = float((moved(model, x, y) - moved(model, other, labels)).norm())
    assert 0.1 * 0.05 / 8 < reach <= 2 * 0.05 / 8 * 1.001


@with_opacus
def test_the_noise_of_a_step_has_the_deviation_that_the_accountant_counts() -> None:
    x, y = batch()
    quiet, loud = (moved(target(noise=n, clip=0.5), x, y) for n in (1e-9, 3.0))
    noise = (loud - quiet).double()
    assert float(noise.std()) == pytest.approx(3.0 * 0.5 / 8, rel=0.05)
    assert abs(float(noise.mean())) < 4 * float(noise.std()) / len(noise) ** 0.5


@with_opacus
def test_the_noise_comes_from_the_generator_of_the_training() -> None:
    model, (x, y) = target(), batch()
    first, again, other = (moved(model, x, y, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


# -- in the shared loop -----------------------------------------------------------------------------------------------------


def trained(model: SplitModel, **given: Any) -> dict[str, Any]:
    data, val = part("client_train", 30), part("client_val", 8)
    return train(model, data, val, TrainingParams(**{"epochs": 2, "batch": 8} | given), 0, dict(NAMES), CPU)


@with_opacus
def test_the_shared_loop_stores_epsilon_and_delta_of_its_own_batch_epochs_and_images() -> None:
    model = target(noise=1.2, delta=1e-4)
    notes = trained(model)["notes"]["dpsgd"]
    assert notes["epsilon"] == pytest.approx(epsilon_of(1.2, 1e-4, 30, 8, 2 * 4), rel=1e-9)
    assert notes["delta"] == 1e-4
    assert notes["norm"] == "group"
    again = target(noise=1.2, delta=1e-4)
    assert isinstance(again.defense, DpSgdGroupNorm)
    assert again.defense.epsilon == math.inf
    restore(again, stored_state(model))
    assert again.defense.epsilon == pytest.approx(notes["epsilon"], rel=1e-6)


@with_opacus
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "amsgrad", "sgd"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_every_optimiser_and_schedule_of_the_suite_takes_the_private_gradient(optimizer: str, schedule: str) -> None:
    weights = []
    for noise in (1e-9, 5.0):
        model = target(noise=noise)
        before = flat(model)
        trained(model, optimizer=optimizer, schedule=schedule, epochs=1)
        assert float((flat(model) - before).norm()) > 0
        weights.append(flat(model))
    assert float((weights[0] - weights[1]).norm()) > 1e-3


@with_opacus
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_the_library_is_left_on_the_target(fails: bool) -> None:
    model, (x, y) = target(), batch()
    shapes = set(model.state_dict())
    try:
        with model.defense.during(course(model)):
            F.cross_entropy(model.cloud(model.clean(x)), y).backward()
            assert all(p.grad_sample is not None for p in learned(model))  # pyright: ignore[reportAttributeAccessIssue]
            if fails:
                raise FloatingPointError
    except FloatingPointError:
        assert fails
    for p in model.parameters():
        assert not {"grad_sample", "summed_grad", "_forward_counter"} & set(p.__dict__)
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert set(model.state_dict()) == shapes
    F.cross_entropy(model.cloud(model.clean(x)), y).backward()
    copy.deepcopy(model)


@with_opacus
@pytest.mark.parametrize("name", ["cnn4", "resnet18", "vgg16_bn"])
def test_each_backbone_can_be_trained_by_it(name: str) -> None:
    cls = BACKBONES.get(name)
    backbone = cls(cls.Params(**cls.cheap()))
    shape = (3, 32, 32)
    model = target(home=Home(backbone, name, backbone.cuts()[1], shape))
    x, y = to_float(part("client_train", 4, shape).images), torch.arange(4)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    with model.defense.during(course(model, batch=4)) as optimizer:
        F.cross_entropy(model.cloud(model.clean(x)), y).backward()
        optimizer.step()
    assert [n for n, p in model.named_parameters() if torch.equal(p, before[n])] == []


# -- epsilon ----------------------------------------------------------------------------------------------------------------


def releases(noise: float, delta: float, steps: int) -> float:
    """ε of T releases of Gaussian noise, whose Rényi divergence of order α is T·α/(2·noise²)."""
    orders = [1 + k / 100 for k in range(1, 6200)]
    return min(
        steps * a / (2 * noise**2) + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in orders
    )


@with_opacus
@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (4.0, 10), (20.0, 100)])
def test_without_sampling_epsilon_is_that_of_the_gaussian_mechanism(noise: float, steps: int) -> None:
    assert epsilon_of(noise, 1e-5, 100, 100, steps) == pytest.approx(releases(noise, 1e-5, steps), rel=0.01)


@with_opacus
def test_the_epsilon_of_shuffled_batches_is_that_of_one_release_an_epoch_of_twice_the_norm() -> None:
    """Of an image and another in its place; see the reach of one image above."""
    model = target(noise=2.0, delta=1e-4)
    notes = trained(model, epochs=3)["notes"]["dpsgd"]
    assert notes["epsilon_shuffled"] == pytest.approx(releases(1.0, 1e-4, 3), rel=0.01)
    assert notes["epsilon_shuffled"] > notes["epsilon"]


@with_opacus
def test_epsilon_falls_with_noise_and_with_images_and_grows_with_steps() -> None:
    base = epsilon_of(1.0, 1e-5, 1000, 50, 200)
    assert epsilon_of(2.0, 1e-5, 1000, 50, 200) < base / 2
    assert epsilon_of(1.0, 1e-5, 4000, 50, 200) < base / 2
    assert epsilon_of(1.0, 1e-5, 1000, 50, 800) > 1.5 * base
    assert math.isfinite(epsilon_of(0.01, 1e-5, 1000, 50, 200))


# -- what is refused --------------------------------------------------------------------------------------------------------


@with_opacus
def test_another_loss_in_the_composition_is_refused_and_noise_is_not() -> None:
    alone, batchwise = DpSgdGroupNorm(DpSgdGroupNormParams()), NoPeek(NoPeek.Params())
    batchwise.name = "nopeek"
    model = target(Composed([batchwise, alone]))
    with pytest.raises(ValueError, match="'nopeek', which overrides extra_loss"):
        trained(model)
    model = target(Composed([Noise(NoiseParams(relative=False)), alone]))
    assert trained(model)["notes"]["dpsgd"]["epsilon"] > 0


@with_opacus
def test_a_batch_norm_that_a_later_defense_adds_is_refused() -> None:
    cnn = BACKBONES.get("cnn4")
    home = Home(cnn(cnn.Params(width=4)), "cnn4", "block2", (3, 32, 32))
    parts: list[Callable[[], Defense]] = [
        lambda: DpSgdGroupNorm(DpSgdGroupNormParams()),
        lambda: Bottleneck(Bottleneck.Params()),
    ]
    model = target(Composed([made() for made in parts]), home)
    with pytest.raises(ValueError, match=r"bottleneck_encoder.* is a batch norm"), model.defense.during(course(model)):
        pass
    model = target(Composed([made() for made in reversed(parts)]), home)
    with model.defense.during(course(model)):
        pass


# -- without the library ----------------------------------------------------------------------------------------------------


def test_where_opacus_is_missing_it_is_skipped_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    assert not installed()
    reason = DpSgdGroupNorm.supports("cnn4", "block2")
    assert reason is not None
    assert "pip install splitaudit[dp]" in reason
    model = target()
    with pytest.raises(ImportError, match=r"pip install splitaudit\[dp\]"), model.defense.during(course(model)):
        pass


def test_its_name_says_that_the_norm_is_another() -> None:
    assert DEFENSES.get("dpsgd_groupnorm") is DpSgdGroupNorm


def test_every_batch_norm_of_both_halves_becomes_a_group_norm_of_the_same_channels() -> None:
    cls = BACKBONES.get("resnet18")
    home = Home(cls(cls.Params(width=8)), "resnet18", "layer2_block1", (3, 32, 32))
    plain, model = defended(Defense(Defense.Params()), home), target(home=home, groups=12)
    for half in ("edge", "cloud"):
        norms = {n: m for n, m in getattr(plain, half).named_modules() if isinstance(m, _BatchNorm)}
        assert norms
        for name, norm in norms.items():
            found = getattr(model, half).get_submodule(name)
            assert isinstance(found, nn.GroupNorm)
            assert (found.num_channels, found.num_groups) == (norm.num_features, 4)
    assert not any(isinstance(m, _BatchNorm) for m in model.modules())


def test_an_image_is_treated_by_itself_in_training_too() -> None:
    model, (x, _) = target(), batch()
    model.train()
    with torch.no_grad():
        together, alone = model.clean(x), torch.cat([model.clean(one) for one in x.split(1)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_norm_of_a_vector_leaves_something_of_it() -> None:
    made = grouped(nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32)), 32)
    out = made(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    assert float(out.detach().std()) > 0.5


def test_features_are_sent_as_they_are() -> None:
    model, (x, _) = target(), batch()
    z = model.clean(x)
    assert torch.equal(model.protect(z, torch.Generator()), z)
    assert not model.defense.stochastic
