"""The contract of a dataset: six disjoint parts of uint8 images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch

from ..params import Params

PartName = Literal["client_train", "client_val", "private", "measure", "aux_train", "aux_val"]
PARTS: tuple[PartName, ...] = get_args(PartName)
"""Client (training, model selection), private (attacked and scored), measure (accuracy, information, bytes), auxiliary."""


LABEL = "label"
"""The attribute that every dataset has: an image's class."""


@dataclass(frozen=True)
class Part:
    """The images of one part.

    Attributes:
        images: uint8, (N, C, H, W), 0 to 255.
        labels: int64, (N,), 0 to K - 1.
        groups: int64, (N,): images of one group are not independent (crops of one tile); None: every image is its own.
        names: what identifies each image to a person (file name, crop), (N,).
        attributes: what else is known of each image beside its class, by name: int64, (N,), 0 to the number of values - 1.
    """

    images: torch.Tensor
    labels: torch.Tensor
    groups: torch.Tensor | None = None
    names: tuple[str, ...] | None = None
    attributes: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def first(self, n: int) -> Part:
        """Returns the first n images."""
        return Part(
            self.images[:n],
            self.labels[:n],
            None if self.groups is None else self.groups[:n],
            None if self.names is None else self.names[:n],
            {name: values[:n] for name, values in self.attributes.items()},
        )

    def known(self, attribute: str) -> torch.Tensor:
        """Returns the values of an attribute, (N,): the class for ``label``."""
        return self.labels if attribute == LABEL else self.attributes[attribute]


@dataclass(frozen=True)
class DataInfo:
    """What is known of a dataset before its images are decoded.

    Attributes:
        image_shape: (C, H, W) after resizing.
        classes: class names in the order of their labels.
        sizes: number of images that each part will have.
        attributes: attribute to the names of its values, in their order.
    """

    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sizes: dict[str, int]
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _silent(message: str) -> None:
    """Tells nothing."""


@dataclass(frozen=True)
class DataContext:
    """Run-time surroundings of a dataset; nothing in it may change a number.

    Attributes:
        root: folder that holds or receives files (``--data-root``).
        cache: folder for caches of hashes; None: no cache.
        offline: never open a connection.
        tell: is told what takes long, in a sentence.
    """

    root: Path | None = None
    cache: Path | None = None
    offline: bool = False
    tell: Callable[[str], None] = _silent


class Dataset(ABC):
    """A source of images, divided into six disjoint parts.

    A plugin sets ``Params``, ``version`` and ``source`` and implements the methods below. Constructing it does no work;
    :meth:`prepare` finds every problem of the files before any training starts.

    Args:
        params: validated parameters.
        sizes: part name to number of images; parts that are missing have the dataset's own size. Smaller sizes take the
            first n of a part, so a smaller suite sees a prefix of the larger one's images. A worker asks for a part at a
            time: :meth:`load` goes by :attr:`sizes` as they are then.
        context: run-time surroundings.
    """

    Params: ClassVar[type[Params]] = Params
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    reads_root: ClassVar[bool] = True
    """Whether it looks into the folder given by ``--data-root``."""

    def __init__(
        self, params: Params, sizes: Mapping[str, int] | None = None, context: DataContext | None = None
    ) -> None:
        self.params: Any = params
        self.sizes = dict(sizes or {})
        self.context = context or DataContext()

    @abstractmethod
    def prepare(self) -> DataInfo:
        """Checks the files (fetching them where that is the dataset's way) and returns what is known.

        Raises:
            DataError: naming the file or folder and what to do.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a hash of everything that decides the pixels (file contents, or generator version and parameters)."""

    @abstractmethod
    def load(self, part: PartName) -> Part:
        """Returns one part. The same call gives the same bytes on every machine with the same library versions."""

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        """Returns parameters for tests."""
        return {}
