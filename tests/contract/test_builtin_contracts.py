"""Every built-in keeps its contract; the longer checks run in the full suite."""

from __future__ import annotations

from typing import Any

import pytest

from splitaudit.plugins import ATTACKS, DEFENSES, METRICS
from splitaudit.testing import NotApplicable, checks_of


def cases(size: Any) -> list[Any]:
    out = []
    for registry in (DEFENSES, ATTACKS, METRICS):
        for name in registry.names():
            if "/" in name:
                continue  # a third party's
            cls = registry.get(name)
            out += [pytest.param(cls, c, id=f"{registry.kind}-{name}-{c.__name__}") for c in checks_of(cls, size)]
    return out


def hold(cls: Any, check: Any) -> None:
    try:
        check(cls)
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("cls", "check"), cases("fast"))
def test_a_built_in_keeps_its_contract(cls: Any, check: Any) -> None:
    hold(cls, check)


@pytest.mark.full
@pytest.mark.parametrize(("cls", "check"), cases("full"))
def test_a_built_in_keeps_the_longer_part_of_its_contract(cls: Any, check: Any) -> None:
    hold(cls, check)
