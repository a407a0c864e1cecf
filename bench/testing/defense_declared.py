"""Checks of what a defense declares of its wire, by which attacks on compositions read the parts before it."""

from __future__ import annotations

import torch

from ..defense import Defense
from ..seeds import generator
from .defense_wire import model_and_features, sent
from .outcome import Check, NotApplicable, require
from .targets import parameter_sets


def check_additive(cls: type[Defense]) -> None:
    """In a composition the part before noise is read through it: a part that does more would hide what attacks look for."""
    if not cls.additive:
        raise NotApplicable("the defense does not declare that it only adds noise")
    for params in parameter_sets(cls):
        model, z = model_and_features(cls, params)
        defense, when = model.defense, f"with parameters {params!r}"
        one, other = sent(model, z, 0), sent(model, z, 1)
        require(
            one.shape == z.shape and defense.visible(one) is None and defense.patterns() is None,
            f"{when} the shape changes, a mask is visible, or there are patterns",
            "fresh noise with a mean of zero on each element, and nothing else",
            "additive is inherited, or meant for another defense",
        )
        with torch.no_grad():
            mean = defense.expectation(z, generator("expectation", 0))
        require(
            mean is not None and torch.equal(mean, z),
            f"{when} the features are not what is sent on average, by the defense's own word",
            "additive defenses return the features from expectation",
            "expectation is not overridden, or it clips",
        )
        # That they are the mean, check_expectation asks of many draws.
        moving = float((one != other).double().mean())
        require(
            defense.leaves_wire or moving > 0.9,
            f"{when} two draws are the same in {1 - moving:.0%} of the elements, and leaves_wire is false",
            "fresh noise in each draw",
            "the noise is drawn once and kept: a pattern, which patterns() gives",
        )


def check_leaves_wire(cls: type[Defense]) -> None:
    """A part that says it does nothing is passed over by attacks on compositions, and by the count of bits on the wire."""
    if cls.protect is Defense.protect:
        raise NotApplicable("the defense never acts on what is sent")
    for params in parameter_sets(cls):
        model, z = model_and_features(cls, params)
        got = sent(model, z, 0)
        as_it_is = got.shape == z.shape and torch.equal(got, z)
        require(
            as_it_is or not model.defense.leaves_wire,
            f"leaves_wire is true with parameters {params!r}, and other features are sent",
            "what protect is given",
            "leaves_wire looks at a parameter that does not switch everything off",
        )
        require(
            model.defense.leaves_wire or not as_it_is or params != cls.neutral(),
            f"leaves_wire is false with parameters {params!r}, and the features are sent as they are",
            "leaves_wire true where neutral parameters switch everything off",
            "leaves_wire is overridden and forgets the neutral parameters",
        )


DECLARED_CHECKS: tuple[Check, ...] = (check_additive, check_leaves_wire)
