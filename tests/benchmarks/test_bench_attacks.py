"""How long the inner steps of attacks and training take, at the sizes of the default suite (one torch thread)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench_target import CPU, SHAPE, Bench, Fits, make_bench

from splitaudit.attacks._lbfgs import minimise
from splitaudit.attacks._whitening import Whitening, whitening
from splitaudit.attacks.attribute import Attribute, AttributeParams
from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.attacks.deep_prior import DeepPrior, DeepPriorParams
from splitaudit.attacks.diffusion import Diffusion, DiffusionParams
from splitaudit.attacks.latent import Latent, LatentParams
from splitaudit.attacks.linear import Linear, LinearParams
from splitaudit.attacks.refine import Refine, RefineParams
from splitaudit.attacks.rmle import Rmle, RmleParams
from splitaudit.attacks.shadow import Shadow, ShadowParams
from splitaudit.attacks.unsplit import Unsplit, UnsplitParams
from splitaudit.knowledge import AdversaryKnowledge, level
from splitaudit.nn.ridge import Ridge, StreamedRidge
from splitaudit.pixels import to_float
from splitaudit.training import TrainingParams, train
from splitaudit.view import View

PRIVATE = 64
SMALL = DecoderParams(size="small", epochs=1)
LABELLED = AdversaryKnowledge(edge="query", aux="same", labels=True)
QUERY_FREE = AdversaryKnowledge(cloud=True, aux="same", labels=True)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def decoded(bench: Bench) -> Fits:
    """A decoder that other attacks start from."""
    return {"decoder": Decoder(SMALL).fit(bench.view(level("query"), PRIVATE))}


def unit_of(view: View) -> Whitening:
    """Returns the unit of the feature error, from 64 own images."""
    return whitening(view, to_float(view.aux_train.images[:64]), "bench scale draws")


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_bench_rmle_10_steps_of_64_images(benchmark: Any, bench: Bench, optimiser: Any) -> None:
    """The optimiser is given: which one does best on own images may change from one version to the next."""
    attack = Rmle(RmleParams(steps=10, gaussian=0.01, optimiser=optimiser, lr=0.2))
    fitted = attack.fit(bench.view(level("white-box"), PRIVATE))
    guess = benchmark.pedantic(
        lambda: attack.reconstruct(bench.view(level("white-box"), PRIVATE), fitted), rounds=3, warmup_rounds=1
    )
    assert guess.shape == (PRIVATE, 3, 32, 32)


def test_bench_10_evaluations_of_lbfgs_for_64_images(benchmark: Any) -> None:
    """What L-BFGS costs beside the losses themselves, which are next to nothing here: its history of each image."""
    curvature = torch.linspace(0.1, 10, 3 * 32 * 32).reshape(1, *SHAPE)
    start = torch.ones(PRIVATE, *SHAPE)

    def loss_of(w: torch.Tensor) -> torch.Tensor:
        return (curvature * w.square()).flatten(1).mean(1)

    _, losses = benchmark(lambda: minimise(loss_of, start, 10, 0.2, lambda *_: None))
    assert bool((losses < loss_of(start)).all())


def test_bench_linear_end_to_end_from_640_images_to_64(benchmark: Any, bench: Bench) -> None:
    """Queries, ridge regression and guesses, which no fit takes away: a cell of ``linear`` does all of it."""
    attack = Linear(LinearParams(flips=False))
    guess = benchmark.pedantic(lambda: attack.reconstruct(bench.view(level("query"), PRIVATE), {}), rounds=3)
    assert guess.shape == (PRIVATE, 3, 32, 32)


def test_bench_decoder_one_epoch_of_640_images(benchmark: Any, bench: Bench) -> None:
    attack = Decoder(DecoderParams(epochs=1))
    fitted = benchmark.pedantic(lambda: attack.fit(bench.view(level("query"), PRIVATE)), rounds=3)
    assert fitted


def test_bench_ridge_of_640_images(benchmark: Any, bench: Bench) -> None:
    images, own = (to_float(p.images) for p in bench.aux)
    with torch.no_grad():
        z, z_val = bench.model.clean(images), bench.model.clean(own)
    ridge = benchmark(lambda: Ridge(z, images, z_val, own))
    assert ridge.error < float(own.var())


def test_bench_training_one_epoch_of_640_images(benchmark: Any, bench: Bench) -> None:
    params = TrainingParams(epochs=1)
    history = benchmark.pedantic(
        lambda: train(bench.model, *bench.aux, params, 0, {"bench": True}, CPU), rounds=3, warmup_rounds=1
    )
    bench.model.eval()
    assert len(history["loss"]) == 1


def test_bench_streamed_ridge_of_640_images(benchmark: Any, bench: Bench) -> None:
    """The moments of pairs, as ``linear`` and ``attribute`` sum them up where features are fewer than pairs."""
    images, own = (to_float(p.images) for p in bench.aux)
    with torch.no_grad():
        z, z_val = (bench.model.clean(x)[:, :8, ::2, ::2] for x in (images, own))
    ridge = benchmark(lambda: StreamedRidge(zip(z.split(128), images.split(128), strict=True), z_val, own))
    assert ridge.pairs == len(images)


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_bench_refine_10_steps_of_64_images(benchmark: Any, bench: Bench, decoded: Fits, optimiser: Any) -> None:
    attack = Refine(RefineParams(steps=10, variance=0.03, optimiser=optimiser, decoder=SMALL))
    fitted = attack.fit(bench.view(level("white-box"), PRIVATE, decoded))
    guess = benchmark.pedantic(
        lambda: attack.reconstruct(bench.view(level("white-box"), PRIVATE, decoded), fitted), rounds=3, warmup_rounds=1
    )
    assert guess.shape == (PRIVATE, 3, 32, 32)


def test_bench_the_search_of_latent_10_steps_of_64_images(benchmark: Any, bench: Bench, decoded: Fits) -> None:
    attack = Latent(LatentParams(search_steps=10, decoder=SMALL))
    view = bench.view(level("white-box"), PRIVATE, decoded)
    network, unit = attack._network(view).eval().requires_grad_(False), unit_of(view)
    found = benchmark.pedantic(lambda: attack._search(view, network, unit, 0.03, "search"), rounds=3, warmup_rounds=1)
    assert found.shape == (PRIVATE, 3, 32, 32)


def test_bench_the_release_of_latent_10_steps_of_64_images(benchmark: Any, bench: Bench) -> None:
    attack = Latent(LatentParams(release_steps=10))
    view = bench.view(level("white-box"), PRIVATE)
    fitted = {"colours": torch.eye(3), "tau": torch.full((1, *SHAPE), 0.1)}
    near = attack._near(view, fitted, unit_of(view), 0.03)
    guess = view.prior.expand(PRIVATE, *SHAPE)
    step = benchmark.pedantic(lambda: near.step(view, guess, "release"), rounds=3, warmup_rounds=1)
    assert step.shape == (PRIVATE, 3, 32, 32)


def test_bench_the_sampling_of_diffusion_2_levels_of_16_images(benchmark: Any, bench: Bench) -> None:
    """Each level is a pass through the denoiser and 8 steps towards the features."""
    attack = Diffusion(DiffusionParams(levels=2))
    view = bench.view(level("white-box"), 16)
    network, unit = attack._network(view).eval().requires_grad_(False), unit_of(view)
    sample = benchmark.pedantic(lambda: attack._sampled(view, network, unit, 0.03, "sample"), rounds=3, warmup_rounds=1)
    assert sample.shape == (16, 3, 32, 32)


def test_bench_the_stand_in_of_shadow_one_epoch_of_640_images(benchmark: Any, bench: Bench) -> None:
    attack = Shadow(ShadowParams(epochs=1))
    view = bench.view(QUERY_FREE, PRIVATE)
    stand_in = benchmark.pedantic(lambda: attack._stand_in(view, ""), rounds=3).model
    assert any(
        not torch.equal(p, q) for p, q in zip(stand_in.edge.parameters(), bench.model.edge.parameters(), strict=True)
    )


def test_bench_a_round_of_unsplit_on_64_images(benchmark: Any, bench: Bench) -> None:
    """Five steps on the images and five on the clone; a round of the default parameters has twenty of each."""
    attack = Unsplit(UnsplitParams(rounds=1, image_steps=5, edge_steps=5))
    view = bench.view(AdversaryKnowledge(), PRIVATE)
    guess = benchmark.pedantic(lambda: attack.reconstruct(view, {}), rounds=3, warmup_rounds=1)
    assert guess.shape == (PRIVATE, 3, 32, 32)


def test_bench_deep_prior_10_steps_of_16_images(benchmark: Any, bench: Bench) -> None:
    attack = DeepPrior(DeepPriorParams(steps=10))
    fitted = attack.fit(bench.view(level("white-box"), 16))
    guess = benchmark.pedantic(lambda: attack.reconstruct(bench.view(level("white-box"), 16), fitted), rounds=3)
    assert guess.shape == (16, 3, 32, 32)


def test_bench_the_prior_of_latent_one_epoch_of_640_images(benchmark: Any, bench: Bench) -> None:
    attack = Latent(LatentParams(epochs=1))
    fitted = benchmark.pedantic(lambda: attack.fit(bench.view(level("white-box"), PRIVATE)), rounds=3)
    assert fitted


def test_bench_the_denoiser_of_diffusion_one_epoch_of_640_images(benchmark: Any, bench: Bench) -> None:
    attack = Diffusion(DiffusionParams(epochs=1, width=24))
    fitted = benchmark.pedantic(lambda: attack.fit(bench.view(level("white-box"), PRIVATE)), rounds=3)
    assert fitted


def test_bench_a_reader_one_epoch_of_640_images(benchmark: Any, bench: Bench) -> None:
    attack = Attribute(AttributeParams(epochs=1))
    fitted = benchmark.pedantic(lambda: attack.fit(bench.view(LABELLED, PRIVATE)), rounds=3)
    assert fitted
