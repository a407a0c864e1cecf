"""LPIPS: its arithmetic with a random backbone, its weights, and what it does without them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import lpips
import pytest
import torch
import torchvision

from splitaudit.errors import DataError
from splitaudit.metrics import _lpips_weights as weights
from splitaudit.metrics.lpips import LPIPS, SMALLEST, LPIPSParams

BACKBONES = {"squeeze": torchvision.models.squeezenet1_1, "alex": torchvision.models.alexnet}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


def put_random_backbone(hub: Path, net: weights.Net) -> None:
    hub.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Only what LPIPS reads: the classifier of alexnet alone has 230 MB.
        state = {k: v for k, v in BACKBONES[net](weights=None).state_dict().items() if k.startswith("features.")}
    torch.save(state, weights.weights_file(net))


def pair(n: int = 3, channels: int = 3, side: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(2, n, channels, side, side, generator=torch.Generator().manual_seed(1))
    return x[0], x[1]


def reference(net: weights.Net) -> lpips.LPIPS:
    """The package's own network, given the same backbone layer by layer."""
    state = torch.load(weights.weights_file(net), weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    convolutions = [m for m in model.net.modules() if isinstance(m, torch.nn.Conv2d)]
    names = sorted(
        {k.rsplit(".", 1)[0] for k in state}, key=list(dict.fromkeys(k.rsplit(".", 1)[0] for k in state)).index
    )
    assert len(convolutions) == len(names)
    for convolution, name in zip(convolutions, names):
        convolution.weight.data, convolution.bias.data = state[f"{name}.weight"], state[f"{name}.bias"]
    return model.eval()


@pytest.mark.parametrize("net", ["squeeze", pytest.param("alex", marks=pytest.mark.full)])
def test_values_agree_with_the_packages_own_forward(hub: Path, net: weights.Net) -> None:
    put_random_backbone(hub, net)
    x, y = pair()
    with torch.no_grad():
        expected = reference(net)(2 * x - 1, 2 * y - 1).flatten()
    values = LPIPS(LPIPSParams(net=net)).per_sample(x, y)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7)
    assert float(values.min()) > 0


def test_grey_images_count_as_three_equal_channels_and_a_copy_has_distance_0(hub: Path) -> None:
    put_random_backbone(hub, "squeeze")
    x, y = pair(channels=1)
    metric = LPIPS()
    torch.testing.assert_close(
        metric.per_sample(x, y), metric.per_sample(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1))
    )
    assert float(metric.per_sample(x, x).abs().max()) == 0


def test_the_smallest_declared_side_works_and_one_pixel_less_is_unavailable(hub: Path) -> None:
    put_random_backbone(hub, "squeeze")
    side = SMALLEST["squeeze"]
    assert torch.isfinite(LPIPS().per_sample(*pair(side=side))).all()
    assert f"at least {side} px" in str(LPIPS().unavailable((3, side - 1, 64)))
    with pytest.raises(RuntimeError):
        weights.load("squeeze")(*pair(side=side - 1))


def test_loading_leaves_the_global_generator_alone(hub: Path) -> None:
    put_random_backbone(hub, "squeeze")
    before = torch.random.get_rng_state()
    weights.load("squeeze")
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_weights_the_metric_says_why_and_never_downloads(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("urllib.request.urlopen", forbidden)
    assert "splitaudit fetch lpips" in str(LPIPS().unavailable((3, 32, 32)))
    with pytest.raises(ValueError, match="no weights of its backbone squeeze"):
        LPIPS().per_sample(*pair())
    with pytest.raises(DataError, match="cannot be read"):
        weights.load("squeeze")


def test_offline_forbids_the_fetch_and_says_what_to_do(hub: Path) -> None:
    with pytest.raises(DataError, match=r"--offline forbids to fetch them. Get https://.* and put it at"):
        weights.fetch("squeeze", offline=True)


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes, digits: str) -> None:
    source = folder / f"backbone-{digits}.pth"
    source.write_bytes(content)
    monkeypatch.setitem(weights.URLS, "squeeze", source.as_uri())


def test_a_fetched_file_appears_complete_and_is_not_fetched_again(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights" * 1000
    serve(monkeypatch, tmp_path, content, hashlib.sha256(content).hexdigest()[:8])
    path = weights.fetch("squeeze")
    assert path.read_bytes() == content
    (tmp_path / path.name).unlink()
    assert weights.fetch("squeeze", offline=True) == path
    assert [p.name for p in hub.iterdir()] == [path.name]


def test_a_file_of_another_hash_is_refused_and_leaves_nothing_behind(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, tmp_path, b"something else", "00000000")
    with pytest.raises(DataError, match="expected 00000000: incomplete or not the right file"):
        weights.fetch("squeeze")
    assert list(hub.iterdir()) == []


def test_a_failed_connection_is_an_error_that_says_what_to_do(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.URLS, "squeeze", (tmp_path / "absent-12345678.pth").as_uri())
    with pytest.raises(DataError, match=r"could not fetch .*or leave the metric out"):
        weights.fetch("squeeze")
    assert list(hub.iterdir()) == []
