"""Toy targets: two layers, built directly from a class or an edge, without registry, store or suite."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..data.base import Part
from ..defense import Defense
from ..errors import Unsupported
from ..models.base import Backbone
from ..params import Params
from ..plugins import BACKBONES
from ..seeds import derive, seeded_globally
from ..split import Split, SplitInfo, SplitModel, cut_blocks
from ..targets import channel_statistics
from ..training import Half, TrainingParams, calibrate, fit_defense, learned, train
from .data import CLASSES, SHAPE, part
from .edges import control_edge
from .outcome import NotApplicable

CPU = torch.device("cpu")
NAMES = {"dataset": "toy", "backbone": "toy", "cut": "block1"}


class ToyNet(Backbone):
    """A convolution block and a linear head; ``vector`` makes the features a vector instead of a map."""

    def __init__(self, params: Params | None = None, *, vector: bool = False) -> None:
        super().__init__(params or Params())
        self.vector = vector

    def cuts(self) -> tuple[str, ...]:
        return ("block1",)

    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        channels, height, width = image_shape
        inside = height // 2, width // 2
        block = [nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU()]
        size = 8 * inside[0] * inside[1]
        if self.vector:
            block += [nn.Flatten(), nn.Linear(size, 24)]
            size = 24
        head = nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
        return OrderedDict(block1=nn.Sequential(*block), head=head)


@dataclass(frozen=True)
class Home:
    """A backbone, cut and image shape where a defense can live."""

    backbone: Backbone
    name: str
    cut: str
    image_shape: tuple[int, int, int]

    def split(self, data: Part, seed: int) -> Split:
        """Returns the freshly initialised split; the seed does not know of the defense."""
        info = SplitInfo(self.name, self.cut, self.image_shape, CLASSES, self.backbone.params.dump())
        with seeded_globally(derive("init", seed)):
            blocks = self.backbone.blocks(self.image_shape, CLASSES)
        return cut_blocks(blocks, info, *channel_statistics(data))


def home_of(cls: type[Defense]) -> Home:
    """Returns where a defense can be tried: the toy network, or the first known backbone and cut that it supports.

    Raises:
        NotApplicable: with the defense's own reason, where there is none.
    """
    reason = cls.supports("toy", "block1")
    if reason is None:
        return Home(ToyNet(), "toy", "block1", SHAPE)
    for entry in BACKBONES.survey():
        if entry.cls is None:
            continue
        backbone = entry.cls(entry.cls.Params(**entry.cls.cheap()))
        for cut in backbone.cuts():
            if cls.supports(entry.name, cut) is None:
                for side in (16, 32, 64, 224):
                    try:
                        backbone.check((3, side, side))
                    except Unsupported:
                        continue
                    return Home(backbone, entry.name, cut, (3, side, side))
    raise NotApplicable(f"no known backbone and cut is supported: {reason}")


def make(cls: type[Any], params: dict[str, Any] | None = None) -> Any:
    """Returns a plugin with its cheap parameters, or the given ones."""
    made = cls(cls.Params(**(cls.cheap() if params is None else params)))
    if issubclass(cls, Defense) and cls is not Defense:
        made.name = cls.__name__  # the framework's messages are to blame the plugin, not what it is derived from
    return made


def parameter_sets(cls: type[Defense]) -> list[dict[str, Any]]:
    """Returns the parameters with which a declaration has to hold: those for tests, the defaults, neutral ones; each once."""
    out: list[dict[str, Any]] = []
    for params in (cls.cheap(), {}, cls.neutral()):
        if params is not None and params not in out:
            out.append(params)
    return out


def defended(defense: Defense, home: Home, seed: int = 0) -> SplitModel:
    """Returns a fresh target: seeded as the framework does it, one seed for the backbone, one for the defense."""
    split = home.split(part("client_train", 8, home.image_shape), seed)
    with seeded_globally(derive("defense init", seed)):
        split = defense.wrap(split)
        defense.prepare(split)
        return SplitModel(split, defense)


def two_steps(model: SplitModel, home: Home, seed: int = 0) -> list[float]:
    """Trains a target for two steps of the shared loop, as a run would, and calibrates it; returns the epoch's losses.

    Where the defense starts from a trained network, that one is trained for two steps first, without it.
    """
    data, val = part("client_train", 16, home.image_shape), part("client_val", 8, home.image_shape)
    given = TrainingParams(epochs=1, batch=8), seed, dict(NAMES), CPU
    frozen: tuple[Half, ...] = ()
    history: dict[str, Any] = {"loss": []}
    if model.defense.usually != "train+infer":
        plain = SplitModel(Split(model.info, model.edge, model.cloud), Defense(Params()))
        history = train(plain, data, val, *given)
        fit_defense(model, data, CPU)
        calibrate(model, data, CPU)
        frozen = ("edge", "cloud")
    if learned(model, frozen):
        history = train(model, data, val, *given, frozen)
        calibrate(model, data, CPU)
    model.eval()
    return history["loss"]


def trained(cls: type[Defense], params: dict[str, Any] | None = None, home: Home | None = None) -> SplitModel:
    """Returns a target of a defense after :func:`two_steps`, in eval mode."""
    home = home or home_of(cls)
    model = defended(make(cls, params), home)
    two_steps(model, home)
    return model


def control_target(
    edge: str | nn.Sequential, defense: Defense | None = None, image_shape: tuple[int, int, int] = SHAPE
) -> SplitModel:
    """Returns a target on a control edge (its name, or a module) with a linear cloud, in eval mode."""
    module = control_edge(edge, image_shape) if isinstance(edge, str) else edge
    defense = defense or Defense(Params())
    info = SplitInfo("control", "edge", image_shape, CLASSES)
    with torch.no_grad():
        size = module(torch.zeros(1, *image_shape)).numel()
    with seeded_globally(derive("control cloud", 0)):
        split = Split(info, module, nn.Sequential(nn.Flatten(), nn.Linear(size, CLASSES)))
        split = defense.wrap(split)
        defense.prepare(split)
        return SplitModel(split, defense).eval()


def toy_target(defense: Defense | None = None, *, vector: bool = False, steps: bool = True) -> SplitModel:
    """Returns a toy target, trained for two steps unless told not to, in eval mode."""
    home = Home(ToyNet(vector=vector), "toy", "block1", SHAPE)
    model = defended(defense or Defense(Params()), home)
    if steps:
        two_steps(model, home)
    return model.eval()
