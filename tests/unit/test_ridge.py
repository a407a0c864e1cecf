"""Ridge regression from features to images, held against its closed form."""

from __future__ import annotations

import pytest
import torch

from splitaudit.attacks._ridges import PairRidge
from splitaudit.nn.ridge import MOST_NUMBERS, PENALTIES, Ridge, most_images


def pairs(n: int, features: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, features, generator=g)
    mix = torch.randn(features, 12, generator=torch.Generator().manual_seed(9))
    return z, (z @ mix + 2 + torch.randn(n, 12, generator=g)).reshape(n, 3, 2, 2)


class Blind:
    """Gives an attack nothing but a seed."""

    device = torch.device("cpu")

    def seed_for(self, role: str) -> int:
        return 1


class Held:
    """Pairs whose features are one constant."""

    def __init__(self, x: torch.Tensor, size: float) -> None:
        self.x, self.z = x, torch.full((len(x), 8, 4, 4), size)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.z[index]


def closed_form(z: torch.Tensor, x: torch.Tensor, penalty: float, new: torch.Tensor, dual: bool) -> torch.Tensor:
    a, b = (z - z.mean(0)).double(), (x - x.mean(0)).flatten(1).double()
    gram = a @ a.T if dual else a.T @ a
    size = penalty * gram.diagonal().mean() * torch.eye(len(gram))
    held = (new - z.mean(0)).double()
    if dual:
        out = held @ a.T @ torch.linalg.solve(gram + size, b)
    else:
        out = held @ torch.linalg.solve(gram + size, a.T @ b)
    return out.reshape(-1, *x.shape[1:]).float() + x.mean(0)


@pytest.mark.parametrize(("n", "dual"), [(20, True), (60, False)])
@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_both_forms_give_the_closed_form(n: int, dual: bool, penalty: float) -> None:
    (z, x), (new, _) = pairs(n, 30), pairs(5, 30, seed=1)
    guess = Ridge(z, x, penalties=(penalty,))(new)
    torch.testing.assert_close(guess, closed_form(z, x, penalty, new, dual), atol=1e-4, rtol=1e-4)


def test_the_penalty_is_the_best_on_the_held_out_pairs_and_the_map_is_that_one() -> None:
    (z, x), (z_val, x_val), (new, _) = pairs(20, 30), pairs(15, 30, seed=1), pairs(5, 30, seed=2)
    errors = {p: float((Ridge(z, x, penalties=(p,))(z_val) - x_val).square().mean()) for p in PENALTIES}
    made = Ridge(z, x, z_val, x_val)
    assert made.penalty == min(errors, key=lambda p: errors[p])
    assert made.error == pytest.approx(min(errors.values()))
    torch.testing.assert_close(made(new), Ridge(z, x, penalties=(made.penalty,))(new))
    reverse = Ridge(z, x, z_val, x_val, penalties=PENALTIES[::-1])
    assert (reverse.penalty, reverse.error) == (made.penalty, pytest.approx(made.error))


@pytest.mark.parametrize("size", [0.0, 1e-20, 0.3, 1.0, 1e15])
@pytest.mark.parametrize(("n", "held_out"), [(600, 64), (100, 2), (16, 3)])
def test_features_that_are_the_same_for_all_images_give_the_mean_image(size: float, n: int, held_out: int) -> None:
    """Their spread is of rounding alone: divided by it they overflowed, and the fit failed."""
    (_, x), (_, x_val) = pairs(n, 30), pairs(held_out, 30, seed=1)
    made = PairRidge(Blind(), Held(x, size), Held(x_val, size))  # type: ignore[arg-type]
    assert made.error == pytest.approx(float((x.mean(0) - x_val).square().mean()), rel=0.01)


def test_nothing_of_the_size_of_features_times_pixels_is_held() -> None:
    """Multiplied out, the map was 50 MB for each target at 32 px and did not fit in memory at 128 px."""
    z, x = torch.randn(4, 20_000), torch.rand(4, 3, 60, 60)
    made = Ridge(z, x, penalties=(0.1,))
    held = sum(v.numel() for v in vars(made).values() if isinstance(v, torch.Tensor))
    assert held < 6 * (20_000 + x[0].numel())
    assert made(z).shape == x.shape


@pytest.mark.parametrize(("channels", "side"), [(64, 32), (64, 64), (64, 128), (64, 224), (128, 224)])
def test_a_fit_stays_within_memory_at_any_size_of_image(channels: int, side: int) -> None:
    features, pixels = channels * (side // 4) ** 2, 3 * side**2
    n = most_images(features, pixels, 20_000)
    assert 50 <= n <= 20_000
    assert n * (features + pixels) <= MOST_NUMBERS
    assert 3 * min(n, features) ** 2 <= 2e8  # Gram matrix and factors: 800 MB


def test_at_least_two_images_are_used_and_no_more_than_there_are() -> None:
    assert most_images(10**9, 10**9, 100) == 2
    assert most_images(100, 100, 40) == 40
