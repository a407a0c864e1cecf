"""InfoDecom's light form: the frequencies that go, the noise that follows the Jacobian, and the bound that is paid for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.fft import dctn, idctn
from torch import nn

from splitaudit.composed import Composed
from splitaudit.defenses.infodecom import (
    Filtered,
    InfoDecom,
    InfoDecomParams,
    information_bound,
    kept_components,
)
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.metric import MeasureContext
from splitaudit.metrics.cost import Cost
from splitaudit.metrics.fisher_information import FisherInformation
from splitaudit.pixels import to_float
from splitaudit.split import SplitModel
from splitaudit.targets import restore, stored_state
from splitaudit.testing import toy_part
from splitaudit.testing.data import SHAPE, part, toy_images
from splitaudit.testing.edges import control_edge
from splitaudit.testing.targets import control_target, toy_target
from splitaudit.training import calibrate

CPU = torch.device("cpu")


def params(**given: Any) -> InfoDecomParams:
    return InfoDecomParams(**given)


def on(edge: str | nn.Sequential, n: int = 64, **given: Any) -> SplitModel:
    """Returns a target on a control edge, calibrated on n images."""
    model = control_target(edge, InfoDecom(params(**given)))
    calibrate(model, toy_part(n), CPU)
    return model


def sigma(model: SplitModel) -> float:
    assert isinstance(model.defense, InfoDecom)
    return float(model.defense.sigma)


# -- frequencies ----------------------------------------------------------------------------------------------------------


def reference(image: np.ndarray, keep: float, removed: str) -> np.ndarray:
    """The library's cosine transform, components cut out one by one."""
    height, width = image.shape
    places = sorted(
        ((k, l) for k in range(height) for l in range(width)), key=lambda p: (p[0] / height) ** 2 + (p[1] / width) ** 2
    )
    count = round(keep * height * width)
    gone = places[count:] if removed == "high" else places[: height * width - count]
    coefficients = dctn(image, norm="ortho")
    for place in gone:
        coefficients[place] = 0
    return idctn(coefficients, norm="ortho")


@pytest.mark.parametrize("removed", ["high", "low"])
@pytest.mark.parametrize(("shape", "keep"), [((3, 6, 10), 0.5), ((1, 7, 7), 1 / 49), ((3, 16, 16), 1.0)])
def test_the_filter_agrees_with_the_librarys_transform(shape: tuple[int, int, int], keep: float, removed: str) -> None:
    if keep == 0.5:  # components of equal frequency may be cut either way: here none of them lies at the border
        keep = 31 / 60
    x, _ = toy_images(4, shape)
    made = Filtered(torch.zeros(shape[0]), torch.ones(shape[0]), shape, keep, removed)
    expected = np.stack([[reference(c, keep, removed) for c in image] for image in x.double().numpy()])
    assert np.abs(made.filtered(x).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("keep", [1 / 256, 0.1, 0.25, 1.0])
def test_both_ends_keep_the_share_that_is_asked_for(keep: float) -> None:
    high, low = (kept_components(16, 16, keep, removed) for removed in ("high", "low"))
    assert int(high.sum()) == int(low.sum()) == round(keep * 256)
    assert (float(high[0, 0]), float(low[-1, -1])) == (1, 1)
    assert (float(high[-1, -1]), float(low[0, 0])) == ((1, 1) if keep == 1 else (0, 0))


@pytest.mark.parametrize("removed", ["high", "low"])
def test_what_is_taken_out_never_reaches_the_features(removed: str) -> None:
    model = on("orthogonal", keep=0.2, removed=removed, error=0.0, weight=0.0).eval()
    x = to_float(toy_part(4).images)
    block = model.edge.get_submodule("normalize")
    assert isinstance(block, Filtered)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    lost, kept = noise - block.filtered(noise), block.filtered(noise)
    with torch.no_grad():
        z, with_lost, with_kept = model.clean(x), model.clean(x + lost), model.clean(x + kept)
    assert float((with_lost - z).abs().max()) < 1e-4 * float(z.abs().max())
    assert float((with_kept - z).abs().max()) > 0.1 * float(z.abs().max())


def test_the_filter_counts_as_arithmetic_of_the_edge() -> None:
    macs = []
    for keep in (1.0, 0.5):
        model = on("identity", keep=keep, error=0.0, weight=0.0).eval()
        macs.append(Cost(Cost.Params()).measure(MeasureContext(model, toy_part(4), 0, CPU)).values["edge_macs"])
    assert macs == [0, 3 * 4 * 16**3]


# -- noise ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "scale"), [("identity", 1.0), ("identity", 3.0), ("linear", 0.5), ("orthogonal", 2.0)]
)
@pytest.mark.parametrize("keep", [1.0, 0.25])
def test_on_a_linear_edge_each_kept_component_has_the_wanted_error(kind: str, scale: float, keep: float) -> None:
    """These edges keep lengths but for their scale: tr(JᵀJ) is its square for each component that passes."""
    model = on(control_edge(kind, SHAPE, scale), 400, keep=keep, error=0.04)
    assert sigma(model) == pytest.approx(math.sqrt(0.04) * scale, rel=0.02)


def test_the_noise_on_the_wire_has_the_calibrated_deviation_everywhere() -> None:
    model = on("identity", error=0.04, keep=0.5)
    z = torch.zeros(200, *SHAPE)
    sent = model.defense.protect(z, torch.Generator().manual_seed(0))
    assert float(sent.std()) == pytest.approx(sigma(model), rel=0.01)
    assert torch.allclose(sent.std(0), torch.full(SHAPE, sigma(model)), rtol=0.35)


def test_the_suites_own_measure_reads_the_leakage_that_was_asked_for() -> None:
    data = toy_part(400)
    model = control_target("identity", InfoDecom(params(keep=0.25, error=0.02)))
    calibrate(model, data, CPU)
    alone = FisherInformation.Params(sigma_over_rms=1e-3, probes=4)  # next to no reference noise beside the defense's
    found = FisherInformation(alone).measure(MeasureContext(model.eval(), data, 0, CPU)).values
    assert found["dfil"] == pytest.approx(0.25 / 0.02, rel=0.05)  # three quarters of the components leak nothing


def test_in_training_the_noise_follows_the_jacobian_and_afterwards_it_is_exact() -> None:
    model = control_target(control_edge("identity", SHAPE, 2.0), InfoDecom(params(keep=1.0, error=0.01))).train()
    x = to_float(toy_part(32).images)
    expected = [0.2, math.sqrt(0.9 * 0.2**2 + 0.1 * 0.6**2)]
    for scale, wanted in zip((1.0, 3.0), expected, strict=True):
        model.protect(scale * model.clean(x), torch.Generator().manual_seed(0))
        assert sigma(model) == pytest.approx(wanted, rel=1e-5)
    calibrate(model, toy_part(32), CPU)
    assert sigma(model) == pytest.approx(0.2, rel=1e-5)
    model.eval()
    model.protect(5 * model.clean(x), torch.Generator().manual_seed(0))
    assert sigma(model) == pytest.approx(0.2, rel=1e-5)


def test_an_edge_gains_nothing_by_inflating_its_features() -> None:
    wires = []
    for scale in (1.0, 100.0):
        model = on(control_edge("identity", SHAPE, scale))
        wires.append(model.wire(to_float(toy_part(4).images), torch.Generator().manual_seed(0)) / scale)
    assert torch.allclose(*wires, atol=1e-4)


def test_calibration_can_be_repeated_and_keeps_no_images() -> None:
    model = on("orthogonal")
    block = model.edge.get_submodule("normalize")
    assert isinstance(block, Filtered)
    before = sigma(model)
    model.clean(to_float(toy_part(4).images))
    assert block._watching is None
    assert block.released() is None
    calibrate(model, toy_part(64), CPU)
    assert sigma(model) == before


def test_the_noise_is_stored_and_restored() -> None:
    model = toy_target(InfoDecom(params()))
    again = toy_target(InfoDecom(params()), steps=False)
    assert sigma(model) > 0
    assert sigma(again) == 0
    restore(again, stored_state(model))
    assert sigma(again) == sigma(model)


# -- the bound ------------------------------------------------------------------------------------------------------------


def test_the_bound_agrees_with_a_sum_over_features() -> None:
    z = torch.randn(9, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 3 + 5
    expected = 0.5 * np.log1p(z.double().numpy().reshape(9, -1).var(0) / 0.7**2).sum()
    assert float(information_bound(z, torch.tensor(0.7))) == pytest.approx(expected, rel=1e-5)


def test_for_independent_gaussian_features_the_bound_is_the_information_itself() -> None:
    z = torch.randn(40_000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    assert float(information_bound(z, torch.tensor(0.5))) == pytest.approx(6 * 0.5 * math.log(1 + 4 / 0.25), rel=0.01)


@pytest.mark.parametrize("correlation", [0.5, 0.99])
def test_for_dependent_features_it_is_above_the_information(correlation: float) -> None:
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 40_000, generator=g, dtype=torch.float64)
    z = torch.stack([first, correlation * first + math.sqrt(1 - correlation**2) * second], 1)
    truth = 0.5 * math.log(np.linalg.det(np.array([[1, correlation], [correlation, 1]]) / 0.3**2 + np.eye(2)))
    assert float(information_bound(z, torch.tensor(0.3))) > truth + 0.05


def test_the_gradient_has_no_part_along_the_scale_and_a_step_lowers_the_information_at_equal_scale() -> None:
    z = torch.randn(32, 5, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1, 1, 5)[:, None, None]
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(information_bound(z, torch.tensor(0.5)), z)
    centred = z.detach() - z.detach().mean(0)
    assert abs(float((gradient * centred).sum())) < 1e-5 * float(gradient.norm() * centred.norm())
    moved = z.detach() - 0.1 * z.detach().norm() * gradient / gradient.norm()
    moved *= float(z.detach().var(0, unbiased=False).mean().sqrt() / moved.var(0, unbiased=False).mean().sqrt())
    noise = torch.tensor(0.5)
    assert float(information_bound(moved, noise)) < float(information_bound(z.detach(), noise)) - 1


def trained_once(weight: float) -> tuple[SplitModel, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    model = toy_target(InfoDecom(params(weight=weight)), steps=False).train()
    data = part("client_train", 16)
    x = to_float(data.images)
    z = model.clean(x)
    logits = model.answer(model.protect(z, torch.Generator().manual_seed(0)))
    return model, x, z, data.labels, logits


def test_the_penalty_is_the_weighted_bound_and_changes_the_gradient_of_the_edge() -> None:
    model, x, z, y, logits = trained_once(0.01)
    extra = model.defense.extra_loss(x, z, y, logits)
    assert extra is not None
    expected = 0.005 * np.log1p(z.detach().double().numpy().reshape(16, -1).var(0) / sigma(model) ** 2).sum()
    assert float(extra.detach()) == pytest.approx(expected, rel=1e-5)
    weights = [p for p in model.edge.parameters() if p.requires_grad]
    gradients = []
    for loss in (model.defense.task_loss(logits, y), extra):
        found = torch.autograd.grad(loss, weights, retain_graph=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert float(gradients[1].norm()) > 0.1 * float(gradients[0].norm())
    without, x, z, y, logits = trained_once(0.0)
    assert without.defense.extra_loss(x, z, y, logits) is None


def test_what_the_penalty_keeps_for_the_backward_pass_is_linear_in_the_features() -> None:
    kept: list[int] = []
    z = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        information_bound(z, torch.tensor(1.0)).backward()
    assert sum(kept) < 3 * z.numel()


@pytest.mark.parametrize("kind", ["zeros", "large", "one feature dead"])
def test_the_loss_and_its_gradient_stay_finite(kind: str) -> None:
    z = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    z = {"zeros": torch.zeros_like(z), "large": 1e6 * z, "one feature dead": z}[kind]
    z[:, 0] = 0
    z.requires_grad_()
    for noise in (0.0, 1.0):
        loss = information_bound(z, torch.tensor(noise))
        (gradient,) = torch.autograd.grad(loss, z)
        assert bool(torch.isfinite(loss))
        assert bool(torch.isfinite(gradient).all())
        assert not bool(gradient[:, 0].any())


def test_a_bound_without_noise_is_refused() -> None:
    with pytest.raises(ValidationError, match="infinite"):
        params(error=0.0)


def test_an_edge_that_does_not_look_at_the_image_sends_no_noise_and_stays_finite() -> None:
    model = on("constant")
    assert sigma(model) == 0
    sent = model.wire(to_float(toy_part(1).images), torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(sent).all())


def test_before_another_defense_it_works_as_alone() -> None:
    alone, both = (
        toy_target(d, steps=False).eval()
        for d in (InfoDecom(params()), Composed([InfoDecom(params()), Noise(NoiseParams(sigma=0.5))]))
    )
    for model in (alone, both):
        calibrate(model, toy_part(64), CPU)
    assert isinstance(both.defense, Composed)
    first = both.defense.parts[0]
    assert isinstance(first, InfoDecom)
    assert float(first.sigma) == pytest.approx(sigma(alone), rel=1e-5)
