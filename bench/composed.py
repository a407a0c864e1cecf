"""Several defenses as one, in order: ``nopeek+noise`` is one target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .defense import Course, Defense, Network, NoiseShape
from .guarantee import Guarantee, strongest
from .params import Params
from .split import Split


def parts_of(defense: Defense) -> list[Defense]:
    """Returns the parts of a defense in the order in which they act; one that is not composed is its only part."""
    return list(defense._each()) if isinstance(defense, Composed) else [defense]


class Composed(Defense):
    """Applies defenses one after the other.

    Each part sees the features as the parts before it leave them. The task loss is that of the part that overrides it;
    :func:`splitaudit.composing.at_odds` refuses two such parts.

    Args:
        parts: at least two defenses.
    """

    def __init__(self, parts: list[Defense]) -> None:
        super().__init__(Params())
        self.parts = nn.ModuleList(parts)
        self.name = "+".join(p.name for p in parts)
        self.helpers = tuple(f"parts.{i}.{h}" for i, p in enumerate(parts) for h in p.helpers)

    def _each(self) -> Iterator[Defense]:
        for part in self.parts:
            if isinstance(part, Defense):
                yield part

    @property
    def stochastic(self) -> bool:
        return any(p.stochastic for p in self._each())

    def guarantees(self, notes: Mapping[str, Any], releases: int = 1) -> tuple[Guarantee, ...]:
        # What a part promises of the image that is sent holds in any composition: parts before it work on that image alone,
        # parts after it see only what it sends. Of training images it holds only if no other part learns from them.
        parts = list(self._each())
        found: list[Guarantee] = []
        for part in parts:
            others = [p.name for p in parts if p is not part and _learns(type(p))]
            for g in part.guarantees(notes, releases):
                void = g.about == "training image" and others
                found.append(g.void(f"{' and '.join(others)} takes statistics of them without noise") if void else g)
        return strongest(found)

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        for part in self._each():
            feature_shape = part.wire_shape(feature_shape)
        return feature_shape

    def wrap(self, split: Split) -> Split:
        for part in self._each():
            split = part.wrap(split)
        return split

    def obstacle(self, split: Split, images: int) -> str | None:
        shape = split.feature_shape()
        for part in self._each():
            reason = part.obstacle(replace(split, received=shape), images)
            if reason:
                return reason
            shape = part.wire_shape(shape)
        return None

    def prepare(self, split: Split) -> None:
        shape = split.feature_shape()
        for part in self._each():
            part.prepare(replace(split, received=shape))
            shape = part.wire_shape(shape)

    @contextmanager
    def during(self, course: Course) -> Iterator[torch.optim.Optimizer]:
        with ExitStack() as parts:
            for part in self._each():
                course = replace(course, optimizer=parts.enter_context(part.during(course)))
            yield course.optimizer

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for part in self._each():
            if part.replaces_task_loss:
                return part.task_loss(logits, y)
        return super().task_loss(logits, y)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        total: torch.Tensor | None = None
        for part, stage in zip(self._each(), self._stages, strict=True):
            loss = part.extra_loss(x, stage, y, logits)
            if loss is not None:
                total = loss if total is None else total + loss
        return total

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        for part, stage in zip(self._each(), self._stages, strict=True):
            part.train_helpers(x, stage.detach(), y)

    def fit(self, network: Network) -> None:
        # A later part is fitted to what the earlier parts send once they are fitted and calibrated: calibrated noise, say.
        for i, part in enumerate(self._each()):
            edge = _Stage(network.edge, list(self._each())[:i])
            part.fit(Network(edge, network.cloud, network.images))
            self._calibrate(part, _Stage(network.edge, list(self._each())[:i]), network)

    def _calibrate(self, part: Defense, edge: Callable[[torch.Tensor], torch.Tensor], network: Network) -> None:
        def features() -> Iterator[torch.Tensor]:
            with torch.no_grad():
                for x in network.images():
                    yield edge(x)

        part.calibrate(features)

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        # A later part is calibrated on what the earlier, already calibrated parts send. Their randomness is drawn from
        # a generator of its own with a fixed seed: calibration has to be repeatable.
        def through(count: int) -> Callable[[], Iterator[torch.Tensor]]:
            def batches() -> Iterator[torch.Tensor]:
                generator: torch.Generator | None = None
                for z in features():
                    if generator is None:
                        generator = torch.Generator(device=z.device).manual_seed(0)
                    for part in list(self._each())[:count]:
                        z = part.protect(z, generator)
                    yield z

            return batches

        for i, part in enumerate(self._each()):
            part.calibrate(through(i))

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        stages = []
        for part in self._each():
            stages.append(z)
            z = part.protect(z, generator)
        self._stages = stages if self.training else []
        return z

    _stages: list[torch.Tensor]

    def lift(self, sent: torch.Tensor) -> torch.Tensor:
        for part in reversed(list(self._each())):
            sent = part.lift(sent)
        return sent

    def wire_bits(self, feature_shape: tuple[int, ...]) -> int:
        # What a part saves is lost again behind one that changes the wire; what sends fewer numbers saves for all.
        bits = super().wire_bits(feature_shape)
        for part in self._each():
            if not part.leaves_wire:
                bits = part.wire_bits(feature_shape)
            feature_shape = part.wire_shape(feature_shape)
        return bits

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        # Only the mask of the last part that acts on the wire can be read off it: what an earlier one zeroed may have been
        # refilled. Parts after it that act on training alone (nopeek, adversarial) leave the wire as it is.
        _, head, noises = self._read()
        return None if head is None or noises else head.visible(received)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        before, head, noises = self._read()
        if head is None:
            return z if noises else None
        # A mask without chance chooses by the noise before it, too: what it shows is no mean of all draws.
        if not head.stochastic and any(part.stochastic for part in before):
            return None
        for part in before:
            z = part.protect(z, generator)
        mean = head.expectation(z, generator)
        if noises and not head.stochastic:
            # What is sent is the mean, and what it hides of a guess is hidden: the noise does not show a mask without chance.
            sent = head.protect(z, generator)
            return sent if mean is None or head.visible(sent.detach()) is not None else mean
        return head.protect(z, generator) if noises and mean is None else mean

    def covered(self, z: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
        before, head, noises = self._read()
        if head is None or not noises or not head.stochastic:
            return None
        for part in before:
            z = part.protect(z, generator)
        sent = head.protect(z, generator)
        seen = head.visible(sent)
        if seen is None or head.expectation(z, generator) is None:
            return None
        for part in noises:
            sent = part.protect(sent, generator)
        return sent, seen

    def ceiling(self, received: torch.Tensor) -> torch.Tensor | None:
        _, head, noises = self._read()
        return None if head is None or noises else head.ceiling(received)

    def patterns(self) -> torch.Tensor | None:
        _, head, _ = self._read()
        return None if head is None else head.patterns()

    @property
    def noise_shape(self) -> NoiseShape:
        # A sum of several noises is nearer to a Gaussian, and so is what a later part mixes.
        acting = self._acting()
        alone = acting and not any(part.stochastic for part in acting[:-1])
        return acting[-1].noise_shape if alone else "gaussian"

    @property
    def leaves_wire(self) -> bool:
        return not self._acting()

    def _acting(self) -> list[Defense]:
        """Returns the parts that change what is sent."""
        return [p for p in self._each() if not p.leaves_wire]

    def _read(self) -> tuple[list[Defense], Defense | None, list[Defense]]:
        """Returns the last part that does more than to add noise (None: no part does), between those before and after it."""
        acting = self._acting()
        at = next((i for i in reversed(range(len(acting))) if not acting[i].additive), None)
        return (acting[:at], acting[at], acting[at + 1 :]) if at is not None else ([], None, acting)


def _learns(cls: type[Defense]) -> bool:
    """Says whether a part may take something from the features of client_train besides its gradients."""
    return cls.calibrate is not Defense.calibrate or cls.fit is not Defense.fit


class _Stage:
    """The features that a part of a composition receives: those of an edge, through the parts before it.

    Their randomness comes from one stream that begins with the stage, so that it can be repeated and no two batches meet the
    same draws.

    Args:
        edge: images to clean features.
        before: the parts that act before.
    """

    def __init__(self, edge: Callable[[torch.Tensor], torch.Tensor], before: list[Defense]) -> None:
        self.edge, self.before = edge, before
        self.draws: torch.Generator | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        z = self.edge(x)
        self.draws = self.draws or torch.Generator(device=z.device).manual_seed(0)
        for part in self.before:
            z = part.protect(z, self.draws)
        return z
