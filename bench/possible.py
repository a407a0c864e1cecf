"""Which targets cannot exist, and why: found when a suite is planned, before anything is trained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .composing import at_odds
from .config.suite import BackboneSpec, DefenseSpec
from .data.base import DataInfo
from .defense import Defense
from .errors import Unsupported
from .plugins import BACKBONES, DEFENSES
from .seeds import seeded_globally
from .split import SplitInfo, cut_blocks
from .stages import trained_before
from .targets import make_defense


def refusal(
    backbone: BackboneSpec, cut: str, defense: DefenseSpec, parts: Sequence[dict[str, Any]], info: DataInfo
) -> str | None:
    """Returns why a target cannot exist, or None where nothing is known to speak against it.

    Args:
        backbone: validated.
        cut: name of a block.
        defense: completed.
        parts: of the defense, ``{"name", "params"}`` each, in order.
        info: of the attacked dataset.
    """
    cls = BACKBONES.get(backbone.name)
    made = cls(cls.Params(**backbone.params))
    if cut not in made.cuts():
        return f"backbone '{backbone.name}' has no cut '{cut}' (it has {', '.join(made.cuts())})"
    for part in parts:
        reason = DEFENSES.get(part["name"]).supports(backbone.name, cut)
        if reason:
            return reason
    when = defense.when or "train+infer"
    reason = at_odds([part["name"] for part in parts], when)
    if reason:
        return reason
    before = trained_before({"parts": parts, "when": when})
    at = SplitInfo(backbone.name, cut, info.image_shape, len(info.classes), dict(backbone.params))
    try:
        made.check(info.image_shape)
        for some, trained in ((before, ()), (parts, before)):
            names = [part["name"] for part in some]
            # The first time costs a second of torch's imports: not for those that are at home everywhere.
            if any(map(_may_object, names)) and all(map(_may_be_tried, names)):
                _try_on(at, some, trained, info.sizes["client_train"])
    except Unsupported as exc:
        return str(exc)
    return None


def _may_object(name: str) -> bool:
    cls = DEFENSES.get(name)
    return cls.obstacle is not Defense.obstacle or cls.wrap is not Defense.wrap


def _may_be_tried(name: str) -> bool:
    """Says whether a defense's code may run while planning: one that kills its process would take the plan with it.

    Built-in ones may, and a plugin that asks for it by a hook that is called at no other time.
    """
    return "/" not in name or DEFENSES.get(name).obstacle is not Defense.obstacle


def _try_on(at: SplitInfo, parts: Sequence[dict[str, Any]], trained: Sequence[dict[str, Any]], images: int) -> None:
    """Builds a target without numbers, on the device ``meta``, which costs neither memory nor arithmetic.

    Args:
        at: architecture and cut.
        parts: of the defense.
        trained: those among them that the network has been trained with already.
        images: number of images of ``client_train``.

    Raises:
        Unsupported: with the reason why it cannot be.
    """
    defense = make_defense(parts, trained)
    cls = BACKBONES.get(at.backbone)
    try:
        with torch.device("meta"), seeded_globally(0):
            blocks: OrderedDict[str, nn.Module] = cls(cls.Params(**at.params)).blocks(at.image_shape, at.classes)
            channels = torch.ones(at.image_shape[0])
            split = defense.wrap(cut_blocks(blocks, at, channels, channels))
            reason = defense.obstacle(split, images)
            if reason is None:
                defense.prepare(split)
    except Unsupported:
        raise
    except (Exception, SystemExit):  # noqa: BLE001
        return  # a plugin that asks for values, which there are none of here: what is wrong with it, the job will say
    if reason:
        raise Unsupported(reason)
