"""The best constant guess: the control that every attack has to beat."""

from __future__ import annotations

import torch

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.view import View


class Prior(Attack):
    """Guesses the mean auxiliary image for every private image, without looking at the features.

    Without auxiliary images the guess is mid-grey. Its mean squared error is the unit of the leakage score.
    """

    version = 1
    source = "control"
    requires = AdversaryKnowledge()
    uses = AdversaryKnowledge(aux="same")
    expected = Expected(beats_prior=False)

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return view.prior.expand(len(view), *view.image_shape).clone()

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        return Work(edge_passes=0, gflop=0.1)
