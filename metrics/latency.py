"""How long the edge takes for one image."""

from __future__ import annotations

import platform
from pathlib import Path
from time import perf_counter
from typing import ClassVar

import torch
from pydantic import Field

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.params import Params
from splitaudit.pixels import to_float


class LatencyParams(Params):
    """Parameters of :class:`Latency`."""

    runs: int = Field(200, ge=2, description="timed passes at most")
    seconds: float = Field(1.0, gt=0, description="time after which no further pass starts, s")
    warm_up: int = Field(10, ge=1, description="passes before the clock starts")


ENOUGH = 50
"""Passes below which the percentiles are flagged."""


class Latency(Measure):
    """Times the edge with its defense on the wire, one image per pass, in eval mode.

    Wall-clock time of each pass after a warm-up; on a GPU the device is synchronised before each reading. Nothing else
    should run meanwhile. The numbers are those of this machine, which is named beside them.
    """

    Params = LatencyParams
    version = 2
    source = "definition"
    quiet = True
    columns: ClassVar[dict[str, Column]] = {
        "edge_latency_median_ms": Column("ms", "more cost", "median time of one image through the edge", timing=True),
        "edge_latency_p95_ms": Column("ms", "more cost", "95th percentile of the same", timing=True),
        "latency_runs": Column("passes", "neither", "timed passes", timing=True),
        # Not a validity flag: how many passes fit into the time differs between two runs of the same thing.
        "latency_note": Column("", "neither", "what makes the latency doubtful: few passes", timing=True),
        "latency_threads": Column("threads", "neither", "torch threads while timing", timing=True),
        "latency_processor": Column("", "neither", "what it was timed on", timing=True),
    }

    def measure(self, context: MeasureContext) -> Measurement:
        model, device = context.model, context.device
        generator = context.generator("latency")
        x = to_float(torch.full((1, *model.info.image_shape), 128, dtype=torch.uint8, device=device))

        def one_pass() -> float:
            _synchronise(device)
            start = perf_counter()
            model.wire(x, generator)
            _synchronise(device)
            return perf_counter() - start

        times: list[float] = []
        with torch.no_grad():
            for _ in range(self.params.warm_up):
                one_pass()
            end = perf_counter() + self.params.seconds
            # Two passes even on the slowest device: one alone has no spread.
            while len(times) < 2 or (len(times) < self.params.runs and perf_counter() < end):
                times.append(one_pass())
        ms = 1000 * torch.tensor(times, dtype=torch.float64)
        few = len(times) < min(ENOUGH, self.params.runs)
        return Measurement(
            {
                "edge_latency_median_ms": float(ms.quantile(0.5)),
                "edge_latency_p95_ms": float(ms.quantile(0.95)),
                "latency_runs": len(times),
                "latency_note": f"from {len(times)} passes only" if few else "",
                "latency_threads": torch.get_num_threads(),
                "latency_processor": processor(device),
            },
        )


def processor(device: torch.device) -> str:
    """Returns the name of the processor or GPU, as its maker writes it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
