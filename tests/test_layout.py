"""The package list of pyproject.toml and the folders on disk say the same.

An unlisted sub-package works in an editable install and is missing in the wheel.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_source_folder_is_a_listed_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    roots = {settings["package-dir"][name]: name for name in settings["package-dir"]}
    found = set()
    for folder, name in roots.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *inner)))
    assert found == set(settings["packages"])


def test_every_data_file_of_the_package_is_listed() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    listed = set()
    for package, patterns in data.items():
        folder = ROOT / "bench" / Path(*package.split(".")[1:])
        for pattern in patterns:
            listed |= set(folder.glob(pattern))
    on_disk = {p for p in (ROOT / "bench").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert on_disk == listed


def test_the_frameworks_code_never_names_a_plugin_module() -> None:
    for path in (ROOT / "bench").rglob("*.py"):
        text = path.read_text()
        for folder in ("defenses", "attacks"):
            assert f"splitaudit.{folder}." not in text.replace('"splitaudit.', '"'), path


def test_no_public_name_is_that_of_a_module_which_would_hide_it() -> None:
    """Once ``splitaudit.plan`` is imported, the attribute ``plan`` of the package is the module."""
    import splitaudit

    modules = {p.stem for p in (ROOT / "bench").iterdir()} | {"attacks", "defenses", "metrics"}
    assert not modules & set(splitaudit.__all__)


def test_no_text_holds_the_marks_of_an_unfinished_merge() -> None:
    marks = tuple(side * 7 + " " for side in "<>")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/**/*.md")]:
        assert not [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(marks)], path
