"""What holds for every defense beyond the contract's checks: runs repeat, one image is enough, penalties reach the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from splitaudit.defense import Defense
from splitaudit.pixels import to_float
from splitaudit.plugins import DEFENSES
from splitaudit.targets import stored_state
from splitaudit.testing.data import part
from splitaudit.testing.outcome import NotApplicable
from splitaudit.testing.targets import defended, home_of, make, trained

EVERY = [name for name in DEFENSES.names() if "/" not in name]

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in EVERY),
    ("noise", {"distribution": "laplace", "relative": False}),
    ("clip_noise", {"distribution": "laplace"}),
    ("dropout", {"rescale": True}),
    ("hsic", {"sigma": None}),
    ("quantize", {"bits": 1, "tail": 0.0}),
    ("downsample", {"factor": 3, "lift": "bilinear"}),
    ("label_smoothing", {"alpha": 0.2}),
    ("label_smoothing", {"alpha": -0.9, "warmup": False}),
]


@pytest.fixture(autouse=True)
def at_home(request: pytest.FixtureRequest) -> None:
    """Skips a defense that needs what is not installed here."""
    cls = DEFENSES.get(request.getfixturevalue("name"))
    try:
        home_of(cls)
    except NotApplicable as exc:
        pytest.skip(str(exc))


def params_of(cls: type[Defense], changed: dict[str, Any]) -> dict[str, Any]:
    return {**cls.cheap(), **changed}


@pytest.mark.parametrize(("name", "changed"), VARIANTS, ids=str)
def test_two_trainings_with_the_same_seed_give_the_same_numbers(name: str, changed: dict[str, Any]) -> None:
    cls = DEFENSES.get(name)
    first, again = (stored_state(trained(cls, params_of(cls, changed))) for _ in range(2))
    assert first.keys() == again.keys()
    assert [k for k in first if not torch.equal(first[k], again[k])] == []


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("name", "changed"), VARIANTS, ids=str)
def test_one_image_is_enough_for_the_wire_and_its_gradient(name: str, changed: dict[str, Any], train: bool) -> None:
    """Also in training, where statistics of a batch are taken, also of features that are all zero, or all the same."""
    cls = DEFENSES.get(name)
    home = home_of(cls)
    model = defended(make(cls, params_of(cls, changed)), home)
    model.edge.eval()  # batch statistics of one image are the backbone's affair
    model.defense.train(train)
    clean = model.clean(to_float(part("client_val", 1, home.image_shape).images)).detach()
    for z in (clean, 0 * clean, 0 * clean + 1):
        at = z.clone().requires_grad_()
        sent = model.protect(at, torch.Generator().manual_seed(0))
        assert bool(torch.isfinite(sent).all())
        (back,) = torch.autograd.grad(sent.square().sum(), at)
        assert bool(torch.isfinite(back).all())


@pytest.mark.full
@pytest.mark.parametrize("factor", [0.0, 1.0, 1e6])
@pytest.mark.parametrize(("name", "changed"), VARIANTS, ids=str)
def test_terms_and_gradients_stay_finite_on_black_and_glaring_images_and_single_ones(
    name: str, changed: dict[str, Any], factor: float
) -> None:
    cls = DEFENSES.get(name)
    home = home_of(cls)
    model = defended(make(cls, params_of(cls, changed)), home).train()
    model.edge.eval()  # batch statistics of one image are the backbone's affair
    data = part("client_train", 6, home.image_shape)
    for n in (6, 3, 2, 1):
        x, y = factor * to_float(data.images[:n]), data.labels[:n]
        model.defense.train_helpers(x, model.clean(x).detach(), y)
        z = model.clean(x)
        logits = model.answer(model.protect(z, torch.Generator().manual_seed(0)))
        terms = model.defense.task_loss(logits, y), model.defense.extra_loss(x, z, y, logits)
        loss = torch.stack([t for t in terms if t is not None]).sum()
        assert bool(torch.isfinite(loss)), n
        weights = [p for p in model.parameters() if p.requires_grad]
        for gradient in torch.autograd.grad(loss, weights, allow_unused=True):
            assert gradient is None or bool(torch.isfinite(gradient).all()), n


PENALTIES = [
    name
    for name in EVERY
    if DEFENSES.get(name).extra_loss is not Defense.extra_loss and DEFENSES.get(name).usually == "train+infer"
]


TERMS: dict[str, tuple[str, ...]] = {
    "adversarial": ("weight",),
    "cem": ("weight",),
    "hsic": ("lambda_x", "lambda_y"),
    "infodecom": ("weight",),
    "infoscissors": ("weight",),
    "nopeek": ("alpha",),
    "pruning": ("sparsity", "lipschitz", "weight"),
    "siamese": ("weight",),
    "siftfunnel": ("beta", "gamma", "activity"),
    "vib": ("beta",),
}
"""The weights of each defense's terms: at 0 a term is left out."""


def sizes_of(name: str, weights: dict[str, float]) -> tuple[float, float] | None:
    """Returns the sizes of the task's and of the penalty's gradient at the edge, or None where there is no penalty."""
    cls = DEFENSES.get(name)
    home = home_of(cls)
    # At this width siftfunnel would have one channel on the wire, whose redundancy is 0.
    several = {"wire_channels": 4} if name == "siftfunnel" else {}
    model = defended(make(cls, {**cls.cheap(), **several, **weights}), home).train()
    data = part("client_train", 16, home.image_shape)
    x = to_float(data.images)
    for _ in range(20):
        model.defense.train_helpers(x, model.clean(x).detach(), data.labels)
    z = model.clean(x)
    logits = model.answer(model.protect(z, torch.Generator().manual_seed(0)))
    added = model.defense.extra_loss(x, z, data.labels, logits)
    if added is None:
        return None
    edge = [p for p in model.edge.parameters() if p.requires_grad]
    task, penalty = (
        torch.autograd.grad(loss, edge, retain_graph=True, allow_unused=True) if loss.requires_grad else ()
        for loss in (model.defense.task_loss(logits, data.labels), added)
    )
    return norm_of(task), norm_of(penalty)


def norm_of(gradients: Sequence[torch.Tensor | None]) -> float:
    """Returns the norm of gradients together; 0 where none arrives."""
    found = [g.flatten() for g in gradients if g is not None]
    return float(torch.cat(found).norm()) if found else 0.0


@pytest.mark.parametrize("name", PENALTIES)
def test_each_term_of_a_penalty_reaches_the_edge_with_a_gradient_that_counts_beside_the_tasks(name: str) -> None:
    """A regulariser whose gradient is cut off on the way to the edge is only a number in the loss.

    Each term by itself, at its default weight: beside another one, a term that is cut off would not be missed.
    """
    whole = sizes_of(name, {})
    assert whole is not None
    assert whole[1] > 0.001 * whole[0], f"{whole[1] / whole[0]:.3g} of the task's gradient"
    usual = DEFENSES.get(name).Params(**DEFENSES.get(name).cheap()).dump()
    for term in TERMS[name]:
        assert usual[term] > 0
        sizes = sizes_of(name, {other: 0.0 for other in TERMS[name] if other != term})
        assert sizes is not None, term
        assert sizes[1] > 0.0001 * sizes[0], f"{term}: {sizes[1] / sizes[0]:.3g} of the task's gradient"


@pytest.mark.parametrize("name", PENALTIES)
def test_the_terms_of_a_penalty_are_all_that_is_tested(name: str) -> None:
    assert sizes_of(name, dict.fromkeys(TERMS[name], 0.0)) is None
