"""What tests share: suites that run in seconds, and the command line called in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)

SIZES = {"client_train": 64, "client_val": 16, "private": 8, "measure": 48, "aux_train": 64, "aux_val": 16}


@pytest.fixture(autouse=True)
def plugins_forgotten() -> Iterator[None]:
    """Makes the registries forget what a test has added to them."""
    from splitaudit.plugins import REGISTRIES

    for registry in REGISTRIES.values():
        registry.discover()
    before = {kind: dict(registry._entries) for kind, registry in REGISTRIES.items()}
    yield
    for kind, entries in before.items():
        REGISTRIES[kind]._entries = entries


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Lets this process, and those that it starts, hear Ctrl-C: a shell makes those in the background deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def toy() -> dict[str, Any]:
    """A suite with every stage of an audit, on few images and narrow networks; its numbers mean nothing."""
    return {
        "name": "toy",
        "dataset": {"name": "photos", "sizes": dict(SIZES)},
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", "noise"],
        "attacks": [
            "prior",
            {"name": "rmle", "params": {"steps": 5, "gaussian": 0.03}},
            {"name": "decoder", "params": {"width": 16, "depth": 0, "epochs": 1}},
        ],
        "metrics": ["mse", "ssim", "accuracy", "effective_information_volume", "cost", "latency"],
        "training": {"epochs": 1},
    }


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small images in two classes, for dataset imagefolder: prepared in a tenth of the time of photos."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for side, n in (("train", 40), ("test", 40)):
        for label, level in (("dark", 64), ("light", 192)):
            (root / side / label).mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(random.normal(level, 40, (28, 28, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / side / label / f"{i:03d}.png")
    return root


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The smallest suite: two targets, two attacks, on the folder ``images`` (give it as the data root)."""
    return {
        "name": "tiny",
        "dataset": "imagefolder",
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", "noise"],
        "attacks": ["prior", {"name": "rmle", "params": {"steps": 2, "gaussian": 0.03}}],
        "metrics": ["mse", "accuracy"],
        "training": {"epochs": 1},
    }


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves plots and report out of runs that are about something else; tables are read from the records."""
    monkeypatch.setattr("splitaudit.api.derive", lambda *_, **__: [])


@dataclass(frozen=True)
class Called:
    """What a command gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Calls the command line in this process, as the console script does."""
    from splitaudit.cli import main

    def run(*argv: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["splitaudit", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int | None)
        return Called(code or 0, out, err)

    return run
