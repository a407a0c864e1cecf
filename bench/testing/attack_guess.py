"""Checks of the guess itself: its form, for every form of features and images."""

from __future__ import annotations

import torch

from ..attack import Attack, LabelAttack
from ..params import Params
from .attacking import TINY, Attacked, HalfTheChannels, Sizes, attacked, random_defense, same, usual
from .outcome import Check, NotApplicable, require
from .targets import control_target, toy_target


def check_guess_shape(cls: type[Attack]) -> None:
    """A score compares one guess with one image: one of the right form for each received row."""
    _require_form(usual(cls), cls, "")


def check_guess_is_in_range(cls: type[Attack]) -> None:
    """Values outside [0, 1] are clipped before scoring: an attack should know its own range."""
    guess = usual(cls).guess.detach()
    values = guess[torch.isfinite(guess)]  # of the others, check_guess_is_finite speaks
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    require(
        low >= -1e-3 and high <= 1 + 1e-3,
        f"the guess has values from {low:.3g} to {high:.3g}",
        "values in [0, 1]",
        "it is in normalised units, or an optimisation's last image is not clamped",
    )


def check_guess_is_finite(cls: type[Attack]) -> None:
    """A guess that is not finite fails its cell."""
    run = usual(cls)
    bad = int((~torch.isfinite(run.guess)).flatten(1).any(1).sum())
    require(
        bad == 0,
        f"{bad} of {len(run.guess)} guesses hold values that are not finite",
        "finite values",
        "an optimisation that diverged; keep the best image, not the last",
    )


def check_guess_is_detached(cls: type[Attack]) -> None:
    """A guess that drags its graph along keeps the whole optimisation in memory."""
    run = usual(cls)
    require(
        not run.guess.requires_grad,
        "the guess requires a gradient",
        "a detached tensor",
        "the last step is missing torch.no_grad() or .detach()",
    )


def check_deterministic(cls: type[Attack]) -> None:
    """A reviewer who runs a cell again must get the same number."""
    first, again = usual(cls).guess.detach(), attacked(cls).guess.detach()
    require(
        same(first, again),
        f"two runs with equal seeds differ by up to {float((first - again).abs().max()):.3g}",
        "equal guesses for equal seeds",
        "randomness that comes neither from view.generator nor from view.seed_for, or state kept on the class",
    )


def check_one_image(cls: type[Attack]) -> None:
    """A single image is a batch too; statistics over received features have nothing to average there."""
    run = attacked(cls, sizes=Sizes(private=1, aux_train=16, aux_val=8))
    _require_form(run, cls, " for a single image")
    _require_finite(run, "a single image", "a squeeze() drops the batch axis, or a deviation is taken over one image")


def check_vector_features(cls: type[Attack]) -> None:
    """Not every cut gives maps: an attack that cannot read vectors leaves those cuts unaudited."""
    run = attacked(cls, toy_target(vector=True), sizes=TINY)
    _require_form(run, cls, " for features that are vectors")
    _require_finite(run, "features that are vectors", "axes (2, 3) are averaged where there are none")


def check_grey_images(cls: type[Attack]) -> None:
    """Grey images have one channel; three must be assumed nowhere."""
    run = attacked(cls, image_shape=(1, 16, 16), sizes=TINY)
    _require_form(run, cls, " for grey images")
    _require_finite(run, "grey images", "colour statistics of three channels are assumed")


def check_images_that_are_not_square(cls: type[Attack]) -> None:
    """Height and width are two numbers."""
    run = attacked(cls, image_shape=(3, 12, 20), sizes=TINY)
    _require_form(run, cls, " for images of 12×20 px")
    _require_finite(run, "images of 12×20 px", "height and width are swapped or taken to be equal")


def check_random_defense(cls: type[Attack]) -> None:
    """Random defenses are attacked too, masks among them, whose zeros are no evidence."""
    run = attacked(cls, control_target("orthogonal", random_defense()), sizes=TINY)
    _require_form(run, cls, " for a random defense")
    _require_finite(run, "a random defense", "a division by the number of visible elements, which can be zero")


def check_wire_of_another_shape(cls: type[Attack]) -> None:
    """What crosses the wire need not have the form of the edge's output: a defense may send fewer channels."""
    if not cls.expected.beats_prior:
        raise NotApplicable("expected.beats_prior is False: the attack is a control")
    run = attacked(cls, control_target("orthogonal", HalfTheChannels(Params())), sizes=TINY)
    _require_form(run, cls, " for a wire of half the channels")
    _require_finite(run, "a wire of half the channels", "shapes are taken from the edge instead of view.feature_shape")


GUESS_CHECKS: tuple[Check, ...] = (
    check_guess_shape,
    check_guess_is_in_range,
    check_guess_is_finite,
    check_guess_is_detached,
    check_deterministic,
    check_one_image,
    check_vector_features,
    check_grey_images,
    check_images_that_are_not_square,
    check_random_defense,
    check_wire_of_another_shape,
)


def _require_form(run: Attacked, cls: type[Attack], where: str) -> None:
    guess, expected = run.guess, tuple(run.truth.shape)
    floats = isinstance(guess, torch.Tensor) and guess.is_floating_point()
    if issubclass(cls, LabelAttack):
        require(
            floats and guess.ndim == 2 and len(guess) == len(run.truth),
            f"infer returned {_form(guess)}{where}",
            f"a float tensor of shape ({len(run.truth)}, number of values), one row for each row of view.z",
            "a class is returned instead of a score for each, or the batch axis was dropped",
        )
        return
    require(
        floats and tuple(guess.shape) == expected,
        f"reconstruct returned {_form(guess)}{where}",
        f"a float tensor of shape {expected}, one image for each row of view.z",
        "the image's shape is not taken from view.image_shape",
    )


def _require_finite(run: Attacked, where: str, likely: str) -> None:
    require(bool(torch.isfinite(run.guess).all()), f"the guess for {where} is not finite", "finite values", likely)


def _form(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} of shape {tuple(value.shape)}"
    return f"{type(value).__name__}"
