"""The two stages of a defense that starts from a trained network: what had been trained, and what acts then.

``siamese+pca`` at ``when: infer``: the network is trained with ``siamese``, and ``pca`` is fitted to it as it would be to an
undefended one. Parts that act in training alone belong to the first stage, all others to the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .defense import Defense
from .guarantee import Guarantee
from .plugins import DEFENSES
from .split import Split


class Trained(Defense):
    """A part whose work was done in an earlier training: its architecture stays, and the task loss, where the cloud is trained.

    Its penalties are gone: they shape the edge, which does not move any more. Where the cloud stands still too, only what acts
    now is trained (learned noise), by the loss of its own source.

    Args:
        part: the defense that the network was trained with.
        adapting: the cloud is trained.
    """

    def __init__(self, part: Defense, *, adapting: bool) -> None:
        super().__init__(part.params)
        self.adapting = adapting
        self.name = part.name
        self._part = (part,)  # in a tuple: its helper networks and buffers are no part of this stage

    def guarantees(self, notes: Mapping[str, Any], releases: int = 1) -> tuple[Guarantee, ...]:
        return self._part[0].guarantees(notes, releases)

    def wrap(self, split: Split) -> Split:
        return self._part[0].wrap(split)

    @property
    def replaces_task_loss(self) -> bool:
        return self.adapting and self._part[0].replaces_task_loss

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self._part[0].task_loss(logits, y)


def shapes_training(cls: type[Defense]) -> bool:
    """Says whether a defense acts in training alone: it changes neither the wire nor a network that is trained."""
    return not cls.acts_on_wire and cls.protect is Defense.protect


def trained_before(defense: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the parts, ``{"name", "params", ...}`` each, that the network of a target's base was trained with.

    Args:
        defense: the part ``defense`` of a target's identity: ``parts`` and ``when`` (``train+infer`` where it lacks).
    """
    return [] if defense.get("when", "train+infer") == "train+infer" else _split(defense["parts"])[0]


def acting(defense: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the other parts: those that are trained, fitted or applied when the target itself is made."""
    return (
        list(defense["parts"]) if defense.get("when", "train+infer") == "train+infer" else _split(defense["parts"])[1]
    )


def _split(parts: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    early = [p for p in parts if p["name"] != "none" and shapes_training(DEFENSES.get(p["name"]))]
    return early, [p for p in parts if p not in early]
