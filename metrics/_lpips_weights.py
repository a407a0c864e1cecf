"""The backbones of LPIPS: where their weights are, how they get there, and the network built from them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
import warnings
from pathlib import Path
from typing import Any, Literal

import torch

from splitaudit.errors import DataError
from splitaudit.seeds import seeded_globally

Net = Literal["squeeze", "alex"]

URLS: dict[str, str] = {
    "squeeze": "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
}
"""torchvision's addresses; the digits in a file's name are the start of its sha256."""


def weights_file(net: Net) -> Path:
    """Returns where torch hub keeps a backbone's weights, whether they are there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / URLS[net].rsplit("/", 1)[1]


def fetch(net: Net, offline: bool = False, timeout: float = 10.0) -> Path:
    """Downloads a backbone's weights into torch hub's cache, once, and returns the file.

    The file appears under its name only when it is complete and its hash is right.

    Args:
        net: the backbone.
        offline: open no connection; absent weights are an error then.
        timeout: longest silence of the connection in seconds.

    Raises:
        DataError: offline, no connection, no place to write, or a wrong hash; the text says what to do.
    """
    target = weights_file(net)
    if target.is_file():
        return target
    url = URLS[net]
    by_hand = f"Get {url} elsewhere and put it at {target}, or leave the metric out; its column stays empty until then."
    if offline:
        raise DataError(
            f"LPIPS: the weights of {net} are not in torch's cache, and --offline forbids to fetch them. {by_hand}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    except OSError as exc:
        raise DataError(f"LPIPS: cannot write to {target.parent}: {exc}. Set TORCH_HOME to a folder of yours.") from exc
    partial = Path(name)
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(url, timeout=timeout) as source:
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
        expected = target.stem.rsplit("-", 1)[1]
        if not digest.hexdigest().startswith(expected):
            raise DataError(
                f"LPIPS: {url} gave a file whose sha256 starts with {digest.hexdigest()[:8]}, expected {expected}: "
                f"incomplete or not the right file. {by_hand}"
            )
        partial.replace(target)
    except OSError as exc:  # URLError and timeouts are OSErrors
        raise DataError(f"LPIPS: could not fetch {url}: {exc}. {by_hand}") from exc
    finally:
        partial.unlink(missing_ok=True)
    return target


def load(net: Net) -> Any:
    """Builds LPIPS in eval mode from the weights in torch hub's cache; never opens a connection.

    Raises:
        DataError: if the weights are absent or unreadable.
    """
    import lpips  # here, because it imports torchvision

    path = weights_file(net)
    # Built with a random backbone, because the package would otherwise have torchvision download one.
    with warnings.catch_warnings(), seeded_globally(0):
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models")
        model = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        # The package's slices keep torchvision's layer numbers: slice2.3.weight is features.3.weight.
        names = {name: f"features.{name.split('.', 1)[1]}" for name in model.net.state_dict()}
        model.net.load_state_dict({name: stored[source] for name, source in names.items()})
    except (OSError, KeyError, RuntimeError, EOFError) as exc:
        raise DataError(
            f"LPIPS: {path} cannot be read as weights of {net}: {exc}. Delete it and fetch it again."
        ) from exc
    return model.eval().requires_grad_(False)
