"""Importing plugins, and saying in words why one cannot be used."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from .errors import PluginError
from .params import Params

T = TypeVar("T")
_OURS = (str(Path(__file__).parent), str(Path(importlib.__file__).parent), "<frozen")
"""Where frames lie that tell a plugin's author nothing."""


def load_file(path: Path) -> object:
    """Imports one Python file as a module of its own and returns the module.

    Raises:
        PluginError: no such file, a name that cannot be a plugin's, or its import failed, with the lines that raised.
    """
    if not path.is_file():
        raise PluginError(f"--plugin {path}: {'is a folder' if path.is_dir() else 'no such file'}, expected a .py file")
    if path.suffix != ".py" or not re.fullmatch(r"[A-Za-z0-9_.-]+", path.stem):
        raise PluginError(
            f"--plugin {path}: expected a file NAME.py, with letters, digits and _ . - in its name: it names the plugin"
        )
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: Python cannot import it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        sys.modules.pop(name, None)
        raise PluginError(f"--plugin {path.name} is broken: {explained(exc)}") from exc
    return module


def module_name(path: Path) -> str:
    """Returns the name under which a plugin's file is imported."""
    return f"splitaudit_local_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"


def classes_in(module: object, base: type[T], *, abstract: bool = False) -> list[type[T]]:
    """Returns the public subclasses of ``base`` that a module itself defines, in the order of their definition.

    Args:
        module: the module.
        base: their base.
        abstract: those that lack a method of the contract instead of those that are complete.
    """
    found = [
        c
        for c in vars(module).values()
        if inspect.isclass(c)
        and issubclass(c, base)
        and c is not base
        and c.__module__ == getattr(module, "__name__", None)
        and not c.__name__.startswith("_")
        and inspect.isabstract(c) is abstract
    ]
    return list(dict.fromkeys(found))


def faults(cls: Any, base: type) -> str | None:
    """Returns why a class cannot be used as a plugin, or None."""
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        return f"{cls!r} is no subclass of {base.__module__}.{base.__name__}"
    if inspect.isabstract(cls):
        return lacks(cls)
    params = getattr(cls, "Params", None)
    if not (inspect.isclass(params) and issubclass(params, Params)):
        return f"{cls.__name__}.Params is {params!r}, expected a subclass of splitaudit.Params"
    required = [name for name, field in params.model_fields.items() if field.is_required()]
    if required:
        return f"parameters without a default: {', '.join(required)}. Every parameter needs one"
    try:
        params()
    except ValidationError as exc:
        first = exc.errors()[0]
        return f"the default of {'.'.join(map(str, first['loc']))} is not valid: {first['msg']}"
    return None


def lacks(cls: type) -> str:
    """Returns which methods of the contract a class does not have."""
    return f"{cls.__name__} lacks {', '.join(sorted(getattr(cls, '__abstractmethods__', ())))}"


def explained(error: BaseException) -> str:
    """Returns what was raised, and under it the lines of the plugin (not of the framework) that raised it."""
    lines = [f"{type(error).__name__}: {error}"]
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(_OURS):
            lines.append(f"  {frame.filename}, line {frame.lineno}: {frame.line}")
    if isinstance(error, SyntaxError) and error.text:
        lines.append(f"  {error.filename}, line {error.lineno}: {error.text.strip()}")
    return "\n".join(lines)
