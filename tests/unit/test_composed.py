"""Defenses one after the other: what can still be read off the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from splitaudit.composed import Composed
from splitaudit.defense import Defense
from splitaudit.defenses.dropout import Dropout, DropoutParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.defenses.nopeek import NoPeek
from splitaudit.params import Params


class Quantised(Defense):
    """Changes what is sent, but does not declare it."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (8 * z).round() / 8 + 1


def visible(*parts: Defense) -> torch.Tensor | None:
    received = torch.tensor([[[[0.0, 2.0], [3.0, 0.0]]]])
    return Composed(list(parts)).visible(received)


def dropout() -> Defense:
    return Dropout(DropoutParams(rate=0.5, rescale=False))


def noise() -> Defense:
    return Noise(NoiseParams(sigma=1.0, distribution="gaussian", relative=True))


@pytest.mark.parametrize("trained_only", [lambda: NoPeek(NoPeek.Params()), lambda: Defense(Params())])
def test_a_mask_stays_visible_behind_parts_that_only_act_in_training(trained_only: Callable[[], Defense]) -> None:
    """Asked of the last part alone, `dropout+nopeek` hid a mask that `nopeek+dropout` shows on the same wire."""
    expected = [[[[False, True], [True, False]]]]
    for parts in ((dropout(), trained_only()), (trained_only(), dropout())):
        mask = visible(*parts)
        assert mask is not None
        assert mask.tolist() == expected


@pytest.mark.parametrize(
    "wire", [lambda: Noise(NoiseParams(sigma=1.0, distribution="gaussian", relative=True)), lambda: Quantised(Params())]
)
def test_a_mask_is_not_visible_once_a_later_part_has_changed_the_wire(wire: Callable[[], Defense]) -> None:
    assert visible(dropout(), wire()) is None
    assert visible(dropout(), wire(), NoPeek(NoPeek.Params())) is None


def test_parts_that_never_touch_the_wire_have_no_mask() -> None:
    assert visible(NoPeek(NoPeek.Params()), Defense(Params())) is None
