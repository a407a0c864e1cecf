"""What everybody knows of a target's defense, and may compute with it."""

from __future__ import annotations

from typing import Any

import torch

from .composed import parts_of
from .defense import Defense, NoiseShape
from .split import SplitModel


class PublicDefense:
    """The part of a view that needs no knowledge: the defense is public, its randomness at each use is not.

    A class that has this part gives :attr:`_model`.
    """

    @property
    def _model(self) -> SplitModel:
        raise NotImplementedError

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one image's features on the wire."""
        return tuple(self._model.defense.wire_shape(self._model.feature_shape))

    @property
    def defense_parts(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """The (public) defense: registry name and parameters of each part, in the order in which they act.

        ``(("nopeek", {...}), ("noise", {...}))`` for ``nopeek+noise``, ``(("none", {}),)`` without a defense.
        """
        return tuple((p.name, p.params.dump()) for p in parts_of(self._model.defense))

    @property
    def stochastic(self) -> bool:
        """Whether the (public) defense draws randomness."""
        return self._model.defense.stochastic

    def protect(self, z: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Applies the public defense to features of the attacker's own, with gradient (N, ...).

        A part of the defense whose own gradient says nothing of what it does, as of rounding, passes a straight line's
        (:class:`splitaudit.straight.StraightThrough`).
        """
        return self._model.protect(z, draws)

    def visible(self, z: torch.Tensor) -> torch.Tensor | None:
        """Says which received elements carry the edge's output; None: all."""
        return self._model.defense.visible(z)

    def expectation(self, z: torch.Tensor, draws: torch.Generator) -> torch.Tensor | None:
        """What the (public) defense sends on average for features of the attacker's own; None: not known.

        See :meth:`splitaudit.defense.Defense.expectation`.

        Raises:
            ValueError: if the result is not of the shape of what is sent.
        """
        defense = self._model.defense
        expected = (len(z), *defense.wire_shape(tuple(z.shape[1:])))
        hint = "It is the shape of one image's features on the wire (wire_shape) that counts."
        return _of_shape(defense, "expectation", defense.expectation(z, draws), expected, hint)

    def ceiling(self, z: torch.Tensor) -> torch.Tensor | None:
        """The greatest magnitude that a hidden element of received features may have, (N, 1, ..., 1); None: any.

        Raises:
            ValueError: if the result is of another shape, which would be broadcast over other axes.
        """
        defense, expected = self._model.defense, (len(z), *[1] * (z.ndim - 1))
        hint = "Give one number for each image, with every axis kept (keepdim=True)."
        return _of_shape(defense, "ceiling", defense.ceiling(z), expected, hint)

    def covered(self, z: torch.Tensor, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What the (public) defense sends for features of the attacker's own, and which elements of it carry them (bool).

        None: :meth:`visible` tells. See :meth:`splitaudit.defense.Defense.covered`.
        """
        defense = self._model.defense
        found = defense.covered(z, draws)
        if found is None:
            return None
        shape, hint = (len(z), *defense.wire_shape(tuple(z.shape[1:]))), "Give what is sent, and a mask of its shape."
        for value in found:
            _of_shape(defense, "covered", value, shape, hint)
        return found

    @property
    def clean_shape(self) -> tuple[int, ...]:
        """Shape of one image's features before the defense."""
        return tuple(self._model.feature_shape)

    @property
    def patterns(self) -> torch.Tensor | None:
        """The patterns of which the (public) defense adds one to each image's features, (T, *wire_shape); None: it has none."""
        return self._model.defense.patterns()

    @property
    def noise_shape(self) -> NoiseShape:
        """The distribution of the noise that the (public) defense adds."""
        return self._model.defense.noise_shape

    def averaged(self, draws: list[torch.Tensor]) -> torch.Tensor:
        """Returns the mean of several draws (N, ...), element by element over those that show it.

        An element that no draw shows is as in the first draw.
        """
        if len(draws) == 1:
            return draws[0]
        seen = [self.visible(d) for d in draws]
        if seen[0] is None:
            return torch.stack(draws).mean(0)
        shown = torch.stack([s for s in seen if s is not None])
        total = (torch.stack(draws) * shown).sum(0)
        count = shown.sum(0)
        return torch.where(count > 0, total / count.clamp_min(1), draws[0])


def _of_shape(
    defense: Defense, what: str, got: torch.Tensor | None, expected: tuple[int, ...], hint: str
) -> torch.Tensor | None:
    """Returns what a hook of a defense gave, None or a tensor of the expected shape."""
    if got is None:
        return None
    if not isinstance(got, torch.Tensor):
        raise ValueError(f"defense '{defense.name}': {what} returned {type(got).__name__}, expected a tensor or None")
    if tuple(got.shape) != expected:
        raise ValueError(
            f"defense '{defense.name}': {what} returned shape {tuple(got.shape)}, expected {expected}. {hint}"
        )
    return got
