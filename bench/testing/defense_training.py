"""Checks of how a defense trains."""

from __future__ import annotations

import torch

from ..defense import Defense
from ..params import Params
from ..pixels import to_float
from ..split import SplitModel
from ..training import learned
from .data import part
from .outcome import Check, NotApplicable, fail, require
from .targets import defended, home_of, make, two_steps

HELPER_STEPS = 40
"""Steps that a helper network gets to become good enough for a penalty to pull."""


def check_extra_loss(cls: type[Defense]) -> None:
    """A penalty that does not reach the edge protects nothing, and one that is not finite ends the training.

    On a network that is trained already it has to reach what the defense learns.
    """
    for params in (cls.cheap(), {}):
        home = home_of(cls)
        model = defended(make(cls, params), home).train()
        data = part("client_train", 8, home.image_shape)
        x = to_float(data.images)
        z = model.clean(x)
        logits = model.answer(model.protect(z, torch.Generator().manual_seed(0)))
        weights, whose = [p for p in model.edge.parameters() if p.requires_grad], "the edge's weights"
        if cls.usually != "train+infer":
            weights, whose = learned(model, ("edge", "cloud")), "what the defense learns"
        for _ in range(HELPER_STEPS):
            model.defense.train_helpers(x, z.detach(), data.labels)
            extra = model.defense.extra_loss(x, z, data.labels, logits)
            if extra is None or _pulls(extra, weights):
                break
        else:
            fail(
                f"the extra loss has no gradient with respect to {whose}",
                "the edge learns from it; where the network is trained already, the defense's own parameters do",
                "z is detached on the way, the loss is computed under torch.no_grad(), or a clamp cuts it off",
            )


def _pulls(extra: object, weights: list[torch.nn.Parameter]) -> bool:
    """Says whether an extra loss pulls at the edge; a loss or a gradient that is not finite fails at once."""
    require(
        isinstance(extra, torch.Tensor) and extra.ndim == 0 and bool(torch.isfinite(extra)),
        f"extra_loss returned {_shown(extra)}",
        "a finite scalar tensor, or None",
        "the loss is not averaged over the batch, or divides by a variance that can be zero",
    )
    if not isinstance(extra, torch.Tensor) or not extra.requires_grad:
        return False
    found = torch.autograd.grad(extra, weights, retain_graph=True, allow_unused=True)
    gradients = [g for g in found if g is not None]
    require(
        all(bool(torch.isfinite(g).all()) for g in gradients),
        "the gradient of the extra loss is not finite",
        "finite gradients",
        "a square root or a norm is taken at zero",
    )
    return any(bool(g.any()) for g in gradients)


def check_neutral_equals_no_defense(cls: type[Defense]) -> None:
    """With neutral parameters a defense must be no defense: otherwise it also differs by accident, in every row."""
    neutral = cls.neutral()
    if neutral is None:
        raise NotApplicable("no neutral parameters are declared")
    home = home_of(cls)
    x = to_float(part("measure", 8, home.image_shape).images)
    logits = []
    for defense in (make(cls, neutral), Defense(Params())):
        model = defended(defense, home)
        two_steps(model, home)
        with torch.no_grad():
            logits.append(model(x, torch.Generator().manual_seed(0)))
    require(
        logits[0].shape == logits[1].shape and float((logits[0] - logits[1]).abs().max()) <= 1e-5,
        f"after two training steps with the neutral parameters {neutral!r} the logits differ from those without a "
        f"defense by up to {float((logits[0] - logits[1]).abs().max()):.3g}",
        "equal logits (to 1e-5)",
        "a penalty, a change of architecture or a draw remains although its weight is zero",
    )


def check_training_stays_finite(cls: type[Defense]) -> None:
    """A defense must survive the shared training loop."""
    for params in (cls.cheap(), {}):
        home = home_of(cls)
        model = defended(make(cls, params), home)
        try:
            two_steps(model, home)
            broken = [k for k, v in model.state_dict().items() if v.is_floating_point() and not torch.isfinite(v).all()]
            found = f"after two training steps {', '.join(broken)} is not finite"
        except FloatingPointError as exc:
            broken, found = ["loss"], str(exc)
        require(
            not broken,
            found,
            "loss, weights and buffers stay finite",
            "a logarithm, a root or a quotient at zero, or a gradient that explodes at the start of training",
        )


def check_helpers_are_declared(cls: type[Defense]) -> None:
    """Networks that a defense trains by itself belong neither to the shared optimiser nor to the stored target."""
    home = home_of(cls)
    model = defended(make(cls), home).train()
    known = {name for name, _ in model.defense.named_modules()}
    missing = [h for h in model.defense.helpers if h not in known]
    require(
        not missing,
        f"helpers names {', '.join(missing)}, which is no submodule after prepare",
        "names of submodules",
        "a misspelt name, or the network is built later than in prepare",
    )
    prefixes = tuple(f"defense.{h}." for h in model.defense.helpers)
    shared = _also_elsewhere(model, prefixes)
    require(
        not shared,
        f"{', '.join(shared)} belongs to a helper too",
        "a helper's weights are its own: neither stored with the target nor trained by the shared optimiser",
        "one network is kept under two names",
    )
    data = part("client_train", 8, home.image_shape)
    x = to_float(data.images)
    z = model.clean(x).detach()
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    model.defense.train_helpers(x, z, data.labels)
    moved = [
        k for k, p in model.named_parameters() if not torch.equal(p, before[k]) and not k.startswith(prefixes or "\0")
    ]
    require(
        not moved,
        f"train_helpers changed {', '.join(moved)}",
        "it trains the submodules that `helpers` names, and nothing else",
        "the network is missing from `helpers`",
    )


def _also_elsewhere(model: SplitModel, prefixes: tuple[str, ...]) -> list[str]:
    """Returns the names outside the helpers under which a helper's weights are found."""
    named = [(n, id(p), n.startswith(prefixes)) for n, p in model.named_parameters(remove_duplicate=False)]
    helpers = {which for _, which, helper in named if helper}
    return [name for name, which, helper in named if which in helpers and not helper]


TRAINING_CHECKS: tuple[Check, ...] = (
    check_extra_loss,
    check_neutral_equals_no_defense,
    check_training_stays_finite,
    check_helpers_are_declared,
)


def _shown(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{float(value.detach()):.3g}" if value.ndim == 0 else f"a tensor of shape {tuple(value.shape)}"
    return type(value).__name__
