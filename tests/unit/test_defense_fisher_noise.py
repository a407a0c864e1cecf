"""Noise from the edge's Jacobian: its size on edges whose Jacobian is known, and what the suite's own measure reads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from splitaudit.defense import Network
from splitaudit.defenses.fisher_noise import FisherNoise, FisherNoiseParams
from splitaudit.metric import MeasureContext
from splitaudit.metrics.fisher_information import FisherInformation
from splitaudit.pixels import to_float
from splitaudit.testing import toy_part
from splitaudit.testing.data import SHAPE
from splitaudit.testing.edges import control_edge
from splitaudit.testing.targets import control_target

CPU = torch.device("cpu")


def fitted(edge: str | nn.Sequential, error: float) -> FisherNoise:
    model = control_target(edge, FisherNoise(FisherNoiseParams(error=error)))
    images = to_float(toy_part(64).images)
    model.defense.fit(Network(model.edge, model.cloud, lambda: images.split(32)))
    assert isinstance(model.defense, FisherNoise)
    return model.defense


@pytest.mark.parametrize(
    ("kind", "scale"), [("identity", 1.0), ("identity", 3.0), ("linear", 0.5), ("orthogonal", 2.0)]
)
def test_on_a_linear_edge_the_noise_is_the_wanted_error_through_the_jacobian(kind: str, scale: float) -> None:
    """These edges keep lengths but for their scale, so tr(JᵀJ) is the scale's square for each pixel."""
    made = fitted(control_edge(kind, SHAPE, scale), 0.04)
    assert float(made.sigma) == pytest.approx(math.sqrt(0.04) * scale, rel=1e-4)


def test_the_suites_own_measure_reads_the_leakage_that_was_asked_for() -> None:
    model = control_target("identity", FisherNoise(FisherNoiseParams(error=0.02)))
    part = toy_part(400)
    images = to_float(part.images)
    model.defense.fit(Network(model.edge, model.cloud, lambda: images.split(32)))
    alone = FisherInformation.Params(
        sigma_over_rms=1e-3, probes=4
    )  # next to no reference noise beside the defense's own
    found = FisherInformation(alone).measure(MeasureContext(model.eval(), part, 0, CPU)).values
    assert found["dfil"] == pytest.approx(1 / 0.02, rel=0.05)


def test_four_times_the_error_is_twice_the_noise() -> None:
    assert float(fitted("identity", 0.04).sigma) == pytest.approx(2 * float(fitted("identity", 0.01).sigma), rel=1e-5)


def test_in_an_attackers_own_network_there_is_no_noise_before_it_is_set() -> None:
    made = FisherNoise(FisherNoiseParams())
    model = control_target("identity", made)
    z = model.clean(to_float(toy_part(4).images))
    assert torch.equal(made.protect(z, torch.Generator()), z)
