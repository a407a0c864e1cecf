"""The contracts of the two kinds of metrics: per image, and per target."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from .data.base import Part
from .params import Params
from .pixels import to_float
from .seeds import generator
from .split import SplitModel

if TYPE_CHECKING:
    from .selftest import KnownAnswer

Direction = Literal["more leakage", "less leakage", "more utility", "more cost", "neither"]


class AnyMetric(ABC):  # noqa: B024  (a common base for the registry; its two children have the abstract methods)
    """What both kinds share: parameters, version (raised when a number changes) and source."""

    Params: ClassVar[type[Params]] = Params
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    name: str = ""

    def __init__(self, params: Params | None = None) -> None:
        self.params: Any = params if params is not None else self.Params()

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        """Returns parameters for tests."""
        return {}

    @classmethod
    def fetch(cls, params: Any, *, offline: bool) -> Path | None:
        """Gets ahead what the metric needs and does not ship (weights); the framework calls it before the first node.

        Args:
            params: validated parameters.
            offline: open no connection.

        Returns:
            The file, or None where nothing is needed.

        Raises:
            DataError: it could not be had; the text says what to do.
        """
        return None


class Metric(AnyMetric):
    """Compares guesses with the truth, image by image.

    Aggregation, intervals and the worst case are the framework's. Images are float in [0, 1], (N, C, H, W).
    """

    unit: ClassVar[str] = ""
    label: ClassVar[str] = ""
    """What an axis says, without the unit."""

    bounds: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    best: ClassVar[float] = 0.0
    """The value of ``metric(x, x)``; may be infinite."""

    higher_means: ClassVar[Direction] = "less leakage"
    set_wise: ClassVar[bool] = False
    """True where an image's value depends on the other images of the set (retrieval)."""

    reference: ClassVar[str | None] = None
    """The library implementation that it agrees with, by name."""

    def unavailable(self, image_shape: tuple[int, int, int]) -> str | None:
        """Returns why the metric has no value for images of this shape (or on this machine), or None."""
        return None

    @abstractmethod
    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        """Returns one value per image, (N,), float. Both arguments (N, C, H, W) in [0, 1]."""


class LabelMetric(AnyMetric):
    """Compares what an attack reads of a class or another attribute with the truth, image by image.

    It judges attacks of the kind :class:`~splitaudit.attack.LabelAttack`; aggregation and intervals are the framework's.
    """

    unit: ClassVar[str] = ""
    label: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_means: ClassVar[Direction] = "more leakage"

    @abstractmethod
    def per_sample(self, truth: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns one value per image, (N,), float, from values (N,) int64 and scores (N, K), higher for more likely."""


@dataclass(frozen=True)
class Column:
    """One column that a measure fills: its unit, direction and meaning in a sentence."""

    unit: str
    higher_means: Direction
    meaning: str
    timing: bool = False
    """True for columns that differ between runs of the same thing (latencies)."""

    status: str = ""
    """The column that says whether the value is a measurement: anything but ``ok`` there means a limit (or nothing),
    which is never averaged, ranked or drawn as if it were a value. Empty: always a measurement."""

    detail: bool = False
    """True for a value that accompanies a main one (at another noise, in another form): in the tables, not in figures."""

    @property
    def words(self) -> str:
        """What the column is called in figures and sentences: the beginning of its meaning, up to the first stop."""
        return re.split(r"[:;]| \(", self.meaning)[0]


@dataclass(frozen=True)
class Measurement:
    """What a measure found.

    Attributes:
        values: column to number, text, or None where there is no value.
        reason: why values are missing, in a sentence; None if none are.
        flags: validity flags that travel with the numbers.
        per_image: column to one value per image of the part, in its order, for intervals over images.
    """

    values: dict[str, float | int | str | None]
    reason: str | None = None
    flags: tuple[str, ...] = ()
    per_image: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class MeasureContext:
    """What a measure of a target may use.

    Attributes:
        model: the trained target in eval mode, on ``device``.
        data: the part ``measure``.
        seed: base seed for this measure.
        device: where to compute.
        threads: torch threads of the worker.
        batch: images per pass.
    """

    model: SplitModel
    data: Part
    seed: int
    device: torch.device
    threads: int = 1
    batch: int = 256
    extra: Mapping[str, Any] = field(default_factory=dict)

    def generator(self, role: str) -> torch.Generator:
        """Returns a generator for a role of the measure's randomness, on the device."""
        return generator(f"measure {role}", self.seed, self.device)

    def clean_features(self, part: Part | None = None) -> torch.Tensor:
        """Returns the edge's output for every image, (N, *feature_shape), computed once per context for ``data``."""
        if part is None:
            part = self.data
        # The part is kept beside its features: an id says which object it is only while that object lives.
        if id(part) not in self._clean:
            with torch.no_grad():
                batches = [self.model.clean(to_float(b.to(self.device))) for b in part.images.split(self.batch)]
            self._clean[id(part)] = (part, torch.cat(batches))
        return self._clean[id(part)][1]

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns what ``make`` returns, made once per name and context: what several measures of a target share."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    @property
    def self_tests(self) -> Mapping[str, str]:
        """Measure to the verdict of its self-test (``passed`` or ``failed: …``); missing where none was run."""
        return {k: v for k, v in self.extra.get("self_tests", {}).items() if v}

    _clean: dict[int, tuple[Part, torch.Tensor]] = field(default_factory=dict, repr=False)
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)


class Measure(AnyMetric):
    """Measures a target: information, cost, utility."""

    columns: ClassVar[dict[str, Column]] = {}
    quiet: ClassVar[bool] = False
    """True where nothing else may run meanwhile (latency): done after everything else, one at a time."""

    @classmethod
    def self_test(cls, quick: bool = True) -> Iterable[KnownAnswer]:
        """Measures what has a known answer and returns a row per task; nothing where the measure has no self-test.

        The verdict is in the ``self_tests`` of every context of a run; a measure that failed gives no numbers.

        Args:
            quick: only what takes seconds; else everything, in a few minutes.
        """
        return ()

    def seconds(self, images: int) -> float:
        """Returns roughly how long it takes on one core for the first estimate of a run; images is the size of ``measure``."""
        return 6e-4 * images

    @abstractmethod
    def measure(self, context: MeasureContext) -> Measurement:
        """Returns the values of :attr:`columns`."""
