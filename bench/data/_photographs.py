"""The photographs that ship inside the scikit-image wheel, read from disk and never from the network."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError

FILES: dict[str, str] = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "immunohistochemistry": "ihc.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "stereo_motorcycle": "motorcycle_left.png",
}
"""Name of the photograph (the function of ``skimage.data`` that returns it) to the file in the wheel."""


def folder() -> Path:
    """Returns the data folder of the installed scikit-image without importing it (its loaders may download)."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError("photos: scikit-image is not installed. Install it: pip install scikit-image")
    return Path(spec.origin).parent / "data"


def path_of(name: str) -> Path:
    """Returns the file of a photograph.

    Raises:
        DataError: if the installed scikit-image does not hold it.
    """
    path = folder() / FILES[name]
    if not path.is_file():
        raise DataError(
            f"photos: {path} is missing; the wheel of scikit-image holds it. Reinstall: pip install --force-reinstall "
            "scikit-image, or use dataset imagefolder with your own images."
        )
    return path


def read(name: str) -> np.ndarray:
    """Returns a photograph as uint8 (H, W, 3), not to be written to: it is read once in a process."""
    return _decoded(path_of(name))


@functools.lru_cache(maxsize=len(FILES))
def _decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def content_hash(name: str) -> str:
    """Returns the sha256 of a photograph's file."""
    return hashlib.sha256(path_of(name).read_bytes()).hexdigest()
