"""What a target costs: arithmetic and parameters on the edge, bytes on the wire."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.split import SplitModel


class Cost(Measure):
    """Counts the cost of one image in eval mode; nothing here is timed.

    The edge is what runs on the device: normalisation, the edge's blocks as the defense left them, and the defense on
    the wire. A FLOP is one floating-point operation, a multiply-add two of them; convolutions, matrix products and
    attention are counted, everything else (norms, activations, pooling, noise) is not. Other tools count differently:
    compare only within one convention.
    """

    version = 2
    source = "torch.utils.flop_counter (2 FLOP per multiply-add)"
    columns: ClassVar[dict[str, Column]] = {
        "edge_macs": Column("MAC", "more cost", "multiply-adds of the edge with its defense, one image"),
        "edge_flops": Column(
            "FLOP", "more cost", "floating-point operations of the edge with its defense, one image: 2 per multiply-add"
        ),
        "edge_parameters": Column(
            "parameters", "more cost", "weights that the device holds, of the edge and of its defense"
        ),
        "cloud_macs": Column("MAC", "more cost", "multiply-adds of the cloud, one image"),
        "wire_shape": Column("", "neither", "shape of one image's features on the wire"),
        "wire_elements": Column("elements", "more cost", "numbers that cross the wire for one image"),
        "wire_bytes": Column(
            "bytes", "more cost", "bytes that cross the wire for one image: float32, fewer bits where a defense rounds"
        ),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        model, generator = context.model, context.generator("cost")
        x = torch.full((1, *model.info.image_shape), 0.5, device=context.device)
        z, edge = _counted(lambda: model.wire(x, generator))
        _, cloud = _counted(lambda: model.answer(z))
        shape = tuple(z.shape[1:])
        return Measurement(
            {
                "edge_macs": edge // 2,
                "edge_flops": edge,
                "edge_parameters": edge_parameters(model),
                "cloud_macs": cloud // 2,
                "wire_shape": "x".join(str(n) for n in shape),
                "wire_elements": math.prod(shape),
                "wire_bytes": math.ceil(model.defense.wire_bits(model.feature_shape) / 8),
            }
        )


def edge_parameters(model: SplitModel) -> int:
    """Counts the parameters of the edge and of the defense, without the helpers that only training needs."""
    defense = {
        id(p): p
        for name, p in model.defense.named_parameters()
        if not any(name == h or name.startswith(f"{h}.") for h in model.defense.helpers)
    }
    # By identity: a defense may hold the edge's own modules.
    return sum(p.numel() for p in (defense | {id(p): p for p in model.edge.parameters()}).values())


def _counted(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = run()
    return out, int(counter.get_total_flops())
