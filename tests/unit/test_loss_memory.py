"""What the loss terms of defenses add to the peak memory of a training step: linear in the features, never N × N × D."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
import torch
import torch.nn.functional as F
from torch import nn
from splitaudit.plugins import DEFENSES
from splitaudit.split import Split, SplitInfo

torch.set_num_threads(1)
name, shape = json.loads(sys.argv[1])
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
defense = cls(cls.Params(weight=100.0))
alone = step(None)
before = peak()
defense.prepare(Shapes(SplitInfo("none", "none", (3, 32, 32), 10), nn.Sequential(), nn.Sequential()))
both = step(defense)
print(json.dumps({"added": peak() - before, "pulled": both / alone}))
"""


@pytest.mark.full
@pytest.mark.parametrize("shape", [[64, 32, 32], [65_536]], ids=["maps", "vectors"])
@pytest.mark.parametrize("name", ["infoscissors", "siamese", "cem"])
def test_a_batch_of_512_with_65536_features_adds_at_most_1_gb(name: str, shape: list[int]) -> None:
    """Everything that the defense does in a step counts, its networks and centres too; N × N × D would be 69 GB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([name, shape])], text=True, capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["pulled"] != 1.0
    assert found["added"] < 1e9
