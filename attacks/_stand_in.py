"""Edges of an attacker's own: what of them is trained, and how."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from splitaudit.split import SplitModel


def trainable(model: SplitModel) -> list[nn.Parameter]:
    """Returns the weights of a stand-in's device side: its edge and what the defense learns on the wire."""
    helpers = tuple(f"{name}." for name in model.defense.helpers)
    own = [p for n, p in model.defense.named_parameters() if not n.startswith(helpers or "\0")]
    return [p for p in (*model.edge.parameters(), *own) if p.requires_grad]


def training(model: SplitModel) -> None:
    """Puts a stand-in's device side into training mode but for dropout, which a device at inference does not have.

    Dropout would also draw from the global generator, which is nobody's seed.
    """
    model.edge.train()
    model.defense.train()
    for module in (*model.edge.modules(), *model.defense.modules()):
        if isinstance(module, _DropoutNd):
            module.eval()
