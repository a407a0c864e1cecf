"""Whether the auxiliary images of one dataset hold private images of another."""

from __future__ import annotations

import hashlib

from ..errors import DataError
from .base import Dataset, Part


def refuse_overlap(main: tuple[str, Dataset], other: tuple[str, Dataset]) -> None:
    """Compares the pixels of every auxiliary image of ``other`` with those of every private image of ``main``.

    Args:
        main: label and prepared dataset whose private images are attacked.
        other: label and prepared dataset that lends the auxiliary images of the levels ``-other``.

    Raises:
        DataError: if they share an image, with the names of the first that they share.
    """
    private = _hashes(main[1].load("private"))
    for part in ("aux_train", "aux_val"):
        lent = _hashes(other[1].load(part))
        shared = [h for h in lent if h in private]
        if shared:
            raise DataError(
                f"other: {len(shared)} of {len(lent)} different images of {other[0]}'s {part} are private images of "
                f"{main[0]} (the first: {lent[shared[0]]} is {private[shared[0]]}). Expected none: an attack at a level "
                "-other would train on what it has to rebuild. Choose another dataset for other."
            )


def _hashes(part: Part) -> dict[bytes, str]:
    """Returns hash of the pixels to what a person calls the image."""
    names = part.names or tuple(f"image {i}" for i in range(len(part)))
    return {hashlib.sha256(x.numpy().tobytes()).digest(): n for x, n in zip(part.images, names, strict=True)}
