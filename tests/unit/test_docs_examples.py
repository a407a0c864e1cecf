"""The plugins that the guide and the README show: they load as files and keep the contract."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from splitaudit import Defense, Metric
from splitaudit.plugins import REGISTRIES, add_plugin_file
from splitaudit.testing import check_plugin
from splitaudit.testing.outcome import Size

ROOT = Path(__file__).parents[2]
GUIDE = "docs/writing-a-plugin.md"
README = "README.md"
EXAMPLES = {
    (GUIDE, "Blur"): "defense",
    (GUIDE, "Ridge"): "attack",
    (GUIDE, "MAE"): "metric",
    (README, "Blur"): "defense",
}
"""(page, class) of every plugin shown, with its kind."""


def plugin_blocks(page: str) -> dict[str, str]:
    """Returns class name to the code of each Python block of a page that defines a plugin; parameters are not one."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    return {m[1]: b for b in blocks if (m := re.search(r"^class (\w+)\((?!Params\b)", b, re.M))}


def loaded(page: str, name: str, folder: Path) -> Any:
    """Returns the class that a page shows, loaded as ``--plugin`` loads it."""
    path = folder / f"{name.lower()}.py"
    path.write_text(plugin_blocks(page)[name], encoding="utf-8")
    kind = EXAMPLES[page, name]
    assert add_plugin_file(path) == [f"{kind} local/{path.stem}"]
    registry = next(r for r in REGISTRIES.values() if r.kind == kind)
    return registry.get(f"local/{path.stem}")


def broken(cls: Any, size: Size) -> list[str]:
    return [f"{o.check}: {o.message}" for o in check_plugin(cls, size=size) if not o.passed]


@pytest.mark.parametrize("page", [GUIDE, README])
def test_every_plugin_that_a_page_shows_is_tried_here(page: str) -> None:
    assert sorted(plugin_blocks(page)) == sorted(name for where, name in EXAMPLES if where == page)


@pytest.mark.parametrize(("page", "name"), EXAMPLES)
def test_a_plugin_that_is_shown_loads_and_keeps_its_contract(page: str, name: str, tmp_path: Path) -> None:
    assert broken(loaded(page, name, tmp_path), "fast") == []


@pytest.mark.full
@pytest.mark.parametrize(("page", "name"), EXAMPLES)
def test_a_plugin_that_is_shown_keeps_what_takes_longer_to_check(page: str, name: str, tmp_path: Path) -> None:
    assert broken(loaded(page, name, tmp_path), "full") == []


@pytest.mark.parametrize("radius", [0, 1, 2, 5])
def test_every_window_of_the_guides_blur_keeps_the_shape_and_flat_features(radius: int, tmp_path: Path) -> None:
    cls = loaded(GUIDE, "Blur", tmp_path)
    blur = cls(cls.Params(radius=radius))
    z = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    sent = blur.protect(z, torch.Generator())
    assert sent.shape == z.shape
    assert torch.equal(sent, z) is (radius == 0)
    assert torch.allclose(blur.protect(torch.ones_like(z), torch.Generator()), torch.ones_like(z))


def test_the_guide_names_every_attribute_of_a_metric_and_every_hook_of_a_defense() -> None:
    text = (ROOT / GUIDE).read_text(encoding="utf-8")
    table = {*re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.M)))}
    own = {name for name in Metric.__annotations__ if not name.startswith("_")}
    assert table == own | {"source"}
    hooks = {n for n, v in vars(Defense).items() if inspect.isfunction(v) and not n.startswith("_")}
    assert [hook for hook in sorted(hooks) if not re.search(rf"`{hook}\(", text)] == []
