"""What cannot be one defense: compositions whose parts contradict each other, whatever the network."""

from __future__ import annotations

from collections.abc import Sequence

from .defense import Defense, When
from .plugins import DEFENSES
from .stages import shapes_training

LOSSES = ("extra_loss", "train_helpers", "task_loss")
"""Hooks by which a defense may make one image's gradient depend on the others of its batch."""


def at_odds(names: Sequence[str], when: When) -> str | None:
    """Returns why some defenses cannot be composed, or None where nothing speaks against it.

    Args:
        names: registry names of the parts, in order.
        when: when the composition acts.
    """
    if len(names) < 2:
        return None
    parts = {name: DEFENSES.get(name) for name in names}
    for hook, what in (("task_loss", "task loss"), ("wrap", "architecture")):
        found = [n for n, cls in parts.items() if getattr(cls, hook) is not getattr(Defense, hook)]
        if len(found) > 1:
            return f"{' and '.join(found)} each replace the {what}; only one may"
    strict = [n for n, cls in parts.items() if cls.governs_training]
    in_training = [n for n, cls in parts.items() if not cls.acts_on_wire]
    if when != "train+infer" and len(in_training) < len(parts):
        both = [n for n in in_training if not shapes_training(parts[n])]
        if both:
            return (
                f"{' and '.join(both)} acts both in training and on the wire, so a network that is trained with it cannot "
                f"be what the rest ({when}) starts from"
            )
        later = [n for n, cls in parts.items() if cls.usually != "train+infer"]
        if strict and (later or when == "infer+cloud"):
            return (
                f"what {' and '.join(strict)} promises of the training images ends where "
                f"{'the cloud is trained' if when == 'infer+cloud' else ' and '.join(later)} on them afterwards"
            )
    return _mixes_images(strict, {n: parts[n] for n in names if when == "train+infer" or n in in_training})


def _mixes_images(strict: Sequence[str], trained: dict[str, type[Defense]]) -> str | None:
    """Returns what keeps a defense that governs the training from bounding each image's gradient, or None."""
    for name, cls in trained.items():
        added = [hook for hook in LOSSES if getattr(cls, hook) is not getattr(Defense, hook)]
        if strict and name not in strict and added:
            return f"{' and '.join(strict)} bounds the gradient of one image's cross-entropy, and '{name}' overrides {added[0]}"
    return None
