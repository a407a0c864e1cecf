"""Where plugins come from: entry points, single files, decorators; and what a broken one may stop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splitaudit.defense import Defense
from splitaudit.errors import PluginError
from splitaudit.plugins import DEFENSES, add_plugin_file, add_plugin_files, identity
from splitaudit.registry import Registry

DEFENSE = "from splitaudit import Defense, Params, register_defense\n\n\nclass {name}(Defense):\n    {doc}\n"


def defense(name: str, doc: str = '"""Does nothing."""') -> str:
    return DEFENSE.format(name=name, doc=doc)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path, as pip would fill it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def install(site: Path, name: str, modules: dict[str, str], points: dict[str, str], version: str = "1.2") -> None:
    """Puts a distribution there with its modules and entry points, without pip."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[splitaudit.defenses]", *lines]) + "\n")
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)


def fresh() -> Registry[Any]:
    """A registry of defenses that has looked for nothing yet."""
    return Registry("defense", lambda: Defense, ("splitaudit.defenses",), "splitaudit.defenses")


# -- entry points -----------------------------------------------------------------------------------------------------


def test_an_entry_point_appears_with_its_distribution_and_gives_its_class(site: Path) -> None:
    install(site, "acme-splits", {"acme_blur": defense("Blur")}, {"acme/blur": "acme_blur:Blur"})
    registry = fresh()
    assert "acme/blur" in registry
    assert "acme_blur" not in sys.modules  # found without being imported
    assert registry.entry("acme/blur").origin == "acme-splits 1.2 (acme_blur:Blur)"
    assert registry.get("acme/blur").__name__ == "Blur"


BROKEN = {
    "acme_raises": ("raise OSError('no such drive')\n", "OSError: no such drive"),
    "acme_syntax": ("class Blur(\n", "SyntaxError"),
    "acme_exits": ("raise SystemExit('bye')\n", "SystemExit: bye"),
    "acme_without": ("x = 1\n", "AttributeError: module 'acme_without' has no attribute 'Blur'"),
    "acme_other": ("class Blur:\n    pass\n", "is no subclass of splitaudit.defense.Defense"),
    "acme_needs": (
        defense("Blur", "class Params(Params):\n        side: int"),
        "parameters without a default: side. Every parameter needs one",
    ),
    "acme_params": (defense("Blur", "Params = dict"), "Blur.Params is <class 'dict'>, expected a subclass of"),
    "acme_default": (
        defense("Blur", "class Params(Params):\n        side: int = 'x'"),
        "the default of side is not valid: Input should be a valid integer",
    ),
}


def test_broken_entry_points_are_listed_as_broken_and_stop_nothing(site: Path) -> None:
    install(site, "acme-splits", {m: t for m, (t, _) in BROKEN.items()}, {f"acme/{m}": f"{m}:Blur" for m in BROKEN})
    errors = {e.name: e.error for e in fresh().survey()}
    for module, (_, expected) in BROKEN.items():
        assert expected in (errors.pop(f"acme/{module}") or ""), module
    assert errors
    assert set(errors.values()) == {None}  # the built-ins are as usable as before


@pytest.mark.parametrize("surveyed", [False, True], ids=["first", "after list"])
def test_a_broken_entry_point_that_is_asked_for_says_what_was_raised_where_and_whose_it_is(
    site: Path, surveyed: bool
) -> None:
    install(site, "acme-splits", {"acme_bad": "\nimport acme_nowhere\n"}, {"acme/bad": "acme_bad:Blur"})
    registry = fresh()
    if surveyed:
        list(registry.survey())
    with pytest.raises(PluginError) as caught:
        registry.get("acme/bad")
    text = str(caught.value)
    assert text.startswith("defense 'acme/bad' from acme-splits 1.2 (acme_bad:Blur) is broken: ModuleNotFoundError: ")
    assert f"{site / 'acme_bad.py'}, line 2: import acme_nowhere" in text
    assert "registry.py" not in text


def test_two_distributions_that_offer_one_name_stop_nothing_but_who_asks_for_it(site: Path) -> None:
    install(site, "acme-one", {"acme_one": defense("Blur")}, {"acme/blur": "acme_one:Blur"})
    install(site, "acme-two", {"acme_two": defense("Blur")}, {"acme/blur": "acme_two:Blur", "acme/x": "acme_two:Blur"})
    registry = fresh()
    assert registry.get("none")
    assert registry.get("acme/x")  # what comes after the collision is found too
    with pytest.raises(PluginError, match="is defined twice: acme-... 1.2 .* and acme-... 1.2 .* Rename one of them"):
        registry.get("acme/blur")


def test_a_bare_name_of_a_third_party_is_refused_and_cannot_take_a_built_in_one(site: Path) -> None:
    install(site, "acme-splits", {"acme_blur": defense("Blur")}, {"noise": "acme_blur:Blur"})
    registry = fresh()
    assert registry.entry("noise").origin.startswith("built-in")
    broken = registry.entry("invalid/noise")
    assert broken.origin.startswith("acme-splits 1.2")
    assert "'vendor/name'" in (broken.error or "")


def test_a_module_may_name_its_class_by_decorator_and_by_entry_point(site: Path) -> None:
    text = defense("Blur").replace("class Blur", "@register_defense('acme/blur')\nclass Blur")
    install(site, "acme-splits", {"acme_both": text}, {"acme/blur": "acme_both:Blur"})
    shared, registry = DEFENSES, fresh()
    shared._entries["acme/blur"] = registry.entry("acme/blur")
    assert shared.get("acme/blur").__name__ == "Blur"
    assert shared.entry("acme/blur").origin.startswith("acme-splits")


# -- names that are not known -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("noize", "Did you mean 'noise'?"),
        ("blur", "Did you mean 'acme/blur'?"),
        ("local/one", "There are local/one.A, local/one.B."),
        ("local/quite-different", "A name local/… is that of a file: add --plugin FILE."),
        ("elsewhere/thing", "Is the package that offers it installed here? (splitaudit doctor)"),
    ],
)
def test_an_unknown_name_comes_with_what_to_do(site: Path, tmp_path: Path, asked: str, hint: str) -> None:
    install(site, "acme-splits", {"acme_blur": defense("Blur")}, {"acme/blur": "acme_blur:Blur"})
    registry = fresh()
    for name in ("local/one.A", "local/one.B"):
        registry._entries[name] = registry.entry("acme/blur")
    with pytest.raises(PluginError) as caught:
        registry.get(asked)
    assert hint in str(caught.value)


# -- single files -----------------------------------------------------------------------------------------------------


def file(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_file_is_named_after_itself_and_its_hash_is_part_of_its_identity(tmp_path: Path) -> None:
    path = file(tmp_path, "blur.py", defense("Blur"))
    assert add_plugin_file(path) == ["defense local/blur"]
    assert DEFENSES.entry("local/blur").origin == "file blur.py"
    before = identity(DEFENSES, "local/blur", Defense.Params())
    path.write_text(defense("Blur") + "# edited\n")
    add_plugin_file(path)
    after = identity(DEFENSES, "local/blur", Defense.Params())
    assert before["code"] != after["code"]
    assert {**before, "code": 0} == {**after, "code": 0}


def test_several_classes_of_a_file_are_named_after_file_and_class(tmp_path: Path) -> None:
    path = file(tmp_path, "two.py", defense("A") + "\n\n" + defense("B") + "\n\nclass _Helper(Defense):\n    pass\n")
    assert add_plugin_file(path) == ["defense local/two.A", "defense local/two.B"]
    path.write_text(defense("B"))
    assert add_plugin_file(path) == ["defense local/two"]
    assert [n for n in DEFENSES.names() if n.startswith("local/two")] == ["local/two"]  # what it held before is gone


def test_a_class_that_a_decorator_names_in_a_file_has_that_name_and_the_files_hash(tmp_path: Path) -> None:
    text = defense("Blur").replace("class Blur", "@register_defense('acme/blur')\nclass Blur")
    path = file(tmp_path, "decorated.py", text)
    assert add_plugin_file(path) == ["defense acme/blur"]
    assert "local/decorated" not in DEFENSES
    assert "code" in identity(DEFENSES, "acme/blur", Defense.Params())
    path.write_text("# a line more\n" + text)
    assert add_plugin_file(path) == ["defense acme/blur"]  # loaded again, it replaces itself


def test_a_file_may_not_take_a_name_that_another_origin_has(tmp_path: Path) -> None:
    for name in ("first.py", "second.py"):
        text = defense("Blur").replace("class Blur", "@register_defense('acme/blur')\nclass Blur")
        path = file(tmp_path, name, text)
        if name == "first.py":
            add_plugin_file(path)
    with pytest.raises(PluginError, match=r"'acme/blur' is defined twice: first.py:\d+ and second.py:\d+. Rename one"):
        add_plugin_file(path)


def test_two_files_of_one_command_may_not_have_the_same_stem(tmp_path: Path) -> None:
    paths = [file(tmp_path / folder, "blur.py", defense("Blur")) for folder in ("a", "b")]
    with pytest.raises(PluginError, match="would both be 'local/blur'. Rename one of them."):
        add_plugin_files(paths)
    assert add_plugin_files([paths[0], paths[0]]) == ["defense local/blur"]


FILES = [
    ("syntax.py", "from splitaudit import Defense\nclass A(Defense)\n", "line 2: class A(Defense)"),
    ("raises.py", "import acme_nowhere\n", "is broken: ModuleNotFoundError: No module named 'acme_nowhere'"),
    ("exits.py", "raise SystemExit(3)\n", "is broken: SystemExit: 3"),
    ("empty.py", "x = 1\n", "holds no Defense, Attack, Metric, Measure, Dataset or Backbone class"),
    ("partial.py", "from splitaudit import Attack\nclass A(Attack):\n    pass\n", "(A lacks reconstruct)"),
    ("bare.py", defense("A").replace("class A", "@register_defense('noise')\nclass A"), "expected 'vendor/name'"),
    ("needs.py", defense("A", "class Params(Params):\n        side: int"), "parameters without a default: side"),
    ("my blur.py", defense("A"), "expected a file NAME.py, with letters, digits and _ . - in its name"),
    ("blur.txt", defense("A"), "expected a file NAME.py"),
]


@pytest.mark.parametrize(("name", "text", "expected"), FILES, ids=[f[0] for f in FILES])
def test_a_file_that_is_no_plugin_says_why(tmp_path: Path, name: str, text: str, expected: str) -> None:
    with pytest.raises(PluginError) as caught:
        add_plugin_file(file(tmp_path, name, text))
    assert expected in str(caught.value)
    assert name in str(caught.value) or Path(name).stem in str(caught.value)


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"nowhere.py: no such file, expected a .py file"):
        add_plugin_file(tmp_path / "nowhere.py")
    with pytest.raises(PluginError, match=r"is a folder, expected a .py file"):
        add_plugin_file(tmp_path)
