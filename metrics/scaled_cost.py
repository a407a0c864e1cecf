"""What the same edge would cost at another width and image size: at the ones that a paper counts with."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from splitaudit.composed import Composed
from splitaudit.data.base import DataInfo
from splitaudit.defense import Defense
from splitaudit.errors import Unsupported
from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics.cost import Cost
from splitaudit.params import Params
from splitaudit.targets import build


class ScaledCostParams(Params):
    """Parameters of :class:`ScaledCost`."""

    width: int = Field(64, ge=1, description="the backbone's parameter `width`")
    image_size: int = Field(64, ge=28, description="side of the images in px")


class ScaledCost(Measure):
    """Counts the cost of the same backbone, cut and defense at another width and image size, with fresh weights.

    Costs of two edges do not grow alike: a first convolution grows with the width, the others with its square. A paper's
    ratio can be tested at the paper's sizes only, and counting needs no training. Same counting as ``cost``.
    """

    Params = ScaledCostParams
    version = 1
    source = "this project"
    columns: ClassVar[dict[str, Column]] = {
        "scaled_edge_macs": Column("MAC", "more cost", "multiply-adds of the same edge at that width and image size"),
        "scaled_edge_flops": Column(
            "FLOP",
            "more cost",
            "floating-point operations of that edge at the scaled width and image size: 2 per multiply-add",
        ),
        "scaled_edge_parameters": Column("parameters", "more cost", "trainable numbers that the device holds there"),
        "scaled_wire_elements": Column("elements", "more cost", "numbers that cross the wire for one image there"),
        "scaled_to": Column("", "neither", "that width and image size"),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        model, p = context.model, self.params
        info = model.info
        if "width" not in info.params:
            reason = f"backbone '{info.backbone}' has no parameter 'width'"
            return Measurement(dict.fromkeys(self.columns), reason)
        identity = {
            "dataset": {"name": "any"},
            "backbone": {"name": info.backbone, "params": {**info.params, "width": p.width}},
            "cut": info.cut,
            "seed": 0,
            "defense": {"parts": [{"name": d.name, "params": d.params.dump()} for d in _parts(model.defense)]},
        }
        channels = info.image_shape[0]
        shape = DataInfo((channels, p.image_size, p.image_size), tuple(str(i) for i in range(info.classes)), {})
        statistics = torch.full((channels,), 0.5), torch.full((channels,), 0.25)
        try:
            scaled = build(identity, shape, statistics, context.device).eval()
        except Unsupported as exc:
            return Measurement(dict.fromkeys(self.columns), f"not at width {p.width} and {p.image_size} px: {exc}")
        found: dict[str, Any] = Cost(Params()).measure(MeasureContext(scaled, context.data, 0, context.device)).values
        return Measurement(
            {
                "scaled_edge_macs": found["edge_macs"],
                "scaled_edge_flops": found["edge_flops"],
                "scaled_edge_parameters": found["edge_parameters"],
                "scaled_wire_elements": found["wire_elements"],
                "scaled_to": f"width {p.width}, {p.image_size} px",
            }
        )


def _parts(defense: Defense) -> list[Defense]:
    return [d for d in defense.parts if isinstance(d, Defense)] if isinstance(defense, Composed) else [defense]
