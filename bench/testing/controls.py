"""Two attacks to compare with: one that knows everything and one that looks at nothing."""

from __future__ import annotations

import torch

from ..attack import INVERTIBLE, Attack, Expected
from ..knowledge import AdversaryKnowledge
from ..view import View
from .hidden import peek


class Oracle(Attack):
    """Returns the private images themselves; works only inside this kit.

    The best that any attack can score. It is a cheat, and :func:`check_cannot_peek` says so.
    """

    version = 1
    source = "control"
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 0.0), cheap_suffices=True)

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return peek().clone()


class Blind(Attack):
    """Returns the mean auxiliary image and looks at no features: what an attack has to beat."""

    version = 1
    source = "control"
    uses = AdversaryKnowledge(aux="same")
    expected = Expected(beats_prior=False)

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return view.prior.expand(len(view), *view.image_shape).clone()
