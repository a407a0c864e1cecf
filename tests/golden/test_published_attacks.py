"""The published attacks against parameter counts of the official code (arXiv 2501.00824) and steps worked out by hand."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F

from splitaudit.attacks._published_decoders import InverseResidual, PublishedDecoder, Structure
from splitaudit.attacks.decoder_published import DecoderPublished, DecoderPublishedParams
from splitaudit.attacks.mle_published import MlePublished, MlePublishedParams, batch_variation
from splitaudit.errors import Unsupported
from splitaudit.pixels import to_float
from splitaudit.plugins import BACKBONES
from splitaudit.split import SplitModel
from splitaudit.targets import make_defense
from splitaudit.testing import attacked, control_target
from splitaudit.testing.attacking import STRONGEST
from splitaudit.testing.data import toy_part
from splitaudit.testing.targets import Home, defended, make
from splitaudit.view import View


def view_of(model: SplitModel) -> View:
    shape = model.info.image_shape
    return View(
        knowledge=make(DecoderPublished).granted(STRONGEST),
        received=torch.zeros(0, 1, *model.defense.wire_shape(model.feature_shape)),
        image_shape=shape,
        model=model,
        aux=(toy_part(24, shape), toy_part(12, shape, seed=1)),
        seed=3,
    )


def target(
    backbone: str, cut: str, *parts: tuple[str, dict[str, Any]], width: int = 64, shape: tuple[int, int, int]
) -> SplitModel:
    cls = BACKBONES.get(backbone)
    home = Home(cls(cls.Params(width=width)), backbone, cut, shape)
    return defended(make_defense([{"name": n, "params": p} for n, p in parts or [("none", {})]]), home).eval()


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# -- the decoder attack -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "structure", "count"),
    [
        ((64, 32, 32), "chain", 3_075),
        ((128, 16, 16), "chain", 134_339),
        ((256, 8, 8), "chain", 659_011),
        ((512, 4, 4), "chain", 2_756_931),
        ((64, 16, 16), "autoencoder", 503_619),
        ((12, 16, 16), "funnel", 26_523),
        ((10,), "chain", 2_840_387),
        ((64, 64, 64), "residual", 149_699),
        ((256, 16, 16), "vgg", 1_396_099),
        ((4, 16, 16), "vgg_funnel", 385_043),
    ],
)
def test_decoders_have_the_published_parameter_counts(shape: tuple[int, ...], structure: Structure, count: int) -> None:
    network = PublishedDecoder(shape, (3, 64, 64), structure)
    assert parameters(network) == count
    assert not any(isinstance(m, torch.nn.Upsample) for m in network.modules())
    assert network(torch.zeros(2, *shape)).shape == (2, 3, 64, 64)


def test_an_inverse_residual_block_adds_what_came_in() -> None:
    block = InverseResidual(2).eval()
    torch.nn.init.zeros_(block.inside[-1].weight)  # type: ignore[arg-type]
    z = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(z), z)


FUNNEL, WIDE = ("siftfunnel", {}), ("siftfunnel", {"funnel": False})
AE, NOISE = ("bottleneck", {}), ("noise", {})


@pytest.mark.parametrize(
    ("backbone", "cut", "parts", "structure"),
    [
        ("cnn4", "block2", [], "chain"),
        ("cnn4", "block2", [("nopeek", {}), NOISE], "chain"),
        ("cnn4", "block2", [AE], "autoencoder"),
        ("cnn4", "block2", [AE, NOISE], "autoencoder"),
        ("cnn4", "block2", [FUNNEL], "funnel"),
        ("cnn4", "block2", [("siftfunnel", {"wire_channels": 20})], "funnel"),
        ("cnn4", "block2", [WIDE], "chain"),
        ("resnet18", "stem", [], "residual"),
        ("resnet18", "layer1_block2", [NOISE], "residual"),
        ("resnet18", "layer1_block2", [WIDE], "residual"),
        ("vgg16_bn", "conv3_1", [], "vgg"),
        ("vgg16_bn", "conv3_1", [WIDE], "vgg"),
        ("vgg16_bn", "conv3_1", [FUNNEL], "vgg_funnel"),
    ],
)
def test_the_structure_follows_the_backbone_and_the_defense(
    backbone: str, cut: str, parts: list[tuple[str, dict[str, Any]]], structure: Structure
) -> None:
    """At width 4 a wire of 8 channels is an undefended one and one of 20 a funnel: their number alone says nothing."""
    view = view_of(target(backbone, cut, *parts, width=4, shape=(3, 32, 32)))
    fitted = DecoderPublished(DecoderPublishedParams(epochs=1)).fit(view)
    expected = PublishedDecoder(view.feature_shape, view.image_shape, structure)
    assert {k: v.shape for k, v in fitted.items()} == {k: v.shape for k, v in expected.state_dict().items()}
    assert view.notes["structure"] == structure
    assert view.notes["parameters"] == parameters(expected)


@pytest.mark.full
@pytest.mark.parametrize(
    ("backbone", "cut", "parts", "count"),
    [
        ("cnn4", "block2", [AE], 503_619),
        ("cnn4", "block2", [FUNNEL], 26_523),
        ("resnet18", "layer1_block2", [], 149_699),
        ("vgg16_bn", "conv3_1", [], 1_396_099),
        ("vgg16_bn", "conv3_1", [FUNNEL], 385_043),
    ],
)
def test_published_targets_meet_the_published_decoder(
    backbone: str, cut: str, parts: list[tuple[str, dict[str, Any]]], count: int
) -> None:
    view = view_of(target(backbone, cut, *parts, shape=(3, 64, 64)))
    DecoderPublished(DecoderPublishedParams(epochs=1)).fit(view)
    assert view.notes["parameters"] == count


@pytest.mark.parametrize(
    ("backbone", "cut", "parts", "reason"),
    [
        ("resnet18", "layer1_block2", [FUNNEL], "expects 2×64×64"),
        ("resnet18", "layer1_block2", [AE], "not known completely"),
        ("resnet18", "layer2_block1", [], "image's size"),
        ("resnet18", "pool", [], "image's size"),
        ("vgg16_bn", "conv3_1", [AE], "the official code has none"),
        ("vgg16_bn", "pool1", [], "a quarter of the image's side"),
    ],
)
def test_where_no_published_decoder_is_known_the_attack_says_why(
    backbone: str, cut: str, parts: list[tuple[str, dict[str, Any]]], reason: str
) -> None:
    view = view_of(target(backbone, cut, *parts, width=4, shape=(3, 32, 32)))
    with pytest.raises(Unsupported, match=f"'{backbone}' cut after '{cut}'.*{reason}.*Name a `structure`"):
        DecoderPublished(DecoderPublishedParams(epochs=1)).fit(view)
    DecoderPublished(DecoderPublishedParams(epochs=1, structure="chain")).fit(view)
    assert view.notes["structure"] == "chain"


def test_other_backbones_have_no_published_decoder() -> None:
    with pytest.raises(Unsupported, match="the official code has none"):
        DecoderPublished(DecoderPublishedParams(epochs=1)).fit(view_of(control_target("orthogonal")))


class RecordedAdam(torch.optim.Adam):
    """Keeps the gradients and learning rate of every step."""

    made: ClassVar[list[RecordedAdam]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.grads: list[list[torch.Tensor]] = []
        self.rates: list[float] = []
        self.made.append(self)

    def step(self, closure: Any = None) -> Any:
        params = self.param_groups[0]["params"]
        self.grads.append([p.grad.clone() for p in params])
        self.rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


def test_the_decoder_descends_the_squared_error_by_the_published_optimiser_and_halves_on_its_own_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradients are those of the mean over pixels, worked out here; rates follow the error on aux_val and nothing else."""
    monkeypatch.setattr(torch.optim, "Adam", RecordedAdam)
    RecordedAdam.made.clear()
    view = view_of(control_target("orthogonal"))
    params = DecoderPublishedParams(structure="chain", epochs=25, patience=0, lr=0.05)
    fitted = DecoderPublished(params).fit(view)
    (adam,) = RecordedAdam.made
    group = adam.param_groups[0]
    assert (group["betas"], group["amsgrad"], group["weight_decay"]) == ((0.5, 0.999), True, 0)

    torch.manual_seed(view.seed_for("decoder_published init"))
    network = PublishedDecoder(view.feature_shape, view.image_shape, "chain")
    x = to_float(view.aux_train.images)
    z = view.query(x)
    ((network(z) - x) ** 2).sum().div(x.numel()).backward()
    for got, parameter in zip(adam.grads[0], network.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-3, atol=1e-7)

    errors = [error for _, error in view.curves["aux_val_mse"]]
    rate, best, rates = 0.05, float("inf"), []
    for error in errors:
        rates.append(rate)  # 24 images are one batch: a step per epoch
        if error < best * (1 - 1e-4):
            best = error
        else:
            rate /= 2
    assert adam.rates == pytest.approx(rates)
    assert len(set(rates)) > 1, "the error never rose: the schedule was not seen at work"

    network.load_state_dict(fitted)
    network.eval()
    held_out = to_float(view.aux_val.images)
    with torch.no_grad():
        kept = float((network(view.query(held_out)) - held_out).square().mean())
    assert kept == pytest.approx(min(errors), rel=1e-4)


def test_the_decoders_defaults_are_the_published_ones() -> None:
    assert DecoderPublishedParams().dump() == {
        "structure": "auto",
        "epochs": 100,
        "batch": 128,
        "lr": 0.01,
        "patience": 10,
    }


# -- the white-box attack ---------------------------------------------------------------------------------------------


def test_the_total_variation_is_that_of_the_published_fixture() -> None:
    axes = [torch.arange(n, dtype=torch.float64) for n in (8, 3, 16, 16)]
    b, c, h, w = torch.meshgrid(*axes, indexing="ij")
    y = (torch.sin(0.37 * b + 1.3 * c + 0.21 * h + 0.11 * w + 0.05 * b * h) + 1) / 2
    assert float(batch_variation(y)) == pytest.approx(0.0213618806, abs=1e-9)


def slope(x: torch.Tensor, z: torch.Tensor, matrix: torch.Tensor, tv: float) -> torch.Tensor:
    """Returns the gradient of mean (Ax − z)² + λ√TV(x) over a batch, by formula; A is a convolution 2×2 of stride 2."""
    n, c, h, w = x.shape
    fit = 2 / z.numel() * F.conv_transpose2d(F.conv2d(x, matrix, stride=2) - z, matrix, stride=2)
    down, across = x.diff(dim=2), x.diff(dim=3)
    a, b = 1 / (c * (h - 1) * w * n), 1 / (c * h * (w - 1) * n)
    variation = a * (down**2).sum() + b * (across**2).sum()
    inner = torch.zeros_like(x)
    inner[:, :, 1:] += 2 * a * down
    inner[:, :, :-1] -= 2 * a * down
    inner[..., 1:] += 2 * b * across
    inner[..., :-1] -= 2 * b * across
    return fit + tv * inner / (2 * variation.sqrt())


@pytest.mark.parametrize("steps", [1, 2])
def test_the_white_box_attack_takes_the_published_steps(steps: int) -> None:
    """On a linear edge, where the gradient is known: momentum 0.9, means over each batch, clipped only at the end."""
    lr, tv, size = 100.0, 0.5, 3
    edge = control_target("orthogonal")
    params = MlePublishedParams(steps=steps, lr=lr, tv=tv, batch=size).dump()
    run = attacked(MlePublished, edge, params=params)
    view = run.views[-1]
    assert len(view.z) % size, "the last batch shall be a short one"
    matrix = edge.edge.get_submodule("conv").weight.detach()
    draws, expected = view.generator("mle_published start"), []
    for z in view.z.split(size):
        x = torch.randn(len(z), *view.image_shape, generator=draws)
        v = torch.zeros_like(x)
        for _ in range(steps):
            v = 0.9 * v + slope(x, z, matrix, tv)
            x = x - lr * v
        expected.append(x)
    last = torch.cat(expected)
    assert float((last < 0).float().mean()) > 0.02
    assert float((last > 1).float().mean()) > 0.02
    assert float(((last > 0) & (last < 1)).float().mean()) > 0.2
    torch.testing.assert_close(run.guess, last.clamp(0, 1), atol=1e-4, rtol=0)


def test_the_white_box_attacks_defaults_are_the_published_ones() -> None:
    assert MlePublishedParams().dump() == {"steps": 500, "lr": 0.01, "tv": 1000.0, "batch": 64}
