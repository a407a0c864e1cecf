"""Edges of an attacker's own, behind the public defense: what of them is trained, and how."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from splitaudit.split import SplitModel


def trainable(model: SplitModel) -> list[nn.Parameter]:
    """Returns the weights of a stand-in's edge; what the defense has learned on the wire is known."""
    return [p for p in model.edge.parameters() if p.requires_grad]


def training(model: SplitModel) -> None:
    """Puts a stand-in's edge into training mode but for dropout, which a device at inference does not have.

    Dropout would also draw from the global generator, which is nobody's seed. The defense acts as it does on what is received:
    in training mode it would go on fitting itself, to features of the attacker's own.
    """
    model.edge.train()
    model.defense.eval()
    for module in model.edge.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
