"""Building, training, saving and loading of targets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from .composed import Composed
from .data.base import DataInfo, Part
from .defense import Defense
from .errors import Unsupported
from .pixels import to_float
from .plugins import BACKBONES, DEFENSES
from .seeds import derive, seeded_globally
from .split import SplitInfo, SplitModel, cut_blocks
from .stages import Trained, trained_before


def channel_statistics(part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the mean and standard deviation per channel of a part's pixels in [0, 1], each (C,)."""
    count = part.images.numel() / part.images.shape[1]
    x = part.images.to(torch.int64)
    mean = x.sum((0, 2, 3)).double() / count
    square = x.square().sum((0, 2, 3)).double() / count
    std = (square - mean.square()).clamp_min(0).sqrt()
    return (mean / 255).float(), (std / 255).clamp_min(1e-3).float()


def make_defense(
    specs: Sequence[Mapping[str, Any]], trained: Collection[Mapping[str, Any]] = (), *, adapting: bool = False
) -> Defense:
    """Builds a defense from the specs of its parts: ``{"name", "params"}`` each, in order.

    Args:
        specs: all parts.
        trained: those among them that the network has been trained with already.
        adapting: the cloud is trained after that.
    """
    parts: list[Defense] = []
    for spec in specs:
        cls = DEFENSES.get(spec["name"])
        part = cls(cls.Params(**spec["params"]))
        part.name = spec["name"]
        parts.append(Trained(part, adapting=adapting) if spec in trained else part)
    return parts[0] if len(parts) == 1 else Composed(parts)


def names_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what initialisation and batch order may depend on: dataset, backbone and cut, never the defense."""
    return {"dataset": identity["dataset"]["name"], "backbone": identity["backbone"]["name"], "cut": identity["cut"]}


def build(
    identity: Mapping[str, Any], info: DataInfo, statistics: tuple[torch.Tensor, torch.Tensor], device: torch.device
) -> SplitModel:
    """Builds a freshly initialised target.

    The backbone's initialisation does not depend on the defense; the defense's own modules have a seed of their own.
    """
    seed, names = identity["seed"], names_of(identity)
    cls = BACKBONES.get(identity["backbone"]["name"])
    backbone = cls(cls.Params(**identity["backbone"]["params"]))
    with seeded_globally(derive("init", seed, **names)):
        blocks = backbone.blocks(info.image_shape, len(info.classes))
    split = cut_blocks(
        blocks,
        SplitInfo(
            identity["backbone"]["name"],
            identity["cut"],
            info.image_shape,
            len(info.classes),
            dict(identity["backbone"]["params"]),
        ),
        *statistics,
    )
    adapting = "base" in identity and adapts(identity)
    defense = make_defense(identity["defense"]["parts"], trained_before(identity["defense"]), adapting=adapting)
    for part in identity["defense"]["parts"]:
        reason = DEFENSES.get(part["name"]).supports(identity["backbone"]["name"], identity["cut"])
        if reason:
            raise Unsupported(reason)
    with seeded_globally(derive("defense init", seed, **names)):
        split = defense.wrap(split)
        defense.prepare(split)
        model = SplitModel(split, defense)
    return model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def stored_state(model: SplitModel) -> dict[str, torch.Tensor]:
    """Returns the tensors to store: everything but the helper networks."""
    prefixes = tuple(f"defense.{h}." for h in model.defense.helpers)
    return {
        k: v.detach().cpu().contiguous()
        for k, v in model.state_dict().items()
        if not (prefixes and k.startswith(prefixes))
    }


ROUNDING = 1e-6
"""Share of the features' scatter below which a difference is rounding, as it may be on a GPU."""


def restore(model: SplitModel, state: Mapping[str, torch.Tensor]) -> None:
    """Loads stored tensors into a freshly built target.

    Raises:
        ValueError: if tensors are missing or left over.
    """
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    prefixes = tuple(f"defense.{h}." for h in model.defense.helpers)
    missing = [k for k in missing if not (prefixes and k.startswith(prefixes))]
    if missing or unexpected:
        raise ValueError(f"stored weights do not fit: missing {missing or 'none'}, left over {unexpected or 'none'}")
    model.eval()


def adapts(identity: Mapping[str, Any]) -> bool:
    """Says whether a target that starts from another one has a cloud of its own."""
    return identity["defense"]["when"] == "infer+cloud"


def own_tensors(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns how the names of those tensors begin that a target does not take from the one that it starts from."""
    return ("defense.", "cloud.") if adapts(identity) else ("defense.",)


def halves(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the tensors of edge and cloud among those stored with a target."""
    return {k: v for k, v in weights.items() if k.startswith(("edge.", "cloud."))}


def check_wire(
    model: SplitModel, part: Part, generator: Callable[[str], torch.Generator], device: torch.device
) -> None:
    """Runs a batch through the trained target; refuses what no attack could be trusted on.

    Args:
        model: the target.
        part: of which the first images are sent.
        generator: role to a fresh generator; equal roles give equal ones.
        device: of the target.

    Raises:
        FloatingPointError: naming what is not finite.
        ValueError: of a defense that draws otherwise than it says.
    """
    model.eval()
    name = model.defense.name
    with torch.no_grad():
        x = to_float(part.images[:64].to(device))
        z = model.clean(x)
        sent, again, fresh = (model.protect(z.clone(), generator(role)) for role in ("one", "one", "another"))
    for what, value in (("the edge's features", z), ("the features on the wire", sent)):
        if not bool(torch.isfinite(value).all()):
            raise FloatingPointError(f"{what} are not finite (defense '{name}')")
    if _differ(sent, again):
        raise ValueError(
            f"defense '{name}' sends other features of the same images with an equal generator, expected the same ones: draw "
            "with the generator that protect is given (torch.randn(z.shape, generator=generator, device=z.device)), and keep "
            "no state between calls"
        )
    if _differ(sent, fresh) and not model.defense.stochastic:
        raise ValueError(
            f"defense '{name}' draws at random and does not say so; set stochastic = True (a property, if it depends on the "
            "parameters). Attacks would take one draw for all that is sent, and its leakage would look lower than it is"
        )


def _differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Says whether features differ by more than the rounding of sums in another order."""
    if a.shape != b.shape:
        return True
    a, b = a.double(), b.double()
    # Noise counts by what varies between images, rounding by what is large: a huge constant hides no draw.
    scatter, size = (a - a.mean(0)).abs().mean(), a.abs().mean()
    return float((a - b).abs().mean()) > max(ROUNDING * float(scatter), torch.finfo(torch.float32).eps * float(size))
