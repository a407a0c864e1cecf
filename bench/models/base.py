"""The contract of a backbone: named blocks in a row, each of them a place to cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, ClassVar

from torch import nn

from ..params import Params


class Backbone(ABC):
    """A classifier built as a sequence of named blocks.

    A plugin sets ``Params``, ``version`` and ``source`` and implements :meth:`cuts` and :meth:`blocks`.
    """

    Params: ClassVar[type[Params]] = Params
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""

    def __init__(self, params: Params) -> None:
        self.params: Any = params

    @abstractmethod
    def cuts(self) -> tuple[str, ...]:
        """Returns the names of the blocks after which the model may be split, from the input to the output."""

    @abstractmethod
    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        """Builds the blocks in order; the last is the head and gives logits (N, K).

        Args:
            image_shape: (C, H, W). The first block receives normalised images.
            classes: K.

        Raises:
            Unsupported: for an image size that the backbone cannot take, with the reason.
        """

    def check(self, image_shape: tuple[int, int, int]) -> None:  # noqa: B027  (taking every shape is a fine default)
        """Raises Unsupported, with the reason, for an image shape that the backbone cannot take."""

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        """Returns parameters for tests."""
        return {}
