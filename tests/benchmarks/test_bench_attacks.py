"""How long the inner steps of attacks and training take, at the sizes of the default suite (one torch thread)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench_target import CPU, Bench, make_bench

from splitaudit.attacks.attribute import Attribute, AttributeParams
from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.attacks.deep_prior import DeepPrior, DeepPriorParams
from splitaudit.attacks.diffusion import Diffusion, DiffusionParams
from splitaudit.attacks.latent import Latent, LatentParams
from splitaudit.attacks.refine import Refine, RefineParams
from splitaudit.attacks.rmle import Rmle, RmleParams
from splitaudit.knowledge import AdversaryKnowledge, level
from splitaudit.nn.ridge import Ridge, StreamedRidge
from splitaudit.training import TrainingParams, train
from splitaudit.view import to_float

PRIVATE = 64
SMALL = DecoderParams(size="small", epochs=1)
LABELLED = AdversaryKnowledge(edge="query", aux="same", labels=True)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return make_bench()


def test_bench_rmle_10_steps_of_64_images(benchmark: Any, bench: Bench) -> None:
    attack = Rmle(RmleParams(steps=10, gaussian=0.01))
    view = bench.view(level("white-box"), PRIVATE)
    fitted = attack.fit(view)
    guess = benchmark(lambda: attack.reconstruct(bench.view(level("white-box"), PRIVATE), fitted))
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


def test_bench_refine_10_steps_of_64_images(benchmark: Any, bench: Bench) -> None:
    attack = Refine(RefineParams(steps=10, variance=0.03, decoder=SMALL))
    decoder = Decoder(SMALL).fit(bench.view(level("query"), PRIVATE))
    fitted = attack.fit(bench.view(level("white-box"), PRIVATE, {"decoder": decoder}))
    guess = benchmark(lambda: attack.reconstruct(bench.view(level("white-box"), PRIVATE, {"decoder": decoder}), fitted))
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
