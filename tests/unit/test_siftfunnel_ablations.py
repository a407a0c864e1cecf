"""Every ablation of SiftFunnel differs from the full method in what it says, and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from siftfunnel_targets import CUTS, batch, state, target

from splitaudit.config import load_suite
from splitaudit.config.suite import Suite
from splitaudit.defenses._siftfunnel_losses import relative_activity, smoothed_divergence
from splitaudit.defenses.siftfunnel import SiftFunnelParams
from splitaudit.nn.attention import CBAM, SqueezeExcite, TripletAttention
from splitaudit.nn.dependence import (
    channel_correlation,
    channel_correlation_published,
    distance_correlation,
    distance_correlation_published,
)
from splitaudit.planner import make_plan
from splitaudit.split import SplitModel

ATTENTION = (SqueezeExcite, TripletAttention, CBAM)
NO_PENALTY = {"beta": 0.0, "gamma": 0.0, "activity": 0.0}
ABLATIONS: dict[str, dict[str, Any]] = {
    "corrected penalties": {"variant": "corrected"},
    "without label smoothing": {"smooth": 0.0},
    "without the distance correlation": {"beta": 0.0},
    "without the channel correlation": {"gamma": 0.0},
    "without the activity term": {"activity": 0.0},
    "without attention": {"attention": False},
    "without the funnel": {"funnel": False},
    "the funnel with attention alone": {"smooth": 0.0, "alpha": 1.0, **NO_PENALTY},
    "the funnel alone": {"smooth": 0.0, "alpha": 1.0, **NO_PENALTY, "attention": False},
    "label smoothing alone": {"alpha": 1.0, **NO_PENALTY, "attention": False, "funnel": False},
}
"""What each row of the suite changes of the full method."""

SIZES = {"client_train": 64, "client_val": 16, "private": 8, "measure": 48, "aux_train": 64, "aux_val": 16}


def losses(model: SplitModel, z: torch.Tensor, logits: torch.Tensor) -> tuple[float, float]:
    """Task loss and penalties of given features and logits."""
    x, y = batch()
    extra = model.defense.extra_loss(x, z, y, logits)
    return float(model.defense.task_loss(logits, y)), 0.0 if extra is None else float(extra)


def expected_losses(model: SplitModel, z: torch.Tensor, logits: torch.Tensor, changed: dict[str, Any]) -> Any:
    """The same, put together by hand from the terms and the weights."""
    x, y = batch()
    p = {**SiftFunnelParams().dump(), **changed}
    x = model.defense.get_submodule("normalize")(x)
    if p["variant"] == "corrected":
        terms = distance_correlation(x, z), channel_correlation(z), relative_activity(z)
    else:
        terms = distance_correlation_published(x, z), channel_correlation_published(z), z.abs().mean()
    penalties = sum(p[weight] * float(term) for weight, term in zip(NO_PENALTY, terms, strict=True))
    return p["alpha"] * float(smoothed_divergence(logits, y, p["smooth"])), penalties


def features(model: SplitModel) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return torch.rand(16, *model.feature_shape, generator=g), torch.randn(16, 4, generator=g)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_changes_the_loss_by_what_it_says_and_nothing_else(ablation: str) -> None:
    changed = ABLATIONS[ablation]
    model = target("cnn4", width=16, **changed)
    z, logits = features(model)
    found = losses(model, z, logits)
    assert found == pytest.approx(expected_losses(model, z, logits, changed), rel=1e-5)
    full = expected_losses(model, z, logits, {})
    says_task, says_penalties = bool({"smooth", "alpha"} & set(changed)), bool({"variant", *NO_PENALTY} & set(changed))
    assert (found[0] != pytest.approx(full[0], rel=1e-4)) == says_task
    assert (found[1] != pytest.approx(full[1], rel=1e-4)) == says_penalties


@pytest.mark.parametrize("backbone", CUTS)
@pytest.mark.parametrize("ablation", [a for a, c in ABLATIONS.items() if not {"attention", "funnel"} & set(c)])
def test_an_ablation_of_the_loss_leaves_the_architecture_and_its_weights_alone(backbone: str, ablation: str) -> None:
    full, ablated = state(target(backbone)), state(target(backbone, **ABLATIONS[ablation]))
    assert list(full) == list(ablated)
    assert all(torch.equal(full[k], ablated[k]) for k in full)


@pytest.mark.parametrize("backbone", CUTS)
def test_without_attention_every_attention_module_is_gone_and_the_rest_starts_the_same(backbone: str) -> None:
    model, full = target(backbone, width=16, attention=False), target(backbone, width=16)
    assert sum(isinstance(m, ATTENTION) for m in full.modules()) >= 5
    assert not any(isinstance(m, ATTENTION) for m in model.modules())
    with_it, without = state(full), state(model)
    lost = {k.split(".")[1] for k in set(with_it) - set(without)}
    assert all(name.endswith(("_se", "_triplet", "_cbam")) for name in lost)
    assert set(without) < set(with_it)
    assert all(torch.equal(without[k], with_it[k]) for k in without)
    assert model.feature_shape == full.feature_shape


@pytest.mark.parametrize("backbone", CUTS)
def test_without_the_funnel_the_halves_are_the_backbones_own_with_attention_at_the_same_places(backbone: str) -> None:
    model, plain, full = target(backbone, funnel=False), target(backbone, "none"), target(backbone)
    found, own, narrow = state(model), state(plain), state(full)
    added = {k.split(".")[1] for k in set(found) - set(own)}
    assert set(own) < set(found)
    assert all(torch.equal(found[k], own[k]) for k in own)
    assert all(name.endswith(("_se", "_triplet", "_cbam")) for name in added)
    # ResNet's second attention stands on layer 2, which is not on its wide edge.
    gone = {"layer2_mix_se", "layer2_mix_triplet"} if backbone == "resnet18" else set()
    assert added == {n for n in (k.split(".")[1] for k in narrow) if n.endswith(("_se", "_triplet", "_cbam"))} - gone
    shared = [k for k in found if k in narrow and "wire_" not in k]
    assert any("_triplet" in k for k in shared)
    assert all(torch.equal(found[k], narrow[k]) for k in shared)
    assert model.feature_shape == plain.feature_shape


@pytest.mark.parametrize("backbone", CUTS)
def test_label_smoothing_alone_has_the_undefended_architecture_and_no_penalty(backbone: str) -> None:
    model = target(backbone, **ABLATIONS["label smoothing alone"])
    found, own = state(model), state(target(backbone, "none"))
    assert list(found) == list(own)
    assert all(torch.equal(found[k], own[k]) for k in own)
    z, logits = features(model)
    x, y = batch()
    assert model.defense.extra_loss(x, z, y, logits) is None


def full_suite() -> Suite:
    sizes = ", ".join(f"{k}: {v}" for k, v in SIZES.items())
    return load_suite("siftfunnel-ablation", [f"dataset={{name: photos, sizes: {{{sizes}}}}}"])


def test_the_suites_rows_are_the_ablations() -> None:
    suite = load_suite("siftfunnel-ablation")
    assert suite.dataset[0].name == "cifar10"
    full = SiftFunnelParams().dump()
    rows = [d.params for d in suite.defenses if d.name == "siftfunnel"]
    changes = [{k: v for k, v in row.items() if v != full[k]} for row in rows]
    corrected, *others = ABLATIONS.values()
    # Beside the ablations a row with the script's own weights.
    script = {"setting": "argparse", "smooth": 0.25, "alpha": 5.0, "beta": 2.0, "gamma": 2.0}
    assert changes == [{}, corrected, script, *others]
    assert suite.defenses[0].name == "none"


def test_the_suite_plans_without_a_skip_and_with_a_target_per_row() -> None:
    """On photos instead of CIFAR-10, which is a download."""
    suite = full_suite()
    plan = make_plan(suite)
    assert [t["skip"] for t in plan.targets] == [None] * len(plan.targets)
    keys = {t["key"] for t in plan.targets}
    assert len(keys) == len(plan.targets) == len(suite.defenses) * len(suite.seeds)
    labels = [t["defense"] for t in plan.targets if t["seed"] == 0]
    assert len(set(labels)) == len(suite.defenses)
    assert all(c["skip"] is None or "edge" in c["skip"] for c in plan.cells), "only knowledge is ever lacking"
