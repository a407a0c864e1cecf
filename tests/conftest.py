"""What tests share: a suite that runs in seconds."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

torch.set_num_threads(1)

SIZES = {"client_train": 64, "client_val": 16, "private": 8, "measure": 48, "aux_train": 64, "aux_val": 16}


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
