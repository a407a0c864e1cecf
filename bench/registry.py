"""One generic registry: built-ins by file name, third parties by entry point, single files, decorators."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import PluginError, did_you_mean
from .loading import classes_in, explained, faults

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
    """Hash of the file of a ``--plugin``: part of its identity, because nobody raises a version while trying."""

    loading: bool = False


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
            old = self._entries.get(name)
            if (
                old is None or not old.loading
            ):  # else an entry point of the same name is being loaded: this is its class
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
                entry.error = f"its name '{point.name}' is not of the form 'vendor/name'; bare names are the built-ins'"
                entry.name = f"invalid/{re.sub(r'[^a-z0-9_.-]', '-', point.name.lower())}"
            try:
                self.add(entry)
            except PluginError as exc:  # nobody asked for it yet: whoever does is told
                self._entries[entry.name] = Entry(
                    entry.name, self._entries[entry.name].origin, entry.load, error=str(exc)
                )

    def add_file(self, path: Path, classes: list[type[T]]) -> list[str]:
        """Adds the classes of one file as ``local/STEM`` (``local/STEM.Class`` where there are several).

        A class that a decorator has named in the file keeps that name. Returns the names.
        """
        code = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        named = {e.cls: e for e in self._entries.values() if e.cls in classes}
        rest = [c for c in classes if c not in named]
        for cls in rest:
            name = f"local/{path.stem}" if len(rest) == 1 else f"local/{path.stem}.{cls.__name__}"
            named[cls] = Entry(name, f"file {path.name}", lambda cls=cls: cls, self._checked(name, cls))
            self.add(named[cls])
        for entry in named.values():
            entry.code = code
        return [named[c].name for c in classes]

    def forget(self, module: str) -> None:
        """Drops what a module added: a file that is loaded again replaces itself."""
        for entry in [e for e in self._entries.values() if getattr(e.cls, "__module__", None) == module]:
            del self._entries[entry.name]

    def loaded(self) -> list[Entry[T]]:
        """Returns the entries whose class is at hand, without looking for others or importing any."""
        return [e for e in self._entries.values() if e.cls is not None]

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
        """Returns the message for a name that is not known, with the closest one or with what to do."""
        known = self.names()
        inner = [n for n in known if n.startswith(f"{name}.")]
        outer = [n for n in known if n.endswith(f"/{name}")]
        if inner:
            hint = f" There are {', '.join(inner)}."
        elif outer:
            hint = f" Did you mean '{outer[0]}'?"
        else:
            hint = did_you_mean(name, known)
        if not hint and name.startswith("local/"):
            hint = " A name local/… is that of a file: add --plugin FILE."
        elif not hint and "/" in name:
            hint = " Is the package that offers it installed here? (splitaudit doctor)"
        count = f"{len(known)} known: splitaudit list {_plural(self.kind)}"
        return f"{self.kind} '{name}' is not known.{hint}  ({count})"

    def get(self, name: str) -> type[T]:
        """Returns the class of a name, importing it on first use.

        Raises:
            PluginError: unknown, or broken: what was raised, by which lines, and the distribution it comes from.
        """
        entry = self.entry(name)
        if entry.cls is None and entry.error is None:
            entry.loading = True
            try:
                cls = entry.load()
                entry.error = faults(cls, self._base())
                entry.cls = cls if entry.error is None else None
            except PluginError as exc:
                entry.error = str(exc)
            except (Exception, SystemExit) as exc:  # noqa: BLE001  (an import may raise anything; it is shown)
                entry.error = explained(exc)
            finally:
                entry.loading = False
        if entry.cls is None:
            raise PluginError(f"{self.kind} '{name}' from {entry.origin} is broken: {entry.error}")
        return entry.cls

    def survey(self) -> Iterator[Entry[T]]:
        """Yields every entry, loading each class; what cannot be loaded carries its ``error``."""
        for name in self.names():
            with contextlib.suppress(PluginError):  # recorded in the entry
                self.get(name)
            yield self._entries[name]

    def _checked(self, name: str, cls: Any) -> type[T]:
        fault = faults(cls, self._base())
        if fault is not None:
            raise PluginError(f"{self.kind} '{name}': {fault}")
        return cls


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
