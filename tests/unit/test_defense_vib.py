"""The variational bottleneck on the wire."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.utils.flop_counter import FlopCounterMode

from splitaudit.composed import Composed
from splitaudit.defenses import _sampled
from splitaudit.defenses._sampled import divergence, log_variance_of, sampled
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.defenses.vib import RANGE, WIDEST, Vib, VibParams, _layer
from splitaudit.errors import Unsupported
from splitaudit.metrics.cost import edge_parameters
from splitaudit.nn.scale import ChannelScale
from splitaudit.pixels import to_float
from splitaudit.split import SplitModel
from splitaudit.testing.data import part
from splitaudit.testing.targets import toy_target


def vib(beta: float = 1e-3, *, vector: bool = False, steps: bool = False) -> SplitModel:
    return toy_target(Vib(VibParams(beta=beta)), vector=vector, steps=steps)


def part_of(model: SplitModel) -> Vib:
    """The bottleneck of a target, alone or first in a composition."""
    return next(m for m in model.defense.modules() if isinstance(m, Vib))


def deviation(model: SplitModel, z: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return (part_of(model).log_variance(z) / 2).exp()


def images(n: int = 8) -> torch.Tensor:
    return to_float(part("client_train", n).images)


def draws(model: SplitModel, z: torch.Tensor, n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return torch.stack([model.protect(z, g) for _ in range(n)])


def test_the_divergence_is_the_gaussians_in_nats_an_image() -> None:
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 3, 4, 4, generator=g, dtype=torch.float64)
    log_variance = torch.randn(5, 3, 4, 4, generator=g, dtype=torch.float64)
    each = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), 1.0))
    assert float(divergence(mean, log_variance)) == pytest.approx(float(each.flatten(1).sum(1).mean()), abs=1e-9)


def test_a_standard_normal_wire_costs_nothing_and_is_the_divergences_least_value() -> None:
    zero = torch.zeros(2, 3, 4, 4, requires_grad=True)
    log_variance = torch.zeros(2, 3, 4, 4, requires_grad=True)
    value = divergence(zero, log_variance)
    assert float(value.detach()) == 0
    for gradient in torch.autograd.grad(value, (zero, log_variance)):
        assert not bool(gradient.any())


def test_the_edge_ends_with_the_mean_and_the_wire_is_the_mean_plus_noise() -> None:
    model = vib()
    with torch.no_grad():
        z = model.clean(images(2))
        before = torch.nn.Sequential(*list(model.edge.children())[:-1])(images(2))
        assert torch.allclose(z, model.edge.get_submodule("vib_mean")(before))
        part_of(model).spread.weight.normal_(generator=torch.Generator().manual_seed(1))
        sigma = deviation(model, z)
        many = draws(model, z, 4000)
    assert float(sigma.max() / sigma.min()) > 1.5  # the noise differs between elements and images
    assert torch.allclose(many.mean(0), z, atol=0.1 * float(sigma.max()))
    assert float((many.std(0) / sigma - 1).abs().max()) < 0.06


def test_noise_is_drawn_at_inference_too() -> None:
    model = vib(steps=True)
    assert not model.training
    first, second = draws(model, model.clean(images(2)).detach(), 2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("vector", [False, True])
def test_gradients_of_both_losses_reach_the_edge_and_both_layers(vector: bool) -> None:
    model = vib(vector=vector).train()
    x, y = images(), part("client_train", 8).labels
    z = model.clean(x)
    logits = model.cloud(model.protect(z, torch.Generator().manual_seed(0)))
    extra = model.defense.extra_loss(x, z, y, logits)
    assert extra is not None
    layers = [*model.edge.parameters(), *model.defense.parameters()]
    for loss in (model.defense.task_loss(logits, y), extra):
        gradients = torch.autograd.grad(loss, layers, retain_graph=True)
        # The convolution's bias in front of a batch norm has none by nature.
        assert sum(bool(g.abs().max() > 1e-9) for g in gradients) >= len(layers) - 1


def test_a_dearer_nat_leaves_fewer_of_them_on_the_wire() -> None:
    """Two steps are few, but the pull is there: the divergence falls with beta."""
    nats = []
    for beta in (0.0, 1e-2, 1.0):
        model = vib(beta, steps=True)
        with torch.no_grad():
            z = model.clean(images())
            nats.append(float(divergence(z, part_of(model).log_variance(z))))
    assert nats[0] > nats[1] > nats[2]


def test_both_layers_count_as_the_devices_work() -> None:
    """Two 1×1 convolutions of 8 to 8 channels at 8×8 positions."""
    plain, model = toy_target(steps=False), vib()
    assert edge_parameters(model) - edge_parameters(plain) == 2 * (8 * 8 + 8)
    flops, x = [], images(1)
    for m in (plain, model):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            m.wire(x, torch.Generator())
        flops.append(counter.get_total_flops())
    assert flops[1] - flops[0] == 2 * 2 * 8 * 8 * 8 * 8


@pytest.mark.parametrize("vector", [False, True])
def test_the_wire_has_the_features_shape(vector: bool) -> None:
    model, plain = vib(vector=vector), toy_target(vector=vector, steps=False)
    assert model.feature_shape == plain.feature_shape
    assert model.defense.wire_shape(model.feature_shape) == plain.feature_shape


def test_nothing_overflows_however_large_the_features() -> None:
    model = vib()
    z = torch.full((2, *model.feature_shape), 1e6)
    torch.nn.init.ones_(part_of(model).spread.weight)
    for features in (z, -z):
        assert bool(torch.isfinite(draws(model, features, 1)).all())
        loss = model.defense.extra_loss(images(2), features, torch.zeros(2), torch.empty(0))
        assert loss is not None
        assert bool(torch.isfinite(loss))


def test_noise_after_it_scales_with_what_the_bottleneck_sends() -> None:
    model = toy_target(Composed([Vib(VibParams()), Noise(NoiseParams(sigma=0.5))]))
    z = model.clean(images()).detach()
    alone = draws(model, z, 500).std(0)
    scale = next(m.std for m in model.defense.modules() if isinstance(m, ChannelScale))
    expected = (deviation(model, z).square() + (0.5 * scale).square()).sqrt()
    assert float((alone / expected - 1).abs().median()) < 0.05


@pytest.mark.parametrize("composed", [False, True])
def test_a_training_step_computes_the_variance_once_and_lets_go_of_it(composed: bool) -> None:
    """Twice, with both graphs, it was over the gigabyte that a loss term may add (test_loss_memory)."""
    made = Vib(VibParams(beta=0.5))
    model = toy_target(Composed([Noise(NoiseParams(sigma=0.1)), made]) if composed else made, steps=False).train()
    x, y = images(), part("client_train", 8).labels
    given: list[torch.Tensor] = []
    made.spread.register_forward_hook(lambda _, arguments, __: given.append(arguments[0]))
    z = model.clean(x)
    logits = model.answer(model.protect(z, torch.Generator().manual_seed(0)))
    extra = model.defense.extra_loss(x, z, y, logits)
    assert len(given) == 1
    assert made._sent is None
    assert extra is not None
    expected = 0.5 * divergence(given[0], made.log_variance(given[0]))
    assert float(extra.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    # Of other features than those that were sent it is computed anew.
    model.protect(z, torch.Generator())
    other = made.extra_loss(x, z + 1, y, logits)
    assert other is not None
    assert float(other.detach()) == float(0.5 * divergence(z + 1, made.log_variance(z + 1)).detach())


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (5, 6)])
@pytest.mark.parametrize("wanted", ["both", "sent", "nats"])
def test_the_lean_step_gives_the_numbers_and_gradients_of_the_formulas(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], wanted: str
) -> None:
    g = torch.Generator().manual_seed(0)
    # 11 images: two whole chunks and a part of one.
    monkeypatch.setattr(_sampled, "CHUNK", 4 * torch.Size(shape).numel())
    mean, raw, unit, slope = (3 * torch.randn(11, *shape, generator=g) for _ in range(4))
    mean, raw = mean.requires_grad_(), raw.requires_grad_()
    log_variance = log_variance_of(raw, RANGE)
    plain = (mean + (log_variance / 2).exp() * unit, divergence(mean, log_variance))
    lean = sampled(mean, raw, unit, RANGE)
    assert torch.equal(lean[0], plain[0])
    assert torch.allclose(lean[1], plain[1], rtol=1e-6)
    losses = []
    for sent, nats in (plain, lean):
        losses.append({"both": (sent * slope).sum() + 0.7 * nats, "sent": (sent * slope).sum(), "nats": nats}[wanted])
    expected, found = (torch.autograd.grad(loss, (mean, raw)) for loss in losses)
    for a, b in zip(expected, found, strict=True):
        assert float((a - b).abs().max()) < 1e-6 * float(a.abs().max())


def test_the_lean_steps_gradient_is_the_slope_in_double_precision() -> None:
    g = torch.Generator().manual_seed(0)
    mean, raw, unit = (torch.randn(3, 4, generator=g, dtype=torch.float64) for _ in range(3))
    assert torch.autograd.gradcheck(
        lambda m, r: sampled(m, r, unit, RANGE),
        (mean.requires_grad_(), raw.requires_grad_()),
        check_undefined_grad=False,
    )


def test_nothing_of_a_batch_is_kept_outside_training() -> None:
    model = vib().eval()
    model.protect(model.clean(images()), torch.Generator())
    assert part_of(model)._sent is None
    free = vib(beta=0.0).train()
    free.protect(free.clean(images()), torch.Generator())
    assert part_of(free)._sent is None


def test_layers_that_grow_with_the_square_have_a_bound() -> None:
    assert isinstance(_layer((WIDEST,)), torch.nn.Linear)
    assert isinstance(_layer((8, 256, 256)), torch.nn.Conv2d)
    for shape in ((WIDEST + 1,), (4, WIDEST + 1), (WIDEST + 1, 2, 2)):
        with pytest.raises(Unsupported, match="at most 4,096 channels, got 4,097"):
            _layer(shape)
    assert 2 * 4 * 4 * WIDEST**2 < 1e9, "two layers in single precision with gradients and Adam's moments"
