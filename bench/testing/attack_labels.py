"""Checks of what an attack on labels achieves on control edges: neither too little nor too much."""

from __future__ import annotations

from ..attack import LabelAttack
from ..stats import paired_difference
from .attacking import Attacked, ScaledWire, Sizes, attacked
from .outcome import Check, require, takes_long
from .targets import control_target

SIZES = Sizes(private=64, aux_train=256, aux_val=64)
"""Enough for four classes of toy images to be learned."""

GAIN = 0.2
"""Share of images, over that of the best constant guess, that has to be read rightly where everything is to be seen."""


def check_reads(cls: type[LabelAttack]) -> None:
    """A weak reader flatters every defense: on an undefended, invertible edge it has to see the class."""
    run = attacked(cls, "orthogonal", sizes=SIZES)
    require(
        _gain(run) >= GAIN,
        f"on an undefended orthogonal edge {_shares(run)}",
        f"at least {GAIN:g} more than the best constant guess with the parameters of cheap()",
        "too few epochs in cheap(), or labels that are not in the order of the pairs",
    )


@takes_long
def check_reads_any_scale(cls: type[LabelAttack]) -> None:
    """A defense that multiplies the features by a constant hides nothing: its scale must not pass for privacy."""
    for factor in (1e-3, 1e3):
        run = attacked(cls, control_target("orthogonal", ScaledWire(factor)), sizes=SIZES)
        require(
            _gain(run) >= GAIN,
            f"with the wire multiplied by {factor:g} {_shares(run)}",
            f"at least {GAIN:g} more than the best constant guess with the parameters of cheap(), as without the factor",
            "features are read without regard to the scale of the defended ones",
        )


def check_reads_nothing_from_nothing(cls: type[LabelAttack]) -> None:
    """Features that are the same for every image say nothing: whoever reads more than a constant has looked elsewhere."""
    run = attacked(cls, "constant", sizes=Sizes(private=64))
    gain = paired_difference(run.right().numpy(), run.constant_right().numpy())
    require(
        gain.low <= 0,
        f"on constant features {_shares(run)} (95 % interval of the difference {gain.low:.3f} to {gain.high:.3f})",
        "no better than the best constant guess, up to the interval",
        "the truth reaches the attack by a way around the View",
    )


LABEL_CHECKS: tuple[Check, ...] = (check_reads, check_reads_any_scale, check_reads_nothing_from_nothing)


def _gain(run: Attacked) -> float:
    return float((run.right() - run.constant_right()).mean())


def _shares(run: Attacked) -> str:
    right, constant = float(run.right().mean()), float(run.constant_right().mean())
    return f"a share of {right:.3f} is read rightly, by the best constant guess {constant:.3f}"
