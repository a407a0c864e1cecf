"""How long and how much disk a run will take, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plan import Plan
from .plugins import ATTACKS, BACKBONES
from .split import SplitInfo, cut_blocks
from .state import Todo
from .work import Job

CPU_GFLOPS = 30.0
"""Effective rate of small convolutions on one torch thread, 10⁹ operations a second: about half of a core's peak."""

CUDA_GFLOPS = 5000.0
"""The same on a GPU, where small batches leave most of it idle."""

FIXED = {"target": 0.5, "fit": 0.5, "cell": 0.5, "score": 0.5, "reference": 2.0, "measure": 15.0, "quiet": 1.5}
"""Seconds that a job takes besides its arithmetic (loading, scoring; the measures of a small target)."""


class Estimator:
    """Estimates seconds per job and bytes per record from the arithmetic of the backbones and attacks.

    Args:
        plan: the plan.
        device: torch device.
        threads: torch threads per worker.
    """

    def __init__(self, plan: Plan, device: str, threads: int) -> None:
        self.plan = plan
        self.rate = CUDA_GFLOPS if device.startswith("cuda") else CPU_GFLOPS * threads**0.8
        self._sizes: dict[str, tuple[float, float, int, tuple[int, ...]]] = {}

    def seconds(self, job: Job) -> float:
        """Returns the estimated wall-clock seconds of a job on one worker."""
        fixed = FIXED["quiet" if job.extra.get("quiet") else job.task]
        if job.task == "target":
            edge, cloud, _, _ = self._of(job.identity)
            if "base" in job.identity:
                return fixed
            steps = job.identity["training"]["epochs"] * job.identity["client"]["client_train"]
            extra = 1.0 + 0.5 * sum(p["name"] != "none" for p in job.identity["defense"]["parts"])
            return fixed + extra * 3 * (edge + cloud) * steps / self.rate
        if job.task in ("fit", "cell"):
            return fixed + self._attack(job)
        return fixed

    def disk(self, todo: Todo) -> int:
        """Returns the estimated bytes that the jobs will write."""
        total = 0
        for job in todo.jobs.values():
            if job.task == "target":
                total += 4 * self._of(job.identity)[2] + 20_000
            elif job.task == "cell":
                shape = self._shape(job.identity["dataset"])
                total += job.identity["private"] * (shape[0] * shape[1] * shape[2] + 150)
            elif job.task == "fit":
                total += 2_000_000
            else:
                total += 50_000
        return total

    def _attack(self, job: Job) -> float:
        target = job.related["target"]
        spec, identity = job.identity["attack"], job.identity
        cls = ATTACKS.get(spec["name"])
        edge, _, _, features = self._of(target)
        aux = identity["aux"]["aux_train"] if identity["aux"] else 0
        private = identity.get("private", 0)
        work = cls(cls.Params(**spec["params"])).work(private, aux, self._shape(target["dataset"]), features)
        whole = (edge * work.edge_passes + work.gflop) / self.rate
        if job.task == "fit":
            return whole
        return 0.1 * whole if identity.get("fit") else whole

    def _of(self, identity: Mapping[str, Any]) -> tuple[float, float, int, tuple[int, ...]]:
        """Returns 10⁹ operations of edge and cloud per image, parameters, and the shape of the undefended features."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        spec, shape = identity["backbone"], self._shape(identity["dataset"])
        at = f"{spec} {identity['cut']} {shape}"
        if at not in self._sizes:
            cls = BACKBONES.get(spec["name"])
            classes = 10
            for data in self.plan.datasets.values():
                classes = len(data["classes"])
            with torch.device("meta"):
                blocks = cls(cls.Params(**spec["params"])).blocks(shape, classes)
                info = SplitInfo(spec["name"], identity["cut"], shape, classes, dict(spec["params"]))
                split = cut_blocks(blocks, info, torch.zeros(shape[0]), torch.ones(shape[0]))
                x = torch.zeros(1, *shape)
            split.edge.eval()
            split.cloud.eval()
            with torch.no_grad():
                with FlopCounterMode(display=False) as first:
                    z = split.edge(x)
                with FlopCounterMode(display=False) as second:
                    split.cloud(z)
            count = sum(p.numel() for half in (split.edge, split.cloud) for p in half.parameters())
            self._sizes[at] = (
                first.get_total_flops() / 1e9,
                second.get_total_flops() / 1e9,
                count,
                tuple(z.shape[1:]),
            )
        return self._sizes[at]

    def _shape(self, dataset: Mapping[str, Any]) -> tuple[int, int, int]:
        for label, key in self.plan.references.items():
            if self.plan.nodes["reference", key].identity["dataset"] == dataset:
                channels, height, width = self.plan.datasets[label]["image_shape"]
                return channels, height, width
        return 3, 32, 32
