"""How long the information measures of one target take: 5,000 images with 4,096 features, and the default suite's setting."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
import torch._dynamo  # imported by the first optimiser of a process; in a run the training has done so
from bench_target import CPU, make_bench

from splitaudit.config import load_suite
from splitaudit.defense import Defense
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.metric import MeasureContext
from splitaudit.plugins import METRICS
from splitaudit.testing import toy_part

NAMES = (
    "mutual_information",
    "entropy",
    "effective_information_volume",
    "fisher_information",
    "reconstruction_floor",
)


def seconds_of_all(images: int, params: dict[str, dict[str, Any]], defense: Defense | None = None) -> float:
    """Returns the processor seconds, on one thread, of all information measures of a target of the default suite's shape.

    Processor time, because other work on the machine is none of theirs; without other work it is the wall-clock time.
    """
    bench = make_bench()
    if defense is not None:
        bench.model.defense = defense
        defense.prepare(_Shaped(bench.model.feature_shape))  # type: ignore[arg-type]
    context = MeasureContext(bench.model, toy_part(images, (3, 32, 32), seed=5), 0, CPU)
    if defense is not None:
        defense.calibrate(lambda: iter([context.clean_features()]))
        defense.eval()
    started = time.process_time()
    for name in NAMES:
        cls = METRICS.get(name)
        measure = cls(cls.Params(**params.get(name, {})))
        measure.name = name
        found = measure.measure(context)
        assert any(isinstance(v, float) for v in found.values.values()), found
    return time.process_time() - started


class _Shaped:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def feature_shape(self) -> tuple[int, ...]:
        return self._shape


@pytest.mark.parametrize("noisy", [False, True], ids=["deterministic", "noise"])
def test_bench_all_information_measures_at_5000_images_and_4096_features(benchmark: Any, noisy: bool) -> None:
    """At most 60 s on two cores; this is one torch thread, as in a worker."""
    defense = Noise(NoiseParams()) if noisy else None
    torch.set_num_threads(1)
    taken = benchmark.pedantic(lambda: seconds_of_all(5000, {}, defense), rounds=1)
    assert taken < 60


@pytest.mark.parametrize("noisy", [False, True], ids=["deterministic", "noise"])
def test_bench_all_information_measures_of_the_default_suite(benchmark: Any, noisy: bool) -> None:
    """At most 8 s a target with the parameters and the 1,600 images of preset quick."""
    params = {m.name: m.params for m in load_suite("quick").metrics if m.name in NAMES}
    defense = Noise(NoiseParams()) if noisy else None
    torch.set_num_threads(1)
    taken = benchmark.pedantic(lambda: seconds_of_all(1600, params, defense), rounds=1)
    assert taken < 8
