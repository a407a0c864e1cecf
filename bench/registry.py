"""One generic registry: built-ins by file name, third parties by entry point, single files, decorators."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeVar

from .errors import PluginError, did_you_mean

T = TypeVar("T")
_BARE = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VENDOR = re.compile(r"[a-z0-9][a-z0-9_.-]*/[a-z0-9][a-z0-9_.-]*")


@dataclass
class Entry(Generic[T]):
    """A name and where its class comes from; the class is loaded on first use."""

    name: str
    origin: str
    load: Callable[[], type[T]]
    cls: type[T] | None = None
    error: str | None = None
    code: str | None = field(default=None)
    """Hash of the file for ``local/`` plugins: part of their identity, because nobody raises a version while trying."""


class Registry(Generic[T]):
    """Names to classes of one kind of plugin.

    Args:
        kind: the singular word, for instance ``"defense"``.
        base: the class that every plugin of this kind derives from.
        packages: built-in packages whose modules are plugins (a module's name is the plugin's name; names starting
            with an underscore are helpers).
        group: the entry-point group of third parties.
    """

    def __init__(self, kind: str, base: Callable[[], type[T]], packages: tuple[str, ...], group: str) -> None:
        self.kind = kind
        self._base = base
        self._packages = packages
        self._group = group
        self._entries: dict[str, Entry[T]] = {}
        self._discovered = False

    # -- adding ---------------------------------------------------------------------------------------------------

    def add(self, entry: Entry[T]) -> None:
        """Adds an entry; a second one of the same name from elsewhere is an error that names both."""
        old = self._entries.get(entry.name)
        if old is not None and old.origin != entry.origin:
            raise PluginError(
                f"{self.kind} '{entry.name}' is defined twice: {old.origin} and {entry.origin}. Rename one of them."
            )
        self._entries[entry.name] = entry

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Returns a decorator that adds a class under ``vendor/name``; bare names belong to the built-ins."""
        if not _VENDOR.fullmatch(name):
            raise PluginError(f"{self.kind} name '{name}': expected 'vendor/name' in small letters, digits, - _ .")

        def decorate(cls: type[T]) -> type[T]:
            self.add(Entry(name, _where(cls), lambda: cls, self._checked(name, cls)))
            return cls

        return decorate

    def discover(self) -> None:
        """Finds built-ins and entry points without importing any of them."""
        if self._discovered:
            return
        self._discovered = True
        for package in self._packages:
            spec = importlib.util.find_spec(package)
            for info in pkgutil.iter_modules(spec.submodule_search_locations if spec else []):
                if not info.name.startswith("_") and info.name != "base":
                    module = f"{package}.{info.name}"
                    self.add(Entry(info.name, f"built-in ({module})", _module_loader(module, self._base)))
        for point in entry_points(group=self._group):
            dist = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
            entry = Entry(point.name, f"{dist} ({point.value})", _point_loader(point))
            if not _VENDOR.fullmatch(point.name):
                entry.error = f"name '{point.name}' from {dist}: expected 'vendor/name'; bare names are the built-ins'"
                entry.name = f"invalid/{re.sub(r'[^a-z0-9_.-]', '-', point.name.lower())}"
            self.add(entry)

    def add_file(self, path: Path, classes: list[type[T]]) -> list[str]:
        """Adds the classes of one file as ``local/STEM`` (``local/STEM.Class`` where there are several)."""
        code = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        names = []
        for cls in classes:
            name = f"local/{path.stem}" if len(classes) == 1 else f"local/{path.stem}.{cls.__name__}"
            entry = Entry(name, f"file {path.name}", lambda cls=cls: cls, self._checked(name, cls), code=code)
            self._entries.pop(name, None)
            self.add(entry)
            names.append(name)
        return names

    # -- reading --------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Returns every name, sorted; broken ones included."""
        self.discover()
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        self.discover()
        return name in self._entries

    def entry(self, name: str) -> Entry[T]:
        """Returns an entry without loading its class.

        Raises:
            PluginError: if the name is not known; close names are suggested.
        """
        self.discover()
        if name not in self._entries:
            raise PluginError(self.unknown(name))
        return self._entries[name]

    def unknown(self, name: str) -> str:
        """Returns the message for a name that is not known."""
        known = self.names()
        return (
            f"{self.kind} '{name}' is not known.{did_you_mean(name, known)}"
            f"  ({len(known)} known: splitaudit list {_plural(self.kind)})"
        )

    def get(self, name: str) -> type[T]:
        """Returns the class of a name, importing it on first use.

        Raises:
            PluginError: unknown, or its import failed (the original traceback is in the message).
        """
        entry = self.entry(name)
        if entry.cls is None:
            if entry.error is not None:
                raise PluginError(f"{self.kind} '{name}' ({entry.origin}) is broken: {entry.error}")
            try:
                entry.cls = self._checked(name, entry.load())
            except PluginError as exc:
                entry.error = str(exc)
                raise
            except Exception as exc:  # a third party's import may raise anything; it is shown, never swallowed
                entry.error = f"{type(exc).__name__}: {exc}"
                text = traceback.format_exc()
                raise PluginError(f"{self.kind} '{name}' ({entry.origin}) is broken:\n{text}") from exc
        return entry.cls

    def survey(self) -> Iterator[Entry[T]]:
        """Yields every entry, loading each class; what cannot be loaded carries its ``error``."""
        for name in self.names():
            with contextlib.suppress(PluginError):  # recorded in the entry
                self.get(name)
            yield self._entries[name]

    def _checked(self, name: str, cls: type[T]) -> type[T]:
        base = self._base()
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            raise PluginError(f"{self.kind} '{name}': {cls!r} is no subclass of {base.__module__}.{base.__name__}")
        return cls


def load_file(path: Path) -> object:
    """Imports one Python file as a module of its own (``splitaudit_local_STEM``) and returns the module."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"--plugin {path}: no such file")
    name = f"splitaudit_local_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        sys.modules.pop(name, None)
        raise PluginError(f"--plugin {path.name} is broken:\n{traceback.format_exc()}") from exc
    return module


def classes_in(module: object, base: type[T]) -> list[type[T]]:
    """Returns the subclasses of ``base`` that a module itself defines, in the order of their definition."""
    found = [
        c
        for c in vars(module).values()
        if inspect.isclass(c)
        and issubclass(c, base)
        and c is not base
        and c.__module__ == getattr(module, "__name__", None)
        and not c.__name__.startswith("_")
        and not inspect.isabstract(c)
    ]
    return list(dict.fromkeys(found))


def _module_loader(module: str, base: Callable[[], type[T]]) -> Callable[[], type[T]]:
    def load() -> type[T]:
        found = classes_in(importlib.import_module(module), base())
        if len(found) != 1:
            names = ", ".join(c.__name__ for c in found) or "none"
            raise PluginError(f"{module}: expected exactly one public {base().__name__}, found {names}")
        return found[0]

    return load


def _point_loader(point: EntryPoint) -> Callable[[], type]:
    return lambda: point.load()


def _where(cls: type) -> str:
    try:
        return f"{Path(inspect.getfile(cls)).name}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return f"{cls.__module__}.{cls.__qualname__}"


def _plural(kind: str) -> str:
    return f"{kind}s"
