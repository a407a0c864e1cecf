"""Augmentation and optimisers that the preset ``paper`` needs."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2.functional import adjust_hue, adjust_saturation

from splitaudit.augment import Augmentation, augment, hue_shifted, saturated
from splitaudit.config import load_suite
from splitaudit.training import _optimizer, _schedule

IMAGES = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def augmented(x: torch.Tensor, **params: float) -> torch.Tensor:
    given = {"flip": False, "shift": 0} | params
    return augment(x, Augmentation.model_validate(given), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("turn", [-0.2, 0.0, 0.13, 0.5])
def test_a_shift_of_the_hue_is_torchvisions(turn: float) -> None:
    found = hue_shifted(IMAGES, torch.full((6, 1, 1, 1), turn))
    assert torch.allclose(found, adjust_hue(IMAGES, turn), atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.8, 1.2])
def test_a_change_of_saturation_is_torchvisions(factor: float) -> None:
    found = saturated(IMAGES, torch.full((6, 1, 1, 1), factor))
    assert torch.allclose(found, adjust_saturation(IMAGES, factor), atol=1e-3)


@pytest.mark.parametrize("name", ["saturation", "hue", "jitter"])
def test_each_image_has_its_own_colours_within_the_range(name: str) -> None:
    same = IMAGES[:1].expand(6, -1, -1, -1)
    found = augmented(same, **{name: 0.2})
    assert len({tuple(v.flatten().tolist()) for v in found}) == 6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_grey_images_and_grey_pixels_have_no_colour_to_change() -> None:
    grey = IMAGES[:, :1]
    assert torch.equal(augmented(grey, saturation=0.2, hue=0.2), grey)
    assert torch.allclose(augmented(grey.expand(-1, 3, -1, -1), saturation=0.2, hue=0.2), grey, atol=1e-3)


def test_the_preset_paper_trains_as_the_published_code_does() -> None:
    """It once shifted by 2 px and used AdamW, one-cycle and a weight decay of 5e-4."""
    training = load_suite("paper").training
    optimizer = _optimizer(training, [torch.nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.Adam)
    assert not isinstance(optimizer, torch.optim.AdamW)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["amsgrad"], group["weight_decay"]) == ((0.5, 0.999), True, 1e-3)
    schedule = _schedule(training, optimizer, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [training.lr] * 10
    given = training.augment
    assert (given.flip, given.shift, given.jitter, given.saturation, given.hue) == (True, 0, 0.2, 0.2, 0.2)
