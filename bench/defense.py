"""The contract of a defense. The base class changes nothing: it is the defense ``none``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .guarantee import Guarantee
from .params import Params
from .split import Split, SplitModel

When = Literal["train+infer", "infer", "infer+cloud"]
"""When a defense acts: throughout; on a trained undefended network; on one whose cloud is then trained on what is sent."""

NoiseShape = Literal["gaussian", "laplace"]
"""Distributions of noise."""


@dataclass(frozen=True)
class Network:
    """The trained undefended network, as a defense that acts on it sees it.

    Attributes:
        edge: images in [0, 1], (N, C, H, W), to the features that this defense receives, (N, ...), differentiable; in a
            composition they are what the defenses before it send.
        cloud: the cloud half.
        images: iterates over batches of ``client_train``, as they are, in [0, 1].
    """

    edge: Callable[[torch.Tensor], torch.Tensor]
    cloud: nn.Sequential
    images: Callable[[], Iterable[torch.Tensor]]


@dataclass(frozen=True)
class Course:
    """A training that begins, as a defense sees it.

    Attributes:
        model: the target.
        optimizer: steps what is trained.
        images: number of images of ``client_train``.
        batch: images per step, fewer in the last step of an epoch.
        epochs: passes over the images.
        generator: the randomness of the defense in this training; ``protect`` draws from it too.
        notes: what is to be stored with the training's history, as plain JSON values.
    """

    model: SplitModel
    optimizer: torch.optim.Optimizer
    images: int
    batch: int
    epochs: int
    generator: torch.Generator
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * math.ceil(self.images / self.batch)


class Defense(nn.Module):
    """Hooks through which a defense acts. Each is the identity by default.

    A plugin sets ``Params``, ``version`` and ``source`` (paper, equation, every departure) and overrides hooks. Its
    submodules and buffers are stored with the target; submodules in :attr:`helpers` are trained by the defense itself
    and are not stored. Calls come in this order: ``wrap``, ``prepare``, ``during`` around the training, in it per step
    ``protect``, ``train_helpers``, ``task_loss`` and ``extra_loss``, after it ``calibrate``, then only ``protect``. With
    ``when: infer`` the network is trained already: ``fit`` and ``calibrate`` come first, then the training of what the
    defense learns itself (and of the cloud, with ``infer+cloud``) while the rest stays as it is, then ``calibrate`` again.

    Args:
        params: validated parameters.
    """

    Params: ClassVar[type[Params]] = Params
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    acts_on_wire: ClassVar[bool] = False
    """Says that ``protect`` does something, so that ``when: infer`` makes sense."""
    additive: ClassVar[bool] = False
    """Says that ``protect`` adds fresh noise with a mean of zero to each element and does nothing else: what attacks read off
    the parts before it in a composition they read still."""

    usually: ClassVar[When] = "train+infer"
    """When the defense acts unless a suite says otherwise. Anything else than ``train+infer`` says that it starts from the
    trained network of the same seed (undefended, or trained with the parts before it), and is never trained along with it."""

    governs_training: ClassVar[bool] = False
    """Says that what it promises holds only if every step on ``client_train`` is its own (in ``during``): nothing may be
    learned from these images afterwards."""

    claims: ClassVar[Mapping[str, Literal["up", "down"]]] = {}
    """What its source says of it against ``none``: column of a table to where it moves, ``mse`` up, say. Suites with
    ``declared_claims: true`` test it."""

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

    @property
    def leaves_wire(self) -> bool:
        """Says whether with these parameters the features are sent as they are: neutral ones, noise that is none."""
        neutral = type(self).neutral()
        if neutral is not None and all(getattr(self.params, name) == value for name, value in neutral.items()):
            return True
        if self.additive and not self.stochastic:
            return True
        return not self.acts_on_wire and type(self).protect is Defense.protect

    @property
    def noise_shape(self) -> NoiseShape:
        """Distribution of the noise that is added: attacks count the error of what is received accordingly."""
        return "gaussian"

    @property
    def replaces_task_loss(self) -> bool:
        """Says whether the task loss is another one than cross-entropy; of a composition only one part's may be."""
        return type(self).task_loss is not Defense.task_loss

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

    def guarantees(self, notes: Mapping[str, Any], releases: int = 1) -> tuple[Guarantee, ...]:
        """Returns what the defense proves of privacy; nothing by default.

        Tables ask for it without the network: parameters, notes and the count of releases are all that it may look at.

        Args:
            notes: what was stored with the training's history (:attr:`Course.notes`).
            releases: how often an image is sent, each time with fresh randomness; at least 1.
        """
        return ()

    # -- architecture ---------------------------------------------------------------------------------------------

    def wrap(self, split: Split) -> Split:
        """Returns the split with a changed architecture. New modules are initialised here, seeded by the framework."""
        return split

    def obstacle(self, split: Split, images: int) -> str | None:
        """Returns why the defense cannot be used with these parameters at a (wrapped) split, or None where it can.

        Asked when a suite is planned, after ``wrap`` and before ``prepare``, of a network without numbers (device ``meta``):
        shapes and layers are there, values are not. The rows of what is refused are skipped with the reason. A ``wrap``
        that cannot do its work raises :class:`~splitaudit.errors.Unsupported` to the same end.

        Args:
            split: the halves; its ``feature_shape()`` is what this defense receives.
            images: number of images of ``client_train``.
        """
        return None

    def prepare(self, split: Split) -> None:
        """Builds buffers and helper networks that depend on the (wrapped) split's shapes."""

    # -- training -------------------------------------------------------------------------------------------------

    def during(self, course: Course) -> AbstractContextManager[torch.optim.Optimizer]:
        """Surrounds the training: returns a context that gives the optimiser to step, and takes back what it set up."""
        return nullcontext(course.optimizer)

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

    def fit(self, network: Network) -> None:
        """Takes from the trained undefended network what the defense needs; with ``when: infer`` or ``infer+cloud`` alone."""

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Fits statistics after training. ``features()`` iterates over batches of this stage's features (client_train)."""

    # -- the wire -------------------------------------------------------------------------------------------------

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns what is sent for features z (N, ...). All randomness comes from ``generator``; z is not changed."""
        return z

    def lift(self, sent: torch.Tensor) -> torch.Tensor:
        """Returns what the cloud half takes (N, *feature_shape) for what was sent (N, *wire_shape): the cloud's side of it.

        Where fewer numbers cross the wire than the cloud half takes, they are filled up here. No privacy comes from it:
        attacks see what was sent.
        """
        return sent

    def wire_bits(self, feature_shape: tuple[int, ...]) -> int:
        """Returns how many bits carry one image's features over the wire, without compression: 32 for each number."""
        return 32 * math.prod(self.wire_shape(feature_shape))

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        """Returns which elements of received features carry the edge's output (bool, same shape); None: all of them.

        The defense is public, so whoever sees the wire can compute this (the support of a dropout mask, for instance).
        """
        return None

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        """Returns what is sent for features z (N, ...) on average, given that an element is shown and without its pattern.

        It is what received features are to be compared with: the features themselves where zero-mean noise is added, and
        where a mask hides some of them. No randomness is left in it but that of earlier parts of a composition. With
        gradient. None: not known; attacks then average draws of :meth:`protect` over those that show an element.
        """
        return None

    def covered(self, z: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns what is sent for features z (N, ...), and which of its elements carry them; None: :meth:`visible` tells.

        For masks by chance that cannot be read off what is sent, because noise covers them: an attacker counts on images of its
        own how often an element is shown. :meth:`expectation`, which has to be there, is that of an element that is.
        """
        return None

    def ceiling(self, received: torch.Tensor) -> torch.Tensor | None:
        """Returns the greatest magnitude that a hidden element of each image may have, (N, 1, ..., 1); None: any.

        For masks that depend on the features: what they hide is known to be small, say.
        """
        return None

    def patterns(self) -> torch.Tensor | None:
        """Returns patterns (T, *wire_shape), one of which, drawn for each image, is added to what is sent; None: none.

        Fresh noise beside them has a mean of zero. The defense is public: whoever has the edge can tell which was added.
        """
        return None


def usual_when(parts: Sequence[type[Defense]]) -> When:
    """Returns when a defense, or a composition of several, acts unless a suite says otherwise."""
    found = {part.usually for part in parts}
    for when in ("infer+cloud", "infer"):
        if when in found:
            return when
    return "train+infer"
