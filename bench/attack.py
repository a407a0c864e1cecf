"""The contract of an attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from .data.base import LABEL
from .knowledge import AdversaryKnowledge
from .params import Params
from .split import SplitInfo
from .view import View

INVERTIBLE = ("identity", "linear", "orthogonal")
"""Control edges from whose features the image can be computed; see :func:`splitaudit.testing.control_edge`."""


@dataclass(frozen=True)
class Expected:
    """What an attack is expected to reach on the control edges; the contract checks hold it to this.

    Attributes:
        control_mse: greatest mean squared error without a defense, by control edge, some or all of :data:`INVERTIBLE`;
            nothing is claimed of an edge that is not named.
        control_params: by control edge, the parameters that the claim is for; the default ones where none are named.
        cheap_suffices: whether the claims are kept by the parameters of ``cheap()`` too, with few auxiliary images; the
            checks then ask for them that way, in seconds.
        beats_prior: whether it should do clearly better than the constant guess on an invertible edge.
        worse_than_prior: why it does worse than the mean auxiliary image where features say nothing; empty: it does not.
    """

    control_mse: Mapping[str, float] = field(default_factory=dict)
    control_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cheap_suffices: bool = False
    beats_prior: bool = True
    worse_than_prior: str = ""

    def __post_init__(self) -> None:
        unknown = sorted({*self.control_mse, *self.control_params} - set(INVERTIBLE))
        if unknown:
            raise ValueError(
                f"got claims for {', '.join(unknown)}, expected control edges among {', '.join(INVERTIBLE)}"
            )


@dataclass(frozen=True)
class Work:
    """A rough count of an attack's arithmetic, for the estimate of the time left.

    Attributes:
        edge_passes: images through the edge, a backward pass counting as two.
        gflop: everything else, in 10⁹ floating-point operations.
    """

    edge_passes: float = 0.0
    gflop: float = 1.0


Infers = Literal["image", "label"]
"""What an attack says of each private image: the image, or its class or another attribute."""


class Attack(ABC):
    """A way to rebuild private images from features.

    A plugin sets ``Params``, ``version``, ``source`` and ``requires`` and implements :meth:`reconstruct`. It gets a
    :class:`~splitaudit.View` and nothing else, selects and stops only on its own auxiliary validation part or its own
    loss, and never grades itself. What :meth:`fit` returns is stored and handed to :meth:`reconstruct`, so that several
    attacks can share it.

    Args:
        params: validated parameters.
    """

    Params: ClassVar[type[Params]] = Params
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    requires: ClassVar[AdversaryKnowledge] = AdversaryKnowledge()
    """The least knowledge with which the attack can run."""

    uses: ClassVar[AdversaryKnowledge | None] = None
    """The most it can make use of (None: no more than it requires). A level that grants more shares the result."""

    uses_draws: ClassVar[bool] = False
    """Whether it makes use of several received draws per image."""

    expected: ClassVar[Expected] = Expected()
    search: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Values that tuning tries, by parameter; combinations are drawn, the given parameters come first."""

    infers: ClassVar[Infers] = "image"
    """What it finds, and so which metrics judge it; ``label`` for a :class:`LabelAttack`."""

    fit_scope: ClassVar[Literal["target", "images"]] = "target"
    """What a fit depends on. ``images``: on the auxiliary images alone, so that one serves all targets; its view knows no
    target (a generative prior, for instance)."""

    fit_params: ClassVar[tuple[str, ...] | None] = None
    """Parameters that ``fit`` reads; None: all. Settings that differ in others share one fit."""

    name: str = ""
    """The registry name; set by the framework."""

    adaptive: bool = True
    """Whether the defense on the wire is taken into account; set by the framework. Without it the attack's view knows of
    none, and only what was received is defended: the attack itself has nothing to do for this."""

    def __init__(self, params: Params) -> None:
        self.params: Any = params

    def supports(self, architecture: SplitInfo, defense_parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        """Returns why the attack cannot run on a target, or None where it can; such cells are skipped with the reason.

        An attack runs on any target; one that rebuilds published code may have nothing for some.

        Args:
            architecture: the undefended model.
            defense_parts: registry name and parameters of each part of the defense, in order.
        """
        return None

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Returns the fits of other attacks that this one uses: role to (attack name, parameters).

        Each is fitted once for all attacks that use it, with the knowledge that *its* attack is given at the level, and is
        at hand in ``fit`` and ``reconstruct`` as ``view.fits[role]``.
        """
        return {}

    def granted(self, level: AdversaryKnowledge) -> AdversaryKnowledge:
        """Returns what the attack is given at a level."""
        return level.narrowed(self.uses or self.requires, self.uses_draws)

    def has_fit(self) -> bool:
        """Says whether this attack trains something before it sees received features."""
        return type(self).fit is not Attack.fit

    def of_fit(self) -> Attack:
        """Returns the attack as its fit has to know it: parameters that ``fit`` does not read have their defaults.

        A fit on images alone meets no defense.
        """
        adaptive = self.adaptive or self.fit_scope == "images"
        if self.fit_params is None and adaptive == self.adaptive:
            return self
        given = self.params.dump()
        read = given if self.fit_params is None else {n: given[n] for n in self.fit_params}
        made = type(self)(type(self).Params(**read))
        made.name, made.adaptive = self.name, adaptive
        return made

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        """Trains what the attack needs (a decoder, a prior) on auxiliary data and returns it as named tensors.

        The view has no received features here: a fit depends on the target and the auxiliary data only (with
        ``fit_scope`` ``images`` on the latter only).
        """
        return {}

    @abstractmethod
    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns a guess for each private image: float, (N, C, H, W), in [0, 1]."""

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        """Returns a rough count of the arithmetic of fit and reconstruct together."""
        return Work(edge_passes=n_private + n_aux, gflop=10.0)

    def runs(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Returns the attacks that this one runs itself: role to (attack name, parameters); their versions are in its key."""
        return {}

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        """Returns parameters for tests."""
        return {}


class LabelAttack(Attack):
    """A way to read the class, or another attribute, of private images from features, without or through an image.

    A plugin implements :meth:`infer` instead of ``reconstruct``; it is scored by metrics that judge labels, and has no
    leakage score. Its ``Params`` may have a field ``attribute``; without one the class is read.
    """

    infers = "label"
    requires = AdversaryKnowledge(aux="same", labels=True)

    @property
    def attribute(self) -> str:
        """What is read: the name of an attribute of the dataset, or ``label``."""
        return str(getattr(self.params, "attribute", LABEL))

    @abstractmethod
    def infer(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns a score for each private image and value of the attribute: float, (N, K), higher for more likely."""

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        raise TypeError(f"attack '{self.name}' reads labels; it makes no image")
