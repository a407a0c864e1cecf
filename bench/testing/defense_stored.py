"""Checks of how a defended target is stored, copied and built again."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..defense import Defense
from ..pixels import to_float
from ..split import SplitModel
from ..targets import restore, stored_state
from .data import part
from .outcome import Check, NotApplicable, fail, require, takes_long
from .targets import defended, home_of, make, trained

_NO_COPY = (pickle.PicklingError, AttributeError, ImportError, RuntimeError, TypeError)
"""What pickle and copy.deepcopy raise for an object that they cannot take along."""


def check_picklable(cls: type[Defense]) -> None:
    """Worker processes receive plugins by pickle, which needs a class that can be imported by name."""
    try:
        same = pickle.loads(pickle.dumps(cls)) is cls
    except _NO_COPY as exc:
        fail(
            f"the class cannot be pickled: {exc}",
            "a class at the top level of a module that can be imported",
            "it is defined inside a function",
        )
    require(same, "pickle gives another class of the same name", "the class itself", "its module was imported twice")
    model = trained(cls)
    try:
        copied = pickle.loads(pickle.dumps(model))
    except _NO_COPY as exc:
        fail(
            f"the trained target cannot be pickled: {exc}",
            "a target that can be sent to another process",
            "a lambda, a lock or an open file is kept on self",
        )
    _same_output(model, copied, "a pickled copy of the target", "a __reduce__ loses state")


def check_copyable(cls: type[Defense]) -> None:
    """Every attack gets a copy of the target: a defense that cannot be copied cannot be attacked."""
    model = trained(cls)
    try:
        copied = copy.deepcopy(model)
    except _NO_COPY as exc:
        fail(
            f"the trained target cannot be copied: {exc}",
            "copy.deepcopy works after training",
            "a tensor that carries a graph (keep z.detach(), or drop it in eval mode), a lock or an open file is kept on self",
        )
    _same_output(model, copied, "a copy of the target", "the defense shares state through a global or class attribute")


def check_stored_state_restores(cls: type[Defense]) -> None:
    """A target is trained once and attacked from its stored tensors: they must hold everything that it needs."""
    home = home_of(cls)
    model = trained(cls, home=home)
    again = defended(make(cls), home, seed=1)
    try:
        restore(again, stored_state(model))
    except (ValueError, RuntimeError) as exc:
        fail(
            f"the stored tensors do not fit a fresh target: {exc}",
            "wrap and prepare build the same modules and buffers every time",
            "a buffer is registered in training or in calibrate",
        )
    _same_output(model, again, "the restored target", "a learnt value is a plain attribute; use register_buffer")


@takes_long
def check_restores_in_a_new_process(cls: type[Defense]) -> None:
    """A stored target is read by another process, where nothing of this one's memory is left."""
    if "<locals>" in cls.__qualname__:
        raise NotApplicable("the class is defined inside a function, no other process can import it")
    model = trained(cls)
    x = to_float(part("measure", 4, model.info.image_shape).images)
    with torch.no_grad():
        here = model(x, torch.Generator().manual_seed(3))
    with tempfile.TemporaryDirectory() as folder:
        save_file(stored_state(model), f"{folder}/target.safetensors")
        request = {"class": [cls.__module__, cls.__qualname__, _file(cls)], "path": sys.path, "folder": folder}
        done = subprocess.run(
            [sys.executable, "-c", "from splitaudit.testing.defense_stored import restored; restored()"],
            input=json.dumps(request),
            text=True,
            capture_output=True,
            check=False,
        )
        require(
            done.returncode == 0,
            f"a new process could not restore the target: {(done.stderr.strip().splitlines() or ['no message'])[-1]}",
            "class, parameters and stored tensors suffice",
            "the module needs something that only this process has set up",
        )
        there = load_file(f"{folder}/logits.safetensors")["logits"]
    gap = float((here - there).abs().max())
    require(
        gap <= 1e-5 * max(1.0, float(here.abs().max())),
        f"a new process gets other logits from the stored target (up to {gap:.3g})",
        "equal logits",
        "something is kept in a class or module attribute instead of a buffer",
    )


STORED_CHECKS: tuple[Check, ...] = (
    check_picklable,
    check_copyable,
    check_stored_state_restores,
    check_restores_in_a_new_process,
)


def restored() -> None:
    """Answers the request on stdin: builds the target, loads its tensors and writes its logits (the other process)."""
    request: dict[str, Any] = json.load(sys.stdin)
    sys.path[:] = request["path"]
    torch.set_num_threads(1)
    cls = _imported(*request["class"])
    model = defended(make(cls), home_of(cls), seed=1)
    restore(model, load_file(f"{request['folder']}/target.safetensors"))
    x = to_float(part("measure", 4, model.info.image_shape).images)
    with torch.no_grad():
        logits = model(x, torch.Generator().manual_seed(3))
    save_file({"logits": logits.contiguous()}, f"{request['folder']}/logits.safetensors")


def _imported(module: str, qualname: str, file: str) -> Any:
    try:
        value: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        # A class from a file given with --plugin, or from a test module.
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            raise
        value = importlib.util.module_from_spec(spec)
        sys.modules[module] = value
        spec.loader.exec_module(value)
    for part_ in qualname.split("."):
        value = getattr(value, part_)
    return value


def _file(cls: type) -> str:
    return str(Path(inspect.getfile(cls)).resolve())


def _same_output(model: SplitModel, other: SplitModel, what: str, likely: str) -> None:
    x = to_float(part("measure", 4, model.info.image_shape).images)
    with torch.no_grad():
        first, second = (m.eval()(x, torch.Generator().manual_seed(3)) for m in (model, other))
    gap = float((first - second).abs().max())
    require(
        gap <= 1e-5 * max(1.0, float(first.abs().max())),
        f"{what} gives other logits (up to {gap:.3g})",
        "equal logits",
        likely,
    )
