"""SiftFunnel's settings, what it refuses, and its edges at every size."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from siftfunnel_targets import CUTS, batch, target
from torch import nn

from splitaudit.config import load_suite
from splitaudit.defenses.siftfunnel import SiftFunnel, SiftFunnelParams
from splitaudit.errors import ConfigError, Unsupported
from splitaudit.nn.attention import CBAM, SqueezeExcite
from splitaudit.plugins import BACKBONES
from splitaudit.targets import restore, stored_state


def weights(**params: Any) -> tuple[float, ...]:
    p = SiftFunnelParams(**params)
    return p.smooth, p.alpha, p.beta, p.gamma, p.activity


def test_a_setting_gives_the_weights_that_are_not_given() -> None:
    assert weights() == weights(setting="facescrub-vgg") == (0.35, 4.5, 0.4, 0.1, 0.03)
    assert weights(setting="argparse") == (0.25, 5.0, 2.0, 2.0, 0.03)
    assert weights(setting="argparse", beta=0, smooth=0.1) == (0.1, 5.0, 0.0, 2.0, 0.03)


def test_validated_weights_survive_json_whatever_the_setting() -> None:
    given = SiftFunnelParams.model_validate({"setting": "argparse", "gamma": 0.5})
    again = SiftFunnelParams(**json.loads(json.dumps(given.dump())))
    assert again == given
    assert given.dump()["alpha"] == 5.0, "the dump, which goes into keys, is complete"


def test_settings_can_be_swept_in_a_suite() -> None:
    suite = load_suite(
        {
            "name": "sweep",
            "dataset": "photos",
            "backbone": {"name": "cnn4", "cut": "block2"},
            "defenses": [{"name": "siftfunnel", "params": {"setting": ["facescrub-vgg", "argparse"]}}],
            "attacks": "prior",
        }
    )
    assert [d.params["beta"] for d in suite.defenses] == [0.4, 2.0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"setting": "cifar10"}, "facescrub-vgg"),
        ({"variant": "fixed"}, "corrected"),
        ({"funnel": False, "wire_channels": 4}, "wire_channels belongs to the funnel"),
        ({"funnel": False, "keep_dead_layer": True}, "keep_dead_layer belongs to the funnel"),
        ({"beta": -1}, "beta"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SiftFunnelParams(**params)
    suite = {
        "name": "bad",
        "dataset": "photos",
        "backbone": {"name": "cnn4", "cut": "block2"},
        "defenses": [{"name": "siftfunnel", "params": params}],
        "attacks": "prior",
    }
    with pytest.raises(ConfigError, match=message):
        load_suite(suite)


def test_it_lives_at_the_cut_that_the_undefended_comparison_has_and_nowhere_else() -> None:
    homes = {
        (name, cut)
        for name in BACKBONES.names()
        if "/" not in name
        for cut in BACKBONES.get(name)(BACKBONES.get(name).Params()).cuts()
        if SiftFunnel.supports(name, cut) is None
    }
    assert homes == set(CUTS.items())
    reason = SiftFunnel.supports("resnet18", "layer2_block2")
    assert reason is not None
    assert "'resnet18' cut after 'layer1_block2'" in reason
    assert "none for 'resnet18' at 'layer2_block2'" in reason


@pytest.mark.parametrize("backbone", ["cnn4", "vgg16_bn"])
def test_a_dead_layer_is_refused_where_the_published_edge_has_none(backbone: str) -> None:
    with pytest.raises(Unsupported, match=f"the published edge of '{backbone}' has no dead layer"):
        target(backbone, keep_dead_layer=True)


@pytest.mark.parametrize("backbone", CUTS)
@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 28), (3, 33, 47), (1, 64, 64), (3, 224, 224)], ids=str)
@pytest.mark.parametrize("funnel", [True, False], ids=["funnel", "wide"])
def test_a_defended_target_classifies_images_of_every_size(
    backbone: str, shape: tuple[int, int, int], funnel: bool
) -> None:
    if backbone == "vgg16_bn" and min(shape[1:]) < 32:
        shape = (shape[0], 32, 32)
    model = target(backbone, shape=shape, width=4, funnel=funnel).eval()
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = model.clean(x)
        logits = model.cloud(z)
    assert tuple(z.shape[1:]) == model.feature_shape
    assert logits.shape == (2, 4)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize(("width", "channels"), [(32, (6, 3, 2)), (16, (3, 1, 1)), (8, (1, 1, 1))])
def test_the_wire_is_narrow_in_proportion_to_the_width(width: int, channels: tuple[int, ...]) -> None:
    for backbone, expected in zip(CUTS, channels, strict=True):
        assert target(backbone, width=width).feature_shape[0] == expected, backbone


@pytest.mark.parametrize("width", [8, 32, 64, 128])
@pytest.mark.parametrize(
    ("backbone", "published"), [("cnn4", (2, 3, 2)), ("resnet18", (4, 4, 2, 2)), ("vgg16_bn", (4, 4, 1, 1))]
)
def test_attention_is_never_narrower_than_published(backbone: str, published: tuple[int, ...], width: int) -> None:
    """In proportion alone its hidden layers have one unit at width 32, and one that starts dead is a constant for ever."""
    gates = [m for m in target(backbone, width=width).edge.modules() if isinstance(m, SqueezeExcite | CBAM)]
    hidden = tuple(next(m for m in g.modules() if isinstance(m, nn.Linear | nn.Conv2d)).weight.shape[0] for g in gates)
    channels = tuple(
        next(m for m in g.modules() if isinstance(m, nn.Linear | nn.Conv2d)).weight.shape[1] for g in gates
    )
    assert len(hidden) == len(published)
    for found, least, most in zip(hidden, published, channels, strict=True):
        assert found >= min(least, most)
        assert found <= most
    if width == 64:
        assert hidden == published


def test_the_wires_channels_can_be_given() -> None:
    for backbone in CUTS:
        assert target(backbone, wire_channels=5).feature_shape[0] == 5, backbone


def test_the_layer_that_is_thrown_away_changes_nothing_that_is_sent() -> None:
    x, _ = batch(4)
    kept, dropped = target("resnet18", keep_dead_layer=True).train(), target("resnet18").train()
    for model in (kept, dropped):
        model.clean(x).sum().backward()
    with torch.no_grad():
        assert torch.equal(kept.clean(x), dropped.clean(x))
    with_gradient = {n.split(".")[0] for n, p in kept.edge.named_parameters() if p.grad is not None}
    assert "dead_layer" not in with_gradient
    assert {"stem", "layer2_mix", "funnel"} <= with_gradient


@pytest.mark.parametrize("backbone", CUTS)
def test_the_funnel_edge_keeps_the_weights_of_the_undefended_blocks_that_it_keeps(backbone: str) -> None:
    """Targets of one seed are paired: what both edges have starts equal."""
    plain, sifted = target(backbone, "none").state_dict(), target(backbone).state_dict()
    shared = [k for k in plain if k in sifted and "edge" in k and not k.startswith("edge.normalize")]
    assert shared
    assert all(torch.equal(plain[k], sifted[k]) for k in shared)


def test_the_published_vgg_edge_has_no_biases_before_its_norms_and_the_undefended_one_has() -> None:
    def biases(defense: str) -> set[str]:
        keys = target("vgg16_bn", defense).state_dict()
        return {k for k in keys if k.startswith(("edge.conv1", "edge.conv2")) and k.endswith("conv.bias")}

    assert len(biases("none")) == 4
    assert not biases("siftfunnel")


@pytest.mark.parametrize("backbone", CUTS)
def test_a_stored_target_restores_on_every_backbone(backbone: str) -> None:
    x, _ = batch(4)
    model = target(backbone, variant="corrected").train()
    with torch.no_grad():
        model.clean(x)  # moves the running statistics away from where a fresh target has them
    model.eval()
    again = target(backbone, variant="corrected")
    restore(again, stored_state(model))
    with torch.no_grad():
        assert torch.equal(again.clean(x), model.clean(x))
