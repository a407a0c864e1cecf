"""A defense whose gradient says nothing of what it does is attacked through a straight line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from splitaudit import view
from splitaudit.attack import Attack
from splitaudit.attacks.refine import Refine
from splitaudit.attacks.rmle import Rmle
from splitaudit.attacks.unsplit import Unsplit
from splitaudit.composed import Composed
from splitaudit.defense import Defense
from splitaudit.defenses.dropout import Dropout, DropoutParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.knowledge import level
from splitaudit.params import Params
from splitaudit.split import Split, SplitInfo, SplitModel
from splitaudit.straight import AGAIN, StraightThrough, pass_gradients
from splitaudit.testing import attacked, control_target, toy_target
from splitaudit.testing.data import SHAPE

GENERATOR = torch.Generator().manual_seed(0)


class Rounded(Defense):
    """Sends multiples of a step."""

    acts_on_wire = True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z / 0.25).round() * 0.25


class ByTheLargest(Defense):
    """Sends 4 bits, their step following the largest feature of an image: the only one with a gradient."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        step = z.abs().amax((1, 2, 3), keepdim=True) / 7
        return (z / step).round() * step


class Upside(Defense):
    """Turns the channels upside down and into another order, and rounds."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (-z.flip(1) / 0.25).round() * 0.25


class Codes(Defense):
    """Sends integers."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z / 0.02).round()


class Sparse(Defense):
    """Drops elements and rounds the others."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return ((z / 0.1).round() * 0.1 + 0.05) * (torch.empty_like(z).uniform_(generator=generator) >= 0.7)

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received != 0


class Swapped(Defense):
    """Sends the channels in the opposite order and upside down."""

    acts_on_wire = True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return -z.flip(1)


class Halved(Defense):
    """Sends half of the channels, rounded."""

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (feature_shape[0] // 2, *feature_shape[1:])

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z[:, ::2] / 0.25).round()


class Hashed(Defense):
    """Sends what no line explains."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (1000 * z).round() % 2


BLIND = level("white-box-no-aux")
MORE: dict[type[Attack], dict[str, int]] = {
    Rmle: {"steps": 40},
    Unsplit: {"rounds": 20, "image_steps": 10, "edge_steps": 5},
}


def made(*parts: type[Defense]) -> Defense:
    return Composed([p(Params()) for p in parts]) if len(parts) > 1 else parts[0](Params())


ROUNDINGS: list[list[type[Defense]]] = [
    [Rounded], [Swapped, Rounded], [Rounded, Swapped], [ByTheLargest], [Upside], [Codes], [Sparse], [Halved]
]  # fmt: skip
OFTEN = ([Rounded], [Swapped, Rounded])


@pytest.mark.parametrize(
    ("attack", "parts"),
    [
        *(pytest.param(Rmle, r, marks=pytest.mark.full if r in OFTEN else pytest.mark.slow) for r in ROUNDINGS),
        *(pytest.param(Refine, [r], marks=pytest.mark.slow) for r in (Rounded, Codes)),
    ],
    ids=lambda value: "+".join(p.__name__ for p in value) if isinstance(value, list) else value.__name__,
)
def test_rounding_does_not_stop_a_descent(
    attack: type[Attack], parts: list[type[Defense]], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, params = control_target("orthogonal", made(*parts)), {**attack.cheap(), "steps": 200, "optimiser": "auto"}
    through = attacked(attack, target, params=params).leakage()
    monkeypatch.setattr(view, "pass_gradients", lambda model, *_, **__: model)
    try:
        blocked = attacked(attack, target, params=params).leakage()
    except RuntimeError:  # there is no gradient at all
        blocked = 0.0
    assert through > blocked + 0.3 * (1 - blocked)


@pytest.mark.parametrize("attack", [Rmle, pytest.param(Unsplit, marks=pytest.mark.full)])
@pytest.mark.parametrize(
    "edge", ["orthogonal", pytest.param("linear", marks=pytest.mark.full), pytest.param("toy", marks=pytest.mark.full)]
)
def test_guesses_that_all_begin_alike_do_not_blind_the_straight_line(attack: type[Attack], edge: str) -> None:
    """No line can be fitted to features that are all the same: without auxiliary images the first guess is one grey image."""

    def leakage(defense: Defense) -> float:
        target = toy_target(defense) if edge == "toy" else control_target(edge, defense)
        return attacked(attack, target, params={**attack.cheap(), **MORE[attack]}, knowledge=BLIND).leakage()

    plain, rounded = leakage(Defense(Params())), leakage(Rounded(Params()))
    assert rounded > plain - max(0.15, 0.5 * plain), (plain, rounded)


def test_an_edge_that_is_being_trained_is_looked_at_again() -> None:
    """The slope on an untrained edge is not that on a trained one, whose features may lie on other steps."""
    model = pass_gradients(control_target("identity", Codes(Params())), again=True)
    part = model.defense.protect
    assert isinstance(part, StraightThrough)
    z = torch.rand(4, *model.feature_shape).requires_grad_(True)
    model.protect(z, seeded())
    first = part._line
    assert first is not None
    for _ in range(AGAIN):
        model.protect(z, seeded())
    assert part._line is not None
    assert part._line is not first
    once = pass_gradients(control_target("identity", Codes(Params()))).defense.protect
    assert isinstance(once, StraightThrough)
    assert not once._again


class Scrambled(Defense):
    """Sends integers, and from a moment on signs that no straight line follows."""

    scrambles = False

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (1000 * z).sin().sign() if self.scrambles else (z / 0.02).round()


def test_the_last_line_stays_where_an_edge_in_training_passes_through_a_state_that_none_fits() -> None:
    """The cell of an attack that trains an edge would fail otherwise, after most of its work."""
    defense = Scrambled(Params())
    part = pass_gradients(control_target("identity", defense), again=True).defense.protect
    assert isinstance(part, StraightThrough)
    z = torch.rand(4, *SHAPE).requires_grad_(True)
    part(z, seeded())
    first = part._line
    defense.scrambles = True
    for _ in range(AGAIN):
        part(z, seeded())
    assert first is not None
    assert part._line is first
    fresh = Scrambled(Params())
    fresh.scrambles = True
    with pytest.raises(ValueError, match="no line between channels stands in for it"):
        pass_gradients(control_target("identity", fresh), again=True).protect(z, seeded())


def test_a_look_leaves_modes_and_statistics_of_the_edge_alone() -> None:
    model = toy_target(Rounded(Params())).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pass_gradients(model, again=True).protect(
        model.clean(torch.rand(4, *SHAPE)).detach().requires_grad_(True), seeded()
    )
    moved = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    assert all("running" in k or "num_batches" in k for k in moved), (
        "the one forward pass of the test moves those alone"
    )
    assert all(m.training for m in model.modules())


def gradient_of(*parts: Defense) -> torch.Tensor:
    model = pass_gradients(control_target("orthogonal", Composed(list(parts)) if len(parts) > 1 else parts[0]))
    z = torch.randn(20, *model.feature_shape, generator=GENERATOR).requires_grad_(True)
    weights = torch.randn(*model.feature_shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((model.protect(z, torch.Generator().manual_seed(0)) * weights).sum(), z)
    return found


def test_the_gradient_of_rounding_is_a_lines_and_others_are_left_alone() -> None:
    plain, turned = (gradient_of(p) for p in (Defense(Params()), Swapped(Params())))
    assert cosine(gradient_of(Rounded(Params())), plain) > 0.999
    assert torch.equal(gradient_of(Swapped(Params())), turned)
    for parts in ([Swapped, Rounded], [Rounded, Swapped], [Upside]):
        assert cosine(gradient_of(made(*parts)), turned) > 0.95
    torch.testing.assert_close(gradient_of(Codes(Params())), 50 * plain, rtol=0.05, atol=0.1)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize(
    "defense", [Noise(NoiseParams(sigma=0.5)), Dropout(DropoutParams(rate=0.8)), Swapped(Params())]
)
def test_a_gradient_of_its_own_is_left_alone(defense: Defense) -> None:
    model = control_target("orthogonal", defense)
    z = torch.randn(8, *model.feature_shape, generator=GENERATOR)
    given = torch.autograd.grad(model.protect(at := z.clone().requires_grad_(True), seeded()).square().sum(), at)[0]
    passed = pass_gradients(model)
    assert isinstance(passed.defense.protect, StraightThrough)
    found = torch.autograd.grad(passed.protect(at := z.clone().requires_grad_(True), seeded()).square().sum(), at)[0]
    assert torch.equal(found, given)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_the_values_and_the_randomness_are_those_of_the_defense() -> None:
    parts: list[Defense] = [Rounded(Params()), Noise(NoiseParams(sigma=0.5))]
    model = control_target("identity", Composed(parts))
    z = torch.randn(4, *model.feature_shape, generator=GENERATOR)
    plain = model.protect(z, seeded())
    passed = pass_gradients(model).protect(z.clone().requires_grad_(True), seeded())
    torch.testing.assert_close(passed.detach(), plain, atol=1e-6, rtol=0)


def test_where_no_line_fits_the_message_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="straight-through gradient of its own"):
        attacked(Rmle, control_target("orthogonal", Hashed(Params())), params={"steps": 5})


class Scaled(Defense):
    """Rounds tokens, each channel (their last axis) to multiples of a step, and multiplies it by its number."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z / 0.25).round() * 0.25 * torch.arange(1, z.shape[-1] + 1)


def test_the_line_of_tokens_is_that_of_their_channels() -> None:
    """Tokens (N, T, D) have their channels last: a slope for each place would mix channels of every size."""
    info = SplitInfo("toy", "tokens", SHAPE, 2)
    edge = nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (-1, 4)), nn.Flatten(1, 2))  # tokens of four channels
    model = SplitModel(Split(info, edge, nn.Sequential(nn.Flatten())), Scaled(Params()))
    assert len(model.feature_shape) == 2
    z = torch.rand(3, *model.feature_shape).requires_grad_(True)
    pass_gradients(model)
    (found,) = torch.autograd.grad(model.protect(z, seeded()).sum(), z)
    expected = torch.arange(1.0, 5.0).expand_as(found)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.0)
