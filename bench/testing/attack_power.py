"""Checks of what an attack achieves on control edges: neither too little nor too much."""

from __future__ import annotations

from functools import lru_cache

import torch

from ..attack import Attack
from ..stats import mean_interval
from .attacking import USUAL, Attacked, ScaledWire, Sizes, attacked, same, usual
from .data import SHAPE, toy_part
from .outcome import Check, NotApplicable, require, takes_long
from .targets import control_target

UNSEEN = 1e-5
"""Mean squared error that counts as none: noise of a quarter of an 8-bit step on the guess moves the mean error of 24 images
by up to half of it, by chance, and with an interval as narrow as that."""

HALF = 0.5
"""Share of the constant guess's error that an attack must stay below where everything is to be seen."""


def check_power(cls: type[Attack]) -> None:
    """A weak attack flatters every defense: on an undefended, invertible edge it has to see the image."""
    if not cls.expected.beats_prior:
        raise NotApplicable("expected.beats_prior is False: the attack is a control")
    run = usual(cls)
    error, constant = float(run.errors().mean()), float(constant_errors(run).mean())
    require(
        error <= HALF * constant,
        f"on an undefended orthogonal edge the mean squared error is {error:.4f}, that of the best constant guess "
        f"{constant:.4f}",
        f"at most {HALF:g} of the constant guess's error with the parameters of cheap()",
        "too few steps in cheap(), a learning rate that does not fit the features' scale, or a bug in the objective",
    )


def check_control_edges_cheaply(cls: type[Attack]) -> None:
    """What an attack declares of itself on invertible edges is what its results are read by; here where seconds do."""
    if not cls.expected.cheap_suffices:
        raise NotApplicable("expected.cheap_suffices is False: check_control_edges asks for what is claimed")
    for edge in _claimed(cls):
        run = usual(cls) if edge == USUAL else attacked(cls, edge)
        _require_claim(cls, edge, run, "the parameters of cheap()")


@takes_long
def check_control_edges(cls: type[Attack]) -> None:
    """What an attack declares of itself on invertible edges is what its results are read by."""
    if cls.expected.cheap_suffices:
        raise NotApplicable("expected.cheap_suffices is True: check_control_edges_cheaply asks for what is claimed")
    for edge in _claimed(cls):
        _require_claim(cls, edge, *at_claim(cls, edge))


@takes_long
def check_wire_scale(cls: type[Attack]) -> None:
    """A defense that multiplies the features by a constant hides nothing: its scale must not pass for privacy."""
    if not cls.expected.beats_prior:
        raise NotApplicable("expected.beats_prior is False: the attack is a control")
    plain = usual(cls)
    if not float(plain.errors().mean()) <= HALF * float(constant_errors(plain).mean()):
        raise NotApplicable("the attack is as weak without the factor: see check_power")
    for factor in (1e-3, 1e3):
        run = attacked(cls, control_target("orthogonal", ScaledWire(factor)))
        error, constant = float(run.errors().mean()), float(constant_errors(run).mean())
        require(
            error <= HALF * constant,
            f"with the wire multiplied by {factor:g} the mean squared error on an orthogonal edge is {error:.4f}, that "
            f"of the best constant guess {constant:.4f}",
            f"at most {HALF:g} of the constant guess's error with the parameters of cheap(), as without the factor",
            "features are compared or read without regard to the scale of the defended ones",
        )


def check_worse_than_prior(cls: type[Attack]) -> None:
    """Where features say nothing the mean auxiliary image is the best guess: who does worse adds what is not there.

    Such an attack makes a good defense look even better: its error rises above that of not looking.
    """
    run = _unshown(cls)
    more = (run.errors() - run.prior_errors()).double()
    if not bool(torch.isfinite(more).all()):
        raise NotApplicable("the guess is not finite: see check_guess_is_finite")
    loss, reason = mean_interval(more.numpy()), cls.expected.worse_than_prior
    found = (
        f"on constant features the error is {loss.value:.2g} above that of the mean auxiliary image "
        f"(95 % interval {loss.low:.2g} to {loss.high:.2g})"
    )
    if reason:
        require(
            loss.low > UNSEEN,
            found,
            f"worse than it, as expected.worse_than_prior says ({reason})",
            "the attack got better: take the reason out",
        )
        return
    require(
        loss.low <= UNSEEN,
        found,
        "no worse than it, up to the interval, with the parameters of cheap()",
        "an optimisation that ends at its random start, or a guess that is not shrunk to the mean as far as the features "
        "are silent; an attack that cannot help it says why in expected.worse_than_prior",
    )


def check_honesty(cls: type[Attack]) -> None:
    """Features that are the same for every image say nothing: whoever sees more than a constant has looked elsewhere.

    The yardstick is the best constant in hindsight, not the mean auxiliary image: among constants another one may be nearer to
    24 private images by luck (toys that see no more than a colour were, beyond the interval), and nobody has cheated.
    """
    run = _unshown(cls)
    better = (constant_errors(run) - run.errors()).double()
    # A guess that is not finite gains nothing; check_guess_is_finite speaks of it.
    gain = mean_interval(torch.where(torch.isfinite(better), better, 0.0).numpy())
    require(
        gain.low <= 0,
        f"on constant features the error is {gain.value:.4f} below that of the best constant guess "
        f"(95 % interval {gain.low:.4f} to {gain.high:.4f})",
        "no better than the best constant guess, up to the interval",
        "the truth reaches the attack by a way around the View",
    )


def check_cannot_peek(cls: type[Attack]) -> None:
    """With equal features, knowledge and seed the guess must be the same, whatever the private images are."""
    first, second = (_blindly(cls, seed) for seed in (10, 11))
    if not same(first, second) and not same(first, _blindly(cls, 10)):
        raise NotApplicable("the guess changes with the private images unchanged too: see check_deterministic")
    require(
        same(first, second),
        "the guess changes with the private images although the received features are the same "
        f"(by up to {float((first - second).abs().max()):.3g})",
        "a guess that depends on the View alone",
        "the attack reaches the private images, for instance through the dataset or a global",
    )


POWER_CHECKS: tuple[Check, ...] = (
    check_power,
    check_control_edges_cheaply,
    check_control_edges,
    check_wire_scale,
    check_worse_than_prior,
    check_honesty,
    check_cannot_peek,
)


def at_claim(cls: type[Attack], edge: str) -> tuple[Attacked, str]:
    """Returns an attack's run on a control edge with the parameters that its claim is for, and these in words."""
    params = dict(cls.expected.control_params.get(edge, {}))
    run = attacked(cls, edge, params=params, sizes=Sizes(private=16, aux_train=512, aux_val=32))
    return run, f"the parameters {params}" if params else "default parameters"


@lru_cache(maxsize=4)
def _unshown(cls: type[Attack]) -> Attacked:
    """Returns the attack's run on features that say nothing; two checks look at the same one."""
    return attacked(cls, "constant", sizes=Sizes(private=24))


def _claimed(cls: type[Attack]) -> list[str]:
    if not cls.expected.control_mse:
        raise NotApplicable("expected.control_mse is empty: nothing is claimed")
    return list(cls.expected.control_mse)


def _require_claim(cls: type[Attack], edge: str, run: Attacked, params: str) -> None:
    error, claim = float(run.errors().mean()), cls.expected.control_mse[edge]
    require(
        error <= claim,
        f"on the control edge {edge} the mean squared error is {error:.3g}",
        f"at most expected.control_mse of {claim:g} with {params}",
        "the attack got weaker, or the claim was never measured",
    )


def _blindly(cls: type[Attack], seed: int) -> torch.Tensor:
    """Returns the guess for other private images behind features that do not depend on them."""
    return attacked(cls, "constant", private=toy_part(6, SHAPE, seed=seed)).guess.detach()


def constant_errors(run: Attacked) -> torch.Tensor:
    """Returns the error of the best constant guess in hindsight, the private images' own mean, (N,)."""
    return (run.truth.mean(0) - run.truth).square().flatten(1).mean(1)
