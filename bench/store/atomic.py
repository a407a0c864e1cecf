"""Whole files or none: temporary file in the same folder, flush, fsync, rename."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError

if TYPE_CHECKING:
    import torch

_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
_METADATA = "splitaudit"
"""The single metadata entry of our safetensors files: several entries would be written in an order that varies between
processes, and equal artifacts would differ in their bytes."""


def is_temporary(name: str) -> bool:
    """Says whether a file name is one of an unfinished write."""
    return _TEMPORARY.fullmatch(name) is not None


def write_text(path: Path, text: str) -> None:
    """Writes a text file as UTF-8 with plain newlines, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    with _replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, whole or not at all; the value is serialised before any file is touched.

    Raises:
        StoreError: for NaN, infinity or anything that is not plain JSON.
    """
    write_text(path, to_json(value, str(path)))


def to_json(value: Any, where: str) -> str:
    """Returns the stored text of a value: sorted keys, one space of indent, no NaN.

    Raises:
        StoreError: for NaN, infinity or anything that is not plain JSON; ``where`` names the place.
    """
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True, indent=1) + "\n"
    except (ValueError, TypeError) as exc:
        raise StoreError(
            f"{where}: got a value that is not plain JSON ({exc}). Expected texts, finite numbers, true, false, null, "
            "lists and objects. Store null and a reason where there is no number."
        ) from exc


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors of any device as safetensors, whole or not at all; equal input gives equal bytes.

    Tensors that share memory (tied weights) are stored once each.
    """
    from safetensors.torch import save_file

    plain: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    with _replacing(path) as temporary:
        save_file(plain, temporary, {_METADATA: json.dumps(dict(metadata or {}), sort_keys=True)})


def read_tensors(path: Path, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Returns the tensors of a file on a device.

    Raises:
        StoreError: no such file, or it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(device))
    except FileNotFoundError as exc:
        raise StoreError(f"{path}: is missing. Run the suite again: what lacks its artifact is done anew.") from exc
    except SafetensorError as exc:
        raise StoreError(
            f"{path}: is not a whole safetensors file ({exc}). Delete it and run the suite again: what lacks its "
            "artifact is done anew."
        ) from exc


def read_metadata(path: Path) -> dict[str, str]:
    """Returns the metadata that :func:`write_tensors` was given."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(_METADATA, "{}"))


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a temporary file to fill, then makes it durable and renames it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable; Windows has no such call for folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
