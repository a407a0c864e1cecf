"""Which image SiftFunnel's dependence term is about: the normalised one that the network sees, as the published code."""

from __future__ import annotations

import pytest
import torch

from splitaudit.data.base import DataInfo
from splitaudit.nn.dependence import distance_correlation, distance_correlation_published
from splitaudit.split import SplitModel
from splitaudit.targets import build

MEAN, STD = torch.tensor([0.2, 0.5, 0.7]), torch.tensor([0.05, 0.3, 1.0])
STATISTICS = {"published": distance_correlation_published, "corrected": distance_correlation}


def target(variant: str) -> SplitModel:
    """A target whose dependence term is the only extra one."""
    params = {"variant": variant, "alpha": 1.0, "beta": 1.0, "gamma": 0.0, "activity": 0.0}
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": "cnn4", "params": {"width": 16, "dropout": 0.5}},
        "cut": "block2",
        "seed": 0,
        "defense": {"parts": [{"name": "siftfunnel", "params": params}]},
    }
    return build(identity, DataInfo((3, 28, 28), ("a", "b"), {}), (MEAN, STD), torch.device("cpu"))


@pytest.mark.parametrize("variant", ["published", "corrected"])
def test_the_dependence_is_on_the_normalised_image_not_on_the_raw_one(variant: str) -> None:
    """Channels of unequal deviation tell them apart; with equal ones the statistic, which ignores scale, cannot."""
    model = target(variant)
    x = torch.rand(12, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = model.clean(x)
        found = model.defense.extra_loss(x, z, torch.zeros(12, dtype=torch.int64), torch.zeros(12, 2))
    assert found is not None
    normalised = (x - MEAN[:, None, None]) / STD[:, None, None]
    expected, raw = (float(STATISTICS[variant](u, z)) for u in (normalised, x))
    assert abs(raw - expected) > 1e-3
    assert float(found) == pytest.approx(expected, rel=1e-4)
