"""A defense whose gradient is zero everywhere is attacked through the identity's."""

from __future__ import annotations

import pytest
import torch

from splitaudit.attack import Attack
from splitaudit.attacks.refine import Refine
from splitaudit.attacks.rmle import Rmle
from splitaudit.composed import Composed
from splitaudit.defense import Defense
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.params import Params
from splitaudit.straight import pass_gradients
from splitaudit.testing import attacked, control_target, toy_target

GENERATOR = torch.Generator().manual_seed(0)


class Rounded(Defense):
    """Sends multiples of a step."""

    acts_on_wire = True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z / 0.25).round() * 0.25


class Swapped(Defense):
    """Sends the channels in the opposite order and upside down."""

    acts_on_wire = True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return -z.flip(1)


class Counted(Defense):
    """Rounds what is left of the first channel, without a gradient."""

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *feature_shape[1:])

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z[:, :1].round()


@pytest.mark.parametrize("attack", [Rmle, Refine])
@pytest.mark.parametrize("parts", [[Rounded], [Swapped, Rounded], [Rounded, Swapped]], ids=["alone", "after", "before"])
def test_rounding_does_not_stop_a_descent(attack: type[Attack], parts: list[type[Defense]]) -> None:
    """Without a gradient rmle stays at its start (in part of the cases it cannot even begin)."""
    target = toy_target(Composed([p(Params()) for p in parts])) if len(parts) > 1 else toy_target(parts[0](Params()))
    run = attacked(attack, target)
    descent = next(c for v in run.views[::-1] for n, c in v.curves.items() if n == "loss")
    assert min(value for _, value in descent) < 0.7 * descent[0][1]


def gradient_of(*parts: Defense) -> torch.Tensor:
    model = pass_gradients(control_target("identity", Composed(list(parts)) if len(parts) > 1 else parts[0]))
    z = torch.randn(2, *model.feature_shape, generator=GENERATOR).requires_grad_(True)
    weights = torch.arange(z[0].numel()).reshape(z[0].shape).float()
    (found,) = torch.autograd.grad((model.protect(z, torch.Generator().manual_seed(0)) * weights).sum(), z)
    return found / weights.clamp_min(1)


def test_the_gradient_of_rounding_is_the_identitys_and_others_are_left_alone() -> None:
    plain = gradient_of(Rounded(Params()))
    assert float(plain.flatten(1)[:, 1:].min()) == float(plain.max()) == 1
    turned = gradient_of(Swapped(Params()))
    for parts in ([Swapped, Rounded], [Rounded, Swapped]):
        torch.testing.assert_close(gradient_of(*(p(Params()) for p in parts)), turned)


def test_the_values_and_the_randomness_are_those_of_the_defense() -> None:
    parts: list[Defense] = [Rounded(Params()), Noise(NoiseParams(sigma=0.5))]
    model = control_target("identity", Composed(parts))
    z = torch.randn(4, *model.feature_shape, generator=GENERATOR)
    plain = model.protect(z, torch.Generator().manual_seed(7))
    passed = pass_gradients(model).protect(z.clone().requires_grad_(True), torch.Generator().manual_seed(7))
    torch.testing.assert_close(passed.detach(), plain, atol=1e-6, rtol=0)


def test_where_the_identity_cannot_stand_in_the_message_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="straight-through gradient of its own"):
        attacked(Rmle, control_target("orthogonal", Counted(Params())), params={"steps": 5})
