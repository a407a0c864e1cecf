"""How long the inner steps of attacks and training take, at the sizes of the default suite (one torch thread)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench_target import CPU, Bench, make_bench

from splitaudit.attacks.decoder import Decoder, DecoderParams
from splitaudit.attacks.rmle import Rmle, RmleParams
from splitaudit.knowledge import level
from splitaudit.nn.ridge import Ridge
from splitaudit.training import TrainingParams, train
from splitaudit.view import to_float

PRIVATE = 64


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
