"""What the decoder learns from and which weights it keeps."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from splitaudit.attacks._decoding import LOSSES
from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.knowledge import level
from splitaudit.nn.inverse import places_of
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.split import SplitModel
from splitaudit.testing import control_target
from splitaudit.testing.attacking import STRONGEST, Sizes, attacked
from splitaudit.testing.data import SHAPE, toy_part
from splitaudit.testing.targets import make
from splitaudit.view import View

SMALL: dict[str, Any] = {"width": 8, "depth": 0, "batch": 8, "flips": False, "lr": 1e-2}
PAIRS = 24


class Recorded(Defense):
    """Adds noise and writes down each batch's size and draw."""

    calls: ClassVar[list[tuple[int, float]]] = []

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.empty_like(z).normal_(generator=generator)
        self.calls.append((len(z), float(noise.flatten()[0])))
        return z + 0.1 * noise


class Spoiled(Defense):
    """Inflates and inverts the features after n calls, so that what is learned from then on is wrong for earlier ones."""

    calls: ClassVar[list[int]] = []

    def __init__(self, after: int) -> None:
        super().__init__(Params())
        self.after = after

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.calls.append(len(z))
        return z if len(self.calls) <= self.after else -4 * z


def view_of(target: SplitModel, val: Part, draws: int = 1) -> View:
    return View(
        knowledge=make(Decoder).granted(STRONGEST.model_copy(update={"draws": draws})),
        received=torch.zeros(0, draws, *target.defense.wire_shape(target.feature_shape)),
        image_shape=SHAPE,
        model=target,
        aux=(toy_part(PAIRS, SHAPE, seed=1), val),
        seed=0,
    )


def fitted(view: View, epochs: int) -> tuple[Decoder, dict[str, torch.Tensor]]:
    attack = Decoder(DecoderParams(**SMALL, epochs=epochs))
    return attack, attack.fit(view)


def error_on(attack: Decoder, weights: dict[str, torch.Tensor], target: SplitModel, own: Part) -> float:
    """Returns the mean squared error of stored weights on images whose features are sent as they are."""
    images = to_float(own.images)
    with torch.no_grad():
        view = view_of(target, own)
        view._received = target.clean(images)[:, None]
        return float((attack.reconstruct(view, weights) - images).square().mean())


def test_every_step_sees_a_fresh_draw_of_a_random_defense() -> None:
    """With the same draws at each step the network learns them by heart."""
    Recorded.calls.clear()
    fitted(view_of(control_target("orthogonal", Recorded(Params())), toy_part(12, SHAPE, seed=2)), epochs=4)
    steps = [draw for size, draw in Recorded.calls if size == SMALL["batch"]]
    assert len(steps) == (4 + 1) * PAIRS / 8, (
        "one epoch more is that of a training with half the budget, for comparison"
    )
    assert len(set(steps)) == len(steps)


def test_where_several_draws_are_received_each_pair_is_an_average_of_as_many() -> None:
    Recorded.calls.clear()
    fitted(view_of(control_target("orthogonal", Recorded(Params())), toy_part(12, SHAPE, seed=2), draws=4), epochs=2)
    steps = [draw for size, draw in Recorded.calls if size == SMALL["batch"]]
    assert len(steps) == len(set(steps)) == 4 * 2 * PAIRS / 8


def test_the_weights_kept_are_the_best_on_aux_val_and_not_the_last() -> None:
    """From the fifth epoch on the pairs are wrong, so the error on aux_val, whose features are drawn first, rises."""
    Spoiled.calls.clear()
    before = 2 + 4 * PAIRS // 8  # a sample for the scale, aux_val, then four epochs
    target, val = control_target("orthogonal", Spoiled(before)), toy_part(12, SHAPE, seed=2)
    view = view_of(target, val)
    attack, kept = fitted(view, epochs=10)
    curve = [value for _, value in view.curves["aux_val_mse"]]
    assert curve[-1] > 1.2 * min(curve)
    error = error_on(attack, kept, control_target("orthogonal"), val)
    assert error == pytest.approx(min(curve), rel=1e-4)
    assert view.notes["aux_val_mse"] == min(curve)


def test_a_training_without_any_finite_error_says_so() -> None:
    class Broken(Defense):
        def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return z * float("nan")

    with pytest.raises(ValueError, match="not finite after any epoch"):
        fitted(view_of(control_target("orthogonal", Broken(Params())), toy_part(12, SHAPE, seed=2)), epochs=3)


def test_weights_are_chosen_on_aux_val_and_not_on_what_they_are_fitted_to() -> None:
    target, val = control_target("orthogonal"), toy_part(12, SHAPE, seed=2, other=True)
    view = view_of(target, val)
    attack, kept = fitted(view, epochs=2)
    found: dict[str, Any] = {"val": error_on(attack, kept, target, val)}
    found["train"] = error_on(attack, kept, target, view.aux_train)
    assert view.notes["aux_val_mse"] == pytest.approx(found["val"], rel=1e-4)
    assert abs(found["train"] - found["val"]) > 0.1 * found["val"]


@pytest.mark.parametrize(
    ("shape", "image"),
    [((6, 4, 4), (3, 16, 16)), ((6, 5, 4), (1, 17, 13)), ((20,), (3, 16, 16)), ((4, 6), (3, 16, 16))],
)
@pytest.mark.parametrize("params", [{"size": "small"}, {"size": "large", "width": 8}, {"skip": True, "width": 8}])
def test_every_capacity_gives_images_for_every_form_of_features(
    shape: tuple[int, ...], image: tuple[int, int, int], params: dict[str, Any]
) -> None:
    network = DecoderParams(**params).shape.network(shape, image).eval()
    with torch.no_grad():
        guess = network(100 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
    assert guess.shape == (2, *image)
    assert float(guess.min()) >= 0
    assert float(guess.max()) <= 1


def test_a_larger_size_has_more_weights_and_what_is_given_by_hand_counts_more() -> None:
    def weights(**params: Any) -> int:
        network = DecoderParams(**params).shape.network((8, 8, 8), (3, 32, 32))
        return sum(p.numel() for p in network.parameters())

    assert weights(size="small") < weights(size="base") < weights(size="large")
    assert DecoderParams(size="large", depth=0).shape.depth == 0
    assert DecoderParams().shape.attention is False


@pytest.mark.full
def test_with_a_skip_a_linear_map_is_learned_that_the_network_alone_learns_slowly() -> None:
    errors = {}
    for skip in (False, True):
        params = DecoderParams(width=8, depth=0, epochs=8, batch=16, flips=False, lr=1e-2, skip=skip)
        target, part = control_target("orthogonal", None, SHAPE), toy_part(256, SHAPE, seed=1)
        view = View(
            knowledge=make(Decoder).granted(STRONGEST.model_copy(update={"draws": 1})),
            received=target.clean(to_float(toy_part(16, SHAPE, seed=9).images))[:, None].detach(),
            image_shape=SHAPE,
            model=target,
            aux=(part, toy_part(32, SHAPE, seed=2)),
            seed=0,
        )
        attack = Decoder(params)
        guess = attack.reconstruct(view, attack.fit(view))
        errors[skip] = float((guess - to_float(toy_part(16, SHAPE, seed=9).images)).square().mean())
    assert errors[True] < 0.5 * errors[False]


def guesses_and_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns blurred, dimmed and noisy copies of images, and these."""
    truth = to_float(toy_part(5, (3, 24, 20), seed=4).images)
    blurred = F.avg_pool2d(truth, 3, 1, 1, count_include_pad=False)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (0.8 * blurred + 0.05 * noise).clamp(0, 1), truth


def test_the_ssim_loss_is_the_squared_error_and_the_structural_dissimilarity_of_skimage() -> None:
    """The Gaussian window of Wang et al. 2004. It is centred on every pixel, so images are mirrored beyond their border: of
    images mirrored by hand scikit-image, which takes windows inside alone, gives the same mean."""
    guess, truth = guesses_and_truth()
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    mirrored = [F.pad(x, (5, 5, 5, 5), mode="reflect").numpy() for x in (truth, guess)]
    similar = [structural_similarity(t, g, channel_axis=0, **window) for t, g in zip(*mirrored, strict=True)]
    error = float((guess - truth).square().mean())
    expected = error + 0.02 * (1 - sum(similar) / len(similar))
    assert expected > 1.2 * error, "the images say something of either term"
    assert float(LOSSES["ssim"](guess, truth)) == pytest.approx(expected, rel=1e-3)
    assert float(LOSSES["mse"](guess, truth)) == pytest.approx(error, rel=1e-5)
    assert float(LOSSES["l1"](guess, truth)) == pytest.approx(float((guess - truth).abs().mean()), rel=1e-5)
    for name in ("mse", "l1", "ssim"):
        assert float(LOSSES[name](truth, truth)) == pytest.approx(0, abs=1e-6)


def test_where_the_window_of_ssim_does_not_fit_its_loss_is_the_squared_error() -> None:
    guess, truth = (x[..., :10] for x in guesses_and_truth())
    assert float(LOSSES["ssim"](guess, truth)) == float(LOSSES["mse"](guess, truth))


def test_every_loss_pulls_in_a_direction_of_its_own() -> None:
    guess, truth = guesses_and_truth()
    slopes = {}
    for name, loss in LOSSES.items():
        x = guess.clone().requires_grad_(True)
        slopes[name] = torch.autograd.grad(loss(x, truth), x)[0].flatten()
    for one, other in combinations(slopes, 2):
        assert float(torch.cosine_similarity(slopes[one], slopes[other], dim=0)) < 0.98, (one, other)


@pytest.mark.parametrize("loss", ["l1", "ssim"])
def test_other_losses_lead_to_other_weights(loss: str) -> None:
    target, part = control_target("orthogonal", None, SHAPE), toy_part(12, SHAPE, seed=2)
    kept = {}
    for name in ("mse", loss):
        attack = Decoder(DecoderParams(**SMALL, epochs=2, loss=name))  # type: ignore[arg-type]
        kept[name] = attack.fit(view_of(target, part))
    assert any(not torch.equal(kept["mse"][k], kept[loss][k]) for k in kept["mse"])


@pytest.mark.parametrize("limit", ["aux=24", "queries=60"])
def test_a_level_that_grants_fewer_images_trains_for_as_many_steps(limit: str) -> None:
    sizes = Sizes(private=4, aux_train=192, aux_val=16)
    params = {"width": 8, "depth": 0, "epochs": 3, "batch": 8}
    steps = []
    for name in ("query", f"query:{limit}"):
        run = attacked(Decoder, knowledge=Decoder(DecoderParams()).granted(level(name)), params=params, sizes=sizes)
        steps.append(next(v.notes["steps"] for v in run.views if "steps" in v.notes))
    assert steps[0] == 3 * 2 * 192 / 8
    assert steps[1] == pytest.approx(steps[0], rel=0.1)


def test_a_deep_cut_of_many_channels_has_a_lead_that_holds_what_it_sends() -> None:
    """64 channels of a single place would be an eighth of it: the cut would seem private."""

    def lead(shape: tuple[int, ...], **params: Any) -> int:
        network = DecoderParams.model_validate(params).shape.network(shape, (3, 32, 32))
        return next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d)).out_channels

    assert lead((64, 8, 8)) == lead((64, 16, 16)) == lead((256, 2, 2)) == 64
    assert lead((512, 1, 1)) == 128
    assert lead((2048, 2, 2)) == 3 * 32 * 32 / 4 / 4, "a quarter of what the image holds"
    assert lead((512, 1, 1), width=64) == 64, "what is given by hand stands"
    assert lead((512, 1, 1), size="small") == 32


def test_tokens_of_a_square_keep_their_places() -> None:
    """Flattened into one dense layer, 196 tokens of 768 numbers would take billions of weights."""
    assert places_of((16, 8)) == places_of((17, 8)) == (4, 4)
    assert places_of((8, 4, 6)) == (4, 6)
    assert places_of((15, 8)) is places_of((1, 8)) is places_of((2, 8)) is places_of((20,)) is None
    network = DecoderParams(depth=0).shape.network((197, 768), (3, 224, 224))
    assert sum(p.numel() for p in network.parameters()) < 3e7
    for apart in (0, 1):
        laid = DecoderParams(width=8, depth=0).shape.network((16 + apart, 6), (3, 16, 16)).lead
        assert isinstance(laid, torch.nn.Sequential)
        z = torch.randn(2, 16 + apart, 6, generator=torch.Generator().manual_seed(0))
        map_ = laid[0](z)
        assert map_.shape == (2, 6 * (1 + apart), 4, 4)
        assert torch.equal(map_[:, :6, 0, 3], z[:, apart + 3]), "the last place of the first row"
        assert torch.equal(map_[:, :6, 3, 0], z[:, apart + 12])
        if apart:
            assert torch.equal(map_[:, 6:], z[:, 0, :, None, None].expand(2, 6, 4, 4)), (
                "a class token is seen everywhere"
            )
