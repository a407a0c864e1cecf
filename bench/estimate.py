"""How long and how much disk a run will take, before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .attack import Work
from .defense import Defense
from .metric import Measure
from .plan import Plan
from .plugins import BACKBONES, DEFENSES, METRICS
from .speed import cpu_gflops
from .split import SplitInfo, cut_blocks
from .stages import acting
from .state import Todo
from .tuned import attack_of
from .work import Job

REFERENCE_GFLOPS = 130.0
"""The measured rate of the machine on which the seconds below were taken; a slower one needs more of them."""

CUDA_GFLOPS, CUDA_MOST = 2000.0, 20_000.0
"""Rates on a GPU: where small networks leave most of it idle, and of large ones. Not measured beforehand: rough."""

EFFICIENCY = {"train": 0.65, "network": 0.73, "edge": 0.37}
"""Share of the measured rate that training targets, the networks of attacks, and optimising through an edge reach."""

STEP_S = 0.008
"""Seconds of a training step besides its arithmetic: augmentation, optimiser, Python."""

FIXED = {"target": 0.5, "fit": 0.5, "cell": 0.3, "score": 0.3, "reference": 2.0, "measure": 0.5, "quiet": 0.3}
"""Seconds that a job takes besides its arithmetic."""

START_S, PAGE_S, ROW_S, SELF_TEST_S = 5.0, 3.0, 0.02, 8.0
"""Seconds to start workers, to write the report, per row of its tables, and of a measure's self-test."""


class Estimator:
    """Estimates seconds per job and bytes per record from the arithmetic of the backbones and attacks.

    On a CPU the arithmetic is set against this machine's speed, which is measured once per process.

    Args:
        plan: the plan.
        device: torch device.
        threads: torch threads per worker.
        workers: how many work at once.
    """

    def __init__(self, plan: Plan, device: str, threads: int, workers: int = 1) -> None:
        self.plan, self.cuda = plan, device.startswith("cuda")
        self.threads, self.workers = threads, workers
        self._sizes: dict[str, tuple[float, float, int, tuple[int, ...]]] = {}
        self._works: dict[str, Work] = {}

    def seconds(self, job: Job) -> float:
        """Returns the estimated wall-clock seconds of a job on one worker."""
        return self._fixed(job) * self._slowness() + self._arithmetic(job)

    def whole(self, todo: Todo, *, processes: bool) -> float:
        """Returns the estimated seconds of a run: its jobs on all workers, the start of processes and the report."""
        if not todo.jobs:
            return 0.0
        seconds = {ticket: self.seconds(job) for ticket, job in todo.jobs.items()}
        quiet = sum(s for t, s in seconds.items() if todo.jobs[t].extra.get("quiet"))
        tests = SELF_TEST_S * sum(map(_has_self_test, _measures(todo)))
        loud = (sum(seconds.values()) - quiet + tests * self._slowness()) / self.workers
        others = START_S * processes + PAGE_S + ROW_S * (len(self.plan.cells) + len(self.plan.targets))
        return max(loud, _longest_chain(todo, seconds)) + quiet + others * self._slowness()

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

    # -- seconds --------------------------------------------------------------------------------------------------

    def _slowness(self) -> float:
        """Returns how much longer than on the reference machine this one takes for everything that is no GPU's work."""
        return 1.0 if self.cuda else REFERENCE_GFLOPS / cpu_gflops(self.threads, self.workers)

    def _rate(self, kind: str, edge_gflop: float) -> float:
        """Returns 10⁹ operations a second for a kind of arithmetic on a backbone whose edge takes so many per image."""
        if self.cuda:
            return min(CUDA_MOST, CUDA_GFLOPS * max(1.0, edge_gflop / 0.01))
        return EFFICIENCY[kind] * cpu_gflops(self.threads, self.workers)

    def _fixed(self, job: Job) -> float:
        if job.extra.get("quiet"):
            return FIXED["quiet"]
        return FIXED[job.task] + (self._measuring(job) if job.task == "measure" else 0.0)

    def _measuring(self, job: Job) -> float:
        images = int(job.extra.get("measure", 0))
        found = [(METRICS.get(m["name"]), m["params"]) for m in job.metrics]
        return sum(cls(cls.Params(**params)).seconds(images) for cls, params in found)

    def _arithmetic(self, job: Job) -> float:
        if job.task == "target":
            return self._training(job.identity)
        if job.task in ("fit", "cell"):
            return 0.0 if "twin" in job.extra else self._attack(job)  # taken over, unless the defense has learned along
        return 0.0

    def _training(self, identity: Mapping[str, Any]) -> float:
        edge, cloud, _, _ = self._of(identity)
        images = identity["client"]["client_train"]
        taken = edge * images / self._rate("edge", edge) if "base" in identity else 0.0
        if "base" in identity and not _learns(identity["defense"]):
            return taken  # only the defense's statistics
        training, val = identity["training"], identity["client"]["client_val"]
        through_edge = images if "base" in identity else 3 * images  # a frozen edge has no backward pass
        gflop = edge * (through_edge + val) + cloud * (3 * images + val)
        arithmetic = _burden(acting(identity["defense"])) * gflop / self._rate("train", edge)
        steps = math.ceil(images / training["batch"]) * STEP_S * self._slowness()
        return taken + training["epochs"] * (arithmetic + steps)

    def _attack(self, job: Job) -> float:
        """Returns the seconds of an attack's fit, or of what remains once its fit is there."""
        private = job.identity.get("private", 0)
        if job.task == "fit":
            return self._work(job, 0)
        return self._work(job, private) - (self._work(job, 0) if job.identity.get("fit") else 0.0)

    def _work(self, job: Job, private: int) -> float:
        identity, target = job.identity, job.related.get("target")
        edge, _, _, features = self._of(target) if target else (0.0, 0.0, 0, ())
        aux = identity["aux"]["aux_train"] if identity["aux"] else 0
        dataset = target["dataset"] if target else identity["aux"]["dataset"]
        sizes = (private, aux, self._shape(dataset), features)
        at = f"{identity['attack']} {sizes}"
        if at not in self._works:
            self._works[at] = attack_of(identity["attack"]).work(*sizes)
        work = self._works[at]
        return edge * work.edge_passes / self._rate("edge", edge) + work.gflop / self._rate("network", edge)

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


def _burden(parts: Sequence[Mapping[str, Any]]) -> float:
    """Returns the arithmetic of a training step over that of an undefended one, by the hooks that a defense overrides."""
    extra = 0.0
    for part in parts:
        cls = DEFENSES.get(part["name"])
        # As measured on the built-in defenses: a penalty, helper networks with steps of their own, another edge.
        for hook, share in (("extra_loss", 0.4), ("train_helpers", 0.7), ("wrap", 0.35)):
            extra += share * (_hook(cls, hook) is not _hook(Defense, hook))
    return 1.0 + extra


def _learns(defense: Mapping[str, Any]) -> bool:
    """Says whether anything is trained on a trained network: its cloud, or what the defense learns by a loss of its own."""
    own = (getattr(DEFENSES.get(p["name"]), hook) for p in acting(defense) for hook in ("extra_loss", "train_helpers"))
    return defense["when"] == "infer+cloud" or any(h not in (Defense.extra_loss, Defense.train_helpers) for h in own)


def _measures(todo: Todo) -> set[str]:
    return {m["name"] for job in todo.jobs.values() if job.task == "measure" for m in job.metrics}


def _has_self_test(name: str) -> bool:
    return _hook(METRICS.get(name), "self_test") is not _hook(Measure, "self_test")


def _hook(cls: type, name: str) -> Any:
    """Returns a method as a plain function, so that an inherited one equals its parent's."""
    found = getattr(cls, name)
    return getattr(found, "__func__", found)


def _longest_chain(todo: Todo, seconds: Mapping[str, float]) -> float:
    """Returns the seconds of the longest chain of jobs that wait for each other: no number of workers is faster."""
    ends: dict[str, float] = {}
    for ticket, job in todo.jobs.items():
        if not job.extra.get("quiet"):
            before = max((ends.get(n, 0.0) for n in todo.needs.get(ticket, ())), default=0.0)
            ends[ticket] = before + seconds[ticket]
    return max(ends.values(), default=0.0)
