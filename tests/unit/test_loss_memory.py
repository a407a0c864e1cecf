"""What the loss terms of defenses add to the peak memory of a training step: linear in the features, never N × N × D."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, resource, sys
from collections import OrderedDict
import torch
import torch.nn.functional as F
from torch import nn
from splitaudit.plugins import DEFENSES
from splitaudit.split import Normalize, Split, SplitInfo

torch.set_num_threads(1)
name, params, shape = json.loads(sys.argv[1])
g = torch.Generator().manual_seed(0)
x, y = torch.rand(512, 3, 32, 32, generator=g), torch.arange(512) % 10
torch.manual_seed(0)
conv = nn.Conv2d(3, shape[0], 3, padding=1) if shape[-1] == 32 else None
normalize = Normalize(torch.zeros(3), torch.ones(3))
head = torch.randn(torch.Size(shape).numel(), 10, generator=g) / 1000
# Defenses that act on the edge itself get one, of a layer; to the others features are given.
z = None if name in ("infodecom", "pruning") else torch.randn(512, *shape, generator=g).requires_grad_()
weights = conv.weight if z is None else z


class Shapes(Split):
    def feature_shape(self):
        return tuple(shape)


def peak():
    if sys.platform == "linux":  # getrusage would count the peak of the process that started this one, too
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    scale = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def step(edge, defense):
    weights.grad = None
    features = edge(x) if z is None else z
    sent = features if defense is None else defense.protect(features, torch.Generator().manual_seed(1))
    logits = sent.flatten(1) @ head
    loss = F.cross_entropy(logits, y)
    if defense is not None:
        defense.train_helpers(x, features.detach(), y)
        loss = loss + defense.extra_loss(x, features, y, logits)
    loss.backward()
    return float(weights.grad.abs().sum())


split = Shapes(
    SplitInfo("none", "none", (3, 32, 32), 10),
    nn.Sequential(OrderedDict(normalize=normalize, conv=conv or nn.Identity())),
    nn.Sequential(),
)
cls = DEFENSES.get(name)
defense = cls(cls.Params(**params))
alone = step(split.edge, None)
before = peak()
if z is None:
    split = defense.wrap(split)
defense.prepare(split)
if name == "siftfunnel":  # whose edge would be another one
    defense.normalize = normalize
both = step(split.edge, defense)
print(json.dumps({"added": peak() - before, "before": before, "pulled": both / alone}))
"""


RETURNED = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""What is freed goes back to the system at once: glibc keeps as much of it as chance will have, a tenth of a gigabyte here."""

MAPS, DEEP, VECTORS = [64, 32, 32], [1024, 8, 8], [65_536]
HEAVY = {"weight": 100.0}
CASES: list[tuple[str, dict[str, Any], list[int]]] = [
    ("nopeek", {"alpha": 0.5}, MAPS),  # half a minute; as vectors the same numbers
    ("hsic", {"lambda_x": 100.0}, MAPS),
    ("hsic", {"lambda_x": 100.0}, VECTORS),
    # Below its threshold this loss pulls at the features before the decoder has learned anything.
    ("adversarial", HEAVY | {"loss": "ressfl", "threshold": -1.0}, MAPS),
    ("adversarial", HEAVY | {"loss": "ressfl", "threshold": -1.0}, VECTORS),
    ("adversarial", HEAVY | {"loss": "explained"}, MAPS),
    ("adversarial", HEAVY | {"loss": "deepobfuscator"}, MAPS),
    ("infoscissors", HEAVY, MAPS),
    ("infoscissors", HEAVY, VECTORS),
    ("siamese", HEAVY, MAPS),
    ("siamese", HEAVY, VECTORS),
    ("cem", HEAVY, MAPS),
    ("cem", HEAVY, VECTORS),
    ("vib", {"beta": 1.0}, MAPS),
    # A matrix of channels by channels of each image would be 2 GB of these; with beta the distances of nopeek come beside.
    ("siftfunnel", {"variant": "published", "beta": 0.0, "gamma": 100.0}, DEEP),
    ("siftfunnel", {"variant": "corrected", "beta": 0.0, "gamma": 100.0}, DEEP),
    ("siftfunnel", {"variant": "published", "beta": 100.0, "gamma": 100.0}, MAPS),
    ("siftfunnel", {"variant": "corrected", "beta": 100.0, "gamma": 100.0, "activity": 1.0}, MAPS),
    ("infodecom", {"weight": 1.0}, MAPS),
    ("pruning", {"weight": 100.0, "sparsity": 100.0}, MAPS),
    ("disco", {"alpha": 0.9}, MAPS),
    ("shredder", {"weight": 1.0}, MAPS),
]


MOST = ("vib", "disco", "cem", "pruning")
"""What adds most of what is measured in seconds."""


def marked(name: str, params: dict[str, Any], shape: list[int]) -> Any:
    # What treats maps as the numbers that they have needs no vectors each time.
    mark = pytest.mark.full if name in MOST and shape == MAPS else pytest.mark.slow
    what = [str(params[p]) for p in ("loss", "variant") if p in params]
    size = {3: "maps", 1: "vectors"}[len(shape)] if shape != DEEP else "deep"
    return pytest.param(name, params, shape, marks=mark, id="-".join([name, *what, size]))


@pytest.mark.parametrize(("name", "params", "shape"), [marked(*case) for case in CASES])
def test_a_batch_of_512_with_65536_features_adds_at_most_1_gb(
    name: str, params: dict[str, Any], shape: list[int]
) -> None:
    """Everything that the defense does in a step counts, its networks and centres too; N × N × D would be 69 GB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([name, params, shape])],
        text=True,
        capture_output=True,
        check=True,
        env=os.environ | RETURNED,
    )
    found = json.loads(done.stdout)
    print(f"{name}: {found['added'] / 1e9:.2f} GB added to {found['before'] / 1e9:.2f} GB")
    # A decoder that explains nothing of features that are no image's gives this loss no gradient; its graph is there.
    assert found["pulled"] != 1.0 or params.get("loss") == "explained"
    assert found["added"] < 1e9
