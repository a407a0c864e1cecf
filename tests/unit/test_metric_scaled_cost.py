"""What an edge costs at another size, against the counts of the published sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from siftfunnel_targets import target

from splitaudit.metric import MeasureContext, Measurement
from splitaudit.metrics.scaled_cost import ScaledCost, ScaledCostParams
from splitaudit.testing import toy_part

CPU = torch.device("cpu")


def scaled(defense: str, **params: Any) -> Measurement:
    """Measured on an edge of width 8 for images of 32 px."""
    context = MeasureContext(target("cnn4", defense).eval(), toy_part(8), 0, CPU)
    return ScaledCost(ScaledCostParams(**params)).measure(context)


@pytest.mark.parametrize(
    ("defense", "parameters", "flops", "wire"),
    [
        ("none", 76_032, 165_150_720, 32_768),
        ("bottleneck", 592_704, 429_391_872, 16_384),
        ("siftfunnel", 10_354, 20_649_808, 3_072),
    ],
)
def test_a_small_edge_costs_what_is_published_when_it_is_scaled_to_the_published_size(
    defense: str, parameters: int, flops: int, wire: int
) -> None:
    found = scaled(defense).values
    assert found["scaled_edge_parameters"] == parameters
    assert found["scaled_edge_flops"] == flops
    assert found["scaled_edge_macs"] == flops // 2
    assert found["scaled_wire_elements"] == wire
    assert found["scaled_to"] == "width 64, 64 px"


def test_at_its_own_size_it_is_the_cost() -> None:
    from splitaudit.metrics.cost import Cost
    from splitaudit.params import Params

    model = target("cnn4", "siftfunnel").eval()
    own = Cost(Params()).measure(MeasureContext(model, toy_part(8), 0, CPU)).values
    found = scaled("siftfunnel", width=8, image_size=32).values
    assert found["scaled_edge_macs"] == own["edge_macs"]
    assert found["scaled_edge_parameters"] == own["edge_parameters"]


def test_the_parts_of_a_composition_are_scaled_together() -> None:
    from splitaudit.data.base import DataInfo
    from splitaudit.targets import build

    parts = [{"name": "siftfunnel", "params": {}}, {"name": "noise", "params": {"sigma": 1.0}}]
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": "cnn4", "params": {"width": 8, "dropout": 0.5}},
        "cut": "block2",
        "seed": 0,
        "defense": {"parts": parts},
    }
    statistics = torch.full((3,), 0.5), torch.full((3,), 0.25)
    model = build(identity, DataInfo((3, 32, 32), tuple("abcd"), {}), statistics, CPU).eval()
    found = ScaledCost(ScaledCostParams()).measure(MeasureContext(model, toy_part(8), 0, CPU)).values
    assert found["scaled_edge_flops"] == 20_649_808
