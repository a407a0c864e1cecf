"""The contract of a defense. The base class changes nothing: it is the defense ``none``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .params import Params
from .split import Split

When = Literal["train+infer", "infer"]


class Defense(nn.Module):
    """Hooks through which a defense acts. Each is the identity by default.

    A plugin sets ``Params``, ``version`` and ``source`` (paper, equation, every departure) and overrides hooks. Its
    submodules and buffers are stored with the target; submodules in :attr:`helpers` are trained by the defense itself
    and are not stored. Calls come in this order: ``wrap``, ``prepare``, then per training step ``protect``,
    ``train_helpers``, ``task_loss`` and ``extra_loss``, after training ``calibrate``, then only ``protect``.

    Args:
        params: validated parameters.
    """

    Params: ClassVar[type[Params]] = Params
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    acts_on_wire: ClassVar[bool] = False
    """Says that ``protect`` does something, so that ``when: infer`` makes sense."""
    passes_gradient: ClassVar[bool] = False
    """Says that the gradient of ``protect`` leads where what is sent goes, exactly or straight through; attacks then use it
    as it is. Otherwise it is tried out (:class:`splitaudit.straight.StraightThrough`)."""

    name: str = "none"
    """The registry name; set by the framework."""

    helpers: tuple[str, ...] = ()
    """Names of submodules that are trained by :meth:`train_helpers`, not by the shared optimiser, and not stored."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params: Any = params

    # -- declarations ---------------------------------------------------------------------------------------------

    @property
    def stochastic(self) -> bool:
        """Says whether ``protect`` draws randomness with these parameters."""
        return False

    @classmethod
    def neutral(cls) -> dict[str, Any] | None:
        """Returns parameters with which the defense equals ``none``, or None where there are none."""
        return None

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        """Returns parameters for tests."""
        return {}

    @classmethod
    def supports(cls, backbone: str, cut: str) -> str | None:
        """Returns why the defense cannot be used with a backbone at a cut, or None where it can."""
        return None

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of one image's features after ``protect``."""
        return feature_shape

    # -- architecture ---------------------------------------------------------------------------------------------

    def wrap(self, split: Split) -> Split:
        """Returns the split with a changed architecture. New modules are initialised here, seeded by the framework."""
        return split

    def prepare(self, split: Split) -> None:
        """Builds buffers and helper networks that depend on the (wrapped) split's shapes."""

    # -- training -------------------------------------------------------------------------------------------------

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Returns the task loss of a batch, a scalar: cross-entropy."""
        return F.cross_entropy(logits, y)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        """Returns what is added to the task loss, a scalar, or None.

        Args:
            x: augmented images in [0, 1], (N, C, H, W).
            z: the features as this defense receives them (before its own ``protect``), with gradient.
            y: labels (N,).
            logits: (N, K).
        """
        return None

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        """Trains helper networks for one step, before the main step, on detached features."""

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Fits statistics after training. ``features()`` iterates over batches of this stage's features (client_train)."""

    # -- the wire -------------------------------------------------------------------------------------------------

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns what is sent for features z (N, ...). All randomness comes from ``generator``; z is not changed."""
        return z

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        """Returns which elements of received features carry the edge's output (bool, same shape); None: all of them.

        The defense is public, so whoever sees the wire can compute this (the support of a dropout mask, for instance).
        """
        return None
