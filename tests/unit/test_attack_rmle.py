"""White-box inversion where a naive loss is misled."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from splitaudit.attacks import _descent
from splitaudit.attacks._budgets import Budget
from splitaudit.attacks._descent import descend
from splitaudit.attacks._whitening import Whitening, whitening
from splitaudit.attacks.rmle import Rmle
from splitaudit.defense import Defense
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import ENOUGH
from splitaudit.params import Params
from splitaudit.testing import attacked, control_edge, control_target, toy_target
from splitaudit.testing.attacking import HalfTheChannels, ScaledWire, Sizes
from splitaudit.testing.data import SHAPE, part
from splitaudit.view import View

NO_AUX = AdversaryKnowledge(edge="weights")
QUICK = {"steps": 20, "gaussian": 0.03}


class Noisy(Defense):
    """Adds the same small noise to every element."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + 0.2 * torch.empty_like(z).normal_(generator=generator)


class Turned(Defense):
    """Sends the channels in another order and upside down: nothing is lost, but nothing is where it was."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return -z.roll(5, 1)


class Masked(Defense):
    """Zeroes half of the elements, for all to see."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z * (torch.empty_like(z).uniform_(generator=generator) >= 0.5)

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received != 0


class Dimmed(nn.Module):
    """Leaves next to nothing of every other channel, as a bottleneck's unused channels."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        share = torch.ones(z.shape[1], device=z.device)
        share[::2] = 1e-3
        return z * share[:, None, None]


def leakage(target: Any, adaptive: bool = True, **params: Any) -> float:
    return attacked(Rmle, target, params={**QUICK, **params}, adaptive=adaptive).leakage()


def test_channels_of_noise_alone_do_not_drown_the_others() -> None:
    """Normalised by the clean features' deviation, their errors weigh a million times the rest (leakage below -3)."""
    edge = nn.Sequential(*control_edge("orthogonal", SHAPE), Dimmed())
    run = attacked(Rmle, control_target(edge, Noisy(Params())))
    assert run.leakage() > 0.8


@pytest.mark.parametrize("made", [lambda d: control_target("orthogonal", d), toy_target], ids=["orthogonal", "toy net"])
def test_the_scale_of_the_wire_changes_nothing(made: Any) -> None:
    """Without normalisation the prior outweighs features of a thousandth of their scale."""
    plain = leakage(made(ScaledWire(1.0)))
    assert plain > 0.5
    assert [leakage(made(ScaledWire(factor))) for factor in (1e-3, 1e3)] == pytest.approx([plain] * 2, abs=0.01)


def test_a_wire_of_half_the_channels_is_attacked_in_its_own_shape() -> None:
    """The mean over draws had the shape of the edge's output."""
    run = attacked(Rmle, control_target("orthogonal", HalfTheChannels(Params())), params=QUICK)
    assert run.leakage() > 0.5


def test_the_defense_is_part_of_the_loss() -> None:
    target = control_target("orthogonal", Turned(Params()))
    assert leakage(target) > 0.8
    assert leakage(target, adaptive=False) < 0.3


def test_what_is_visibly_masked_is_no_evidence() -> None:
    assert leakage(control_target("orthogonal", Masked(Params())), steps=60) > 0.8


def test_a_guess_does_not_depend_on_the_other_private_images() -> None:
    """A stop by the mean loss of all images ended a hard image's descent when the others had settled."""
    images = part("private", 8)
    both, alone = (attacked(Rmle, params=QUICK, private=p).guess for p in (images, images.first(4)))
    torch.testing.assert_close(both[:4], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("knowledge", [None, NO_AUX], ids=["auxiliary images", "none"])
@pytest.mark.parametrize(("optimiser", "short", "long"), [("lbfgs", 4, 150), ("adam", 10, 300)])
def test_a_short_run_has_not_converged_and_a_long_one_has(
    optimiser: str, short: int, long: int, knowledge: AdversaryKnowledge | None
) -> None:
    """A learning rate that has decayed to zero keeps any loss flat at the end."""
    runs = {
        steps: attacked(
            Rmle,
            "orthogonal",
            knowledge=knowledge,
            params={"steps": steps, "gaussian": 0.03, "optimiser": optimiser},
            sizes=Sizes(private=4),
        )
        for steps in (short, long)
    }
    notes = {steps: run.views[0].notes for steps, run in runs.items()}
    assert {steps: n["converged"] for steps, n in notes.items()} == {short: False, long: True}
    assert notes[short]["gain_by_doubling"] > 0.05
    assert runs[long].leakage() > runs[short].leakage()


def test_noise_that_dominates_the_loss_does_not_hide_that_a_run_was_short() -> None:
    """What steps still gain of the image is next to nothing of the whole loss, most of which is noise."""
    target = control_target("orthogonal", Noisy(Params()))
    short, long = (attacked(Rmle, target, params=p) for p in ({"steps": 20, "lr": 0.02}, {"steps": 100}))
    assert long.leakage() > short.leakage() + 0.01
    assert [r.views[0].notes["converged"] for r in (short, long)] == [False, True]


def test_a_single_image_of_vector_features_without_auxiliary_images_is_still_attacked() -> None:
    """The deviation over one image is zero: a scale of 1e-12 made the loss 1e17 and the guess worse than grey."""
    run = attacked(Rmle, toy_target(vector=True), knowledge=NO_AUX, params={"steps": 60}, sizes=Sizes(private=1))
    assert float(run.errors().mean()) < float(run.prior_errors().mean())
    assert run.views[-1].curves["loss"][0][1] < 1e3


def test_the_estimate_counts_as_many_weights_as_are_tried_without_auxiliary_images() -> None:
    tried = [
        attacked(Rmle, "orthogonal", knowledge=k, params={"steps": 2, "optimiser": "lbfgs"}).views[0].notes["grid"]
        for k in (NO_AUX, AdversaryKnowledge(edge="weights", aux="same"))
    ]
    attack = Rmle(Rmle.Params(steps=2, optimiser="lbfgs"))
    # No private image and no start by ridge regression: what is left are the trials, and as many again at half the budget.
    blind, aided = (attack.work(0, n, SHAPE, SHAPE).edge_passes - 2 * n for n in (0, 64))
    per_weight = (blind - aided) / (len(tried[0]) - len(tried[1]))
    assert len(tried[0]) > len(tried[1])
    assert blind == pytest.approx(per_weight * (len(tried[0]) + 0.5))


def test_the_stored_fit_is_of_the_size_of_some_images() -> None:
    """The ridge map alone took 50 MB for each target at 32 px."""
    fitted = attacked_fit((3, 32, 32))
    assert sum(v.numel() * v.element_size() for v in fitted.values()) < 100_000


def attacked_fit(shape: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    kept: list[dict[str, torch.Tensor]] = []

    class Keeps(Rmle):
        def reconstruct(self, view: Any, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
            kept.append(fitted)
            return view.prior.expand(len(view), *view.image_shape)

    attacked(Keeps, "orthogonal", params=QUICK, image_shape=shape)
    return kept[0]


class Sent:
    """A stand-in for the view: features are the given ones with noise of its own on each channel."""

    def __init__(self, z: torch.Tensor, noise: torch.Tensor, masked: bool = False) -> None:
        self.z, self.noise, self.masked = z, noise, masked
        self.knowledge = NO_AUX
        self.patterns = None
        self.noise_shape, self.clean_shape, self.device = "gaussian", tuple(z.shape[1:]), z.device

    def edge(self, x: torch.Tensor) -> torch.Tensor:
        return self.z[: len(x)]

    def generator(self, role: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(role))

    def protect(self, z: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        sent = z + mixed(torch.randn(z.shape, generator=g), self.noise)
        return sent * (torch.rand(z.shape, generator=g) < 0.5) if self.masked else sent

    def averaged(self, draws: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(draws).mean(0)

    def visible(self, z: torch.Tensor) -> torch.Tensor | None:
        return z != 0 if self.masked else None

    def covered(self, z: torch.Tensor, g: torch.Generator) -> None:
        return None

    def unit(self) -> Whitening:
        return whitening(cast(View, self), torch.zeros(len(self.z), 1, 1, 1), "draws")


FEATURES = (
    torch.randn(60, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 4.0])[:, None, None]
)
SILENT, TURN = torch.zeros(3, 3), torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]


def mixed(z: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return z @ matrix.T if z.ndim == 3 else torch.einsum("dc,nc...->nd...", matrix, z)


turned = mixed


def counted(unit: Whitening, error: torch.Tensor) -> torch.Tensor:
    return unit(error).square().flatten(1).sum(1)


@pytest.mark.parametrize(
    "matrix", [TURN, 1e3 * torch.eye(3), 1e-3 * TURN, torch.diag(torch.tensor([1.0, 0.3, 2.0])) @ TURN]
)
def test_an_error_counts_alike_whatever_is_done_to_the_channels(matrix: torch.Tensor) -> None:
    """Fails for one figure for all channels (the last matrix) and for a scale per channel (every rotation)."""
    error = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    plain = counted(Sent(FEATURES, SILENT).unit(), error)
    other = counted(Sent(turned(FEATURES, matrix), SILENT).unit(), turned(error, matrix))
    torch.testing.assert_close(other, plain, rtol=0.02, atol=0)


@pytest.mark.parametrize("matrix", [torch.eye(3), TURN])
def test_a_direction_counts_by_the_noise_on_it(matrix: torch.Tensor) -> None:
    noise = matrix @ torch.diag(torch.tensor([4.0, 2.0, 1.0]))
    unit = Sent(turned(FEATURES, matrix), noise).unit()
    error = turned(torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8), matrix)
    found = counted(unit, error)
    torch.testing.assert_close(found / found[0], torch.tensor([1.0, 4.0, 16.0]), rtol=0.15, atol=0)


def test_channels_behind_a_visible_mask_are_not_mixed_and_the_mask_is_no_noise() -> None:
    unit = Sent(FEATURES, SILENT, masked=True).unit()
    assert unit.matrix.ndim == 1
    torch.testing.assert_close(unit.matrix / unit.matrix[0], torch.tensor([1.0, 0.5, 0.25]), rtol=0.1, atol=0)


def test_a_nearly_dead_channel_does_not_drown_the_others() -> None:
    dead = FEATURES * torch.tensor([1.0, 1.0, 1e-6])[:, None, None]
    weight = Sent(dead, SILENT).unit().matrix.diagonal()
    assert float(weight[2] / weight[0]) < 20


def test_a_loud_channel_does_not_hide_the_others() -> None:
    """Fails for a floor that follows the mean: a wire with one channel of 1e4 passed for protected."""
    loud = torch.diag(torch.tensor([1e4, 1.0, 1.0]))
    error = torch.eye(3)[1:, :, None, None].expand(2, 3, 8, 8)
    plain, found = (
        counted(Sent(FEATURES, SILENT).unit(), error),
        counted(Sent(turned(FEATURES, loud), SILENT).unit(), error),
    )
    assert float((found / plain).min()) > 0.2


def test_tokens_and_tiny_or_huge_features_are_whitened_alike() -> None:
    rows = torch.randn(40, 16, 3, generator=torch.Generator().manual_seed(3)) @ torch.tensor(
        [[1.0, 2, 0], [0, 1, 0], [0, 0, 3]]
    )
    plain = Sent(rows, SILENT).unit()
    assert plain.matrix.ndim == 2
    white = plain(rows).flatten(0, 1)
    torch.testing.assert_close(white.T.cov(), torch.eye(3), atol=0.15, rtol=0)
    for factor in (1e-12, 1e10):
        torch.testing.assert_close(Sent(factor * rows, SILENT).unit()(factor * rows), plain(rows), rtol=1e-3, atol=1e-3)


def test_features_that_never_vary_are_counted_by_their_size() -> None:
    many = Sent(torch.full((50, 3, 4, 4), 0.1), SILENT).unit()  # their computed variance is not quite zero
    assert float(many(torch.ones(1, 3, 4, 4)).mean()) == pytest.approx(10, rel=1e-4)
    constant = Sent(torch.tensor([[3.0, -4.0]]), torch.zeros(2, 2)).unit()
    assert constant(torch.ones(1, 2)).flatten().tolist() == pytest.approx([12.5**-0.5] * 2)
    assert Sent(torch.zeros(5, 3), SILENT).unit()(torch.ones(1, 3)).tolist() == [[1.0] * 3]


class Valley:
    """A stand-in for the objective: |w| in each coefficient, with a random part where it is noisy."""

    def __init__(self, noisy: bool) -> None:
        self.noisy = noisy
        self.losses: list[torch.Tensor] = []
        self.drawn: list[float] = []
        self.draws: list[int | None] = []

    def visible(self, z: torch.Tensor) -> None:
        return None

    def __call__(
        self, w: torch.Tensor, z: Any, weight: Any, visible: Any, g: torch.Generator, draws: Any = None
    ) -> torch.Tensor:
        loss = w.abs().flatten(1).mean(1)
        self.draws.append(draws)
        if self.noisy:
            noise = torch.rand(len(w), generator=g)
            self.drawn.append(float(noise[0]))
            loss = loss + noise
        self.losses.append(loss.detach())
        return loss


def descent(valley: Valley, start: torch.Tensor) -> Any:
    def generators(role: str) -> torch.Generator:
        return torch.Generator().manual_seed({"wire": 1, "judge": 2}[role])

    nothing = torch.zeros(len(start))
    budget = Budget(5, 0.5)
    return descend(valley, nothing, start, nothing, budget, generators, lambda step, total: None)  # pyright: ignore


def test_each_image_keeps_its_best_iterate() -> None:
    """Steps of half a unit overshoot a minimum that one image starts at and another has far to go to."""
    valley = Valley(noisy=False)
    found = descent(valley, torch.tensor([0.01, 3.0])[:, None, None, None])
    torch.testing.assert_close(found.loss, torch.stack(valley.losses).amin(0))
    torch.testing.assert_close(found.w.abs().flatten(1).mean(1), found.loss)
    assert float(found.loss[0]) <= 0.01 + 1e-6


def test_under_a_random_defense_iterates_are_compared_on_the_same_draws() -> None:
    valley = Valley(noisy=True)
    found = descent(valley, torch.tensor([0.01, 3.0])[:, None, None, None])
    draws = torch.rand(2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(found.loss - draws, found.w.abs().flatten(1).mean(1))
    assert float(found.w[0].abs()) <= 0.01 + 1e-6
    assert float(found.w[1].abs()) < 2.5


def test_of_several_starts_each_image_keeps_the_best_as_judged_on_the_same_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Draws of its own for each start would let luck choose between them."""
    starts: list[tuple[int, int, torch.Tensor]] = []
    kept: list[torch.Tensor] = []

    def spied(*args: Any) -> Any:
        found = descend(*args)
        judge, wire = (args[5](role).initial_seed() for role in ("judge", "wire"))
        starts.append((judge, wire, found.loss))
        return found

    optimise = Rmle._optimise

    def noted(self: Rmle, *args: Any) -> Any:
        found = optimise(self, *args)
        kept.append(found.loss)
        return found

    monkeypatch.setattr("splitaudit.attacks.rmle.descend", spied)
    monkeypatch.setattr(Rmle, "_optimise", noted)
    leakage(control_target("orthogonal", Noisy(Params())), restarts=3)
    judges, wires, losses = zip(*starts[-3:], strict=True)
    assert len(set(judges)) == 1
    assert len(set(wires)) == 3
    assert torch.equal(kept[-1], torch.stack(losses).amin(0))
    assert not torch.equal(losses[0], losses[1])


def test_every_step_under_a_random_defense_has_fresh_draws() -> None:
    """With the same draws at every step the guess fits their noise."""
    valley = Valley(noisy=True)
    descent(valley, torch.tensor([1.0, 3.0])[:, None, None, None])
    steps, judge = 5, 1
    assert len(set(valley.drawn)) == steps + judge


class Shaken:
    """A stand-in for the objective: a parabola at 1 whose place every step's draw shifts, but not that of a judge."""

    noisy = True

    def __init__(self) -> None:
        self.draws: list[int | None] = []

    def visible(self, z: torch.Tensor) -> None:
        return None

    def __call__(
        self, w: torch.Tensor, z: Any, weight: Any, visible: Any, g: torch.Generator, draws: int | None = None
    ) -> torch.Tensor:
        self.draws.append(draws)
        shift = 2 * torch.randn(w.shape, generator=g) if draws is None else 0.0
        return (w - 1 - shift).square().flatten(1).mean(1)


def test_a_running_mean_of_iterates_leaves_out_what_the_draws_of_single_steps_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def error(share: float) -> float:
        monkeypatch.setattr(_descent, "SHARE", share)
        shaken, start, nothing = Shaken(), torch.zeros(50, 1, 4, 4), torch.zeros(50)

        def generators(role: str) -> torch.Generator:
            return torch.Generator().manual_seed({"wire": 1, "judge": 2}[role])

        budget = Budget(80, 0.2)
        found = descend(shaken, nothing, start, nothing, budget, generators, lambda step, total: None)  # pyright: ignore
        assert set(shaken.draws) == {None, _descent.JUDGE}
        return float((found.w - 1).square().mean())

    assert error(0.05) < 0.95 * error(1.0)


def test_without_images_of_its_own_the_prior_weighs_more_the_more_noise_there_is() -> None:
    """A weight that is fixed for a clean edge fits the noise: the defense would seem to stop whoever has no images."""
    weights, leakage = [], {}
    for sigma in (0.0, 2.0):
        target = toy_target(Noise(NoiseParams(sigma=sigma)))
        run = attacked(Rmle, target, knowledge=NO_AUX, params={"steps": 60, "optimiser": "lbfgs"})
        weights.append(run.views[-1].notes["prior_weight"])
        leakage[sigma] = run.leakage()
    fixed = attacked(Rmle, target, knowledge=NO_AUX, params={"steps": 60, "optimiser": "lbfgs", "gaussian": 0.03})
    assert weights[1] > 3 * weights[0]
    assert leakage[2.0] > fixed.leakage() + 0.02


def test_a_full_covariance_is_only_of_images_like_the_private_ones() -> None:
    """It forbids what the attacker's images lack, which other images may well show."""
    shape, sizes = (1, 4, 4), Sizes(private=4, aux_train=ENOUGH * 16, aux_val=32)
    for aux, full in (("same", True), ("other", False)):
        knowledge = AdversaryKnowledge(edge="weights", aux=aux)
        run = attacked(Rmle, "identity", knowledge=knowledge, params={"steps": 5}, sizes=sizes, image_shape=shape)
        curves = {name for view in run.views for name in view.curves}
        assert any(name.startswith("fine_calibration") for name in curves) is full
