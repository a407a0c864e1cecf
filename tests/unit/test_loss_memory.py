"""What the loss terms of defenses add to the peak memory of a training step: linear in the features, never N × N × D."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, resource, sys
import torch
import torch.nn.functional as F
from torch import nn
from splitaudit.plugins import DEFENSES
from splitaudit.split import Split, SplitInfo

torch.set_num_threads(1)
name, params, shape = json.loads(sys.argv[1])
g = torch.Generator().manual_seed(0)
x, y = torch.rand(512, 3, 32, 32, generator=g), torch.arange(512) % 10
z = torch.randn(512, *shape, generator=g).requires_grad_()
head = torch.randn(z[0].numel(), 10, generator=g) / 1000


class Shapes(Split):
    def feature_shape(self):
        return tuple(shape)


def peak():
    scale = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def step(defense):
    z.grad = None
    logits = z.flatten(1) @ head
    loss = F.cross_entropy(logits, y)
    if defense is not None:
        defense.train_helpers(x, z.detach(), y)
        loss = loss + defense.extra_loss(x, z, y, logits)
    loss.backward()
    return float(z.grad.abs().sum())


cls = DEFENSES.get(name)
defense = cls(cls.Params(**params))
alone = step(None)
before = peak()
defense.prepare(Shapes(SplitInfo("none", "none", (3, 32, 32), 10), nn.Sequential(), nn.Sequential()))
both = step(defense)
print(json.dumps({"added": peak() - before, "pulled": both / alone}))
"""


MAPS, VECTORS = [64, 32, 32], [65_536]
HEAVY = {"weight": 100.0}
CASES: list[tuple[str, dict[str, Any], list[int]]] = [
    ("nopeek", {"alpha": 0.5}, MAPS),  # half a minute; as vectors the same numbers
    ("hsic", {"lambda_x": 100.0}, MAPS),
    ("hsic", {"lambda_x": 100.0}, VECTORS),
    # Below its threshold this loss pulls at the features before the decoder has learned anything.
    ("adversarial", HEAVY | {"loss": "ressfl", "threshold": -1.0}, MAPS),
    ("adversarial", HEAVY | {"loss": "ressfl", "threshold": -1.0}, VECTORS),
    ("infoscissors", HEAVY, MAPS),
    ("infoscissors", HEAVY, VECTORS),
    ("siamese", HEAVY, MAPS),
    ("siamese", HEAVY, VECTORS),
    ("cem", HEAVY, MAPS),
    ("cem", HEAVY, VECTORS),
]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "params", "shape"), CASES, ids=[f"{n}-{'maps' if s == MAPS else 'vectors'}" for n, _, s in CASES]
)
def test_a_batch_of_512_with_65536_features_adds_at_most_1_gb(
    name: str, params: dict[str, Any], shape: list[int]
) -> None:
    """Everything that the defense does in a step counts, its networks and centres too; N × N × D would be 69 GB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([name, params, shape])], text=True, capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    print(f"{name}: {found['added'] / 1e9:.2f} GB")
    assert found["pulled"] != 1.0
    assert found["added"] < 1e9
