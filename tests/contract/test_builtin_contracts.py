"""Every built-in keeps its contract; the longer checks run in the full suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from splitaudit.metric import Measure
from splitaudit.plugins import ATTACKS, DEFENSES, METRICS
from splitaudit.testing import check_metric, checks_of, run_check, toy_target
from splitaudit.testing.measure_checks import measured
from splitaudit.testing.outcome import CheckFailed

WEAK_AS_PUBLISHED = {
    (
        "decoder_published",
        "check_wire_scale",
    ): "reads features as they are, as published: a wire of tiny scale is its limit"
}
"""Checks that an attack fails for good cause; its description says so."""


TRAIN_MUCH = ("attribute", "recognise", "refine", "deep_prior", "latent", "diffusion", "shadow", "unsplit")
"""Attacks that train networks of their own for every check: the fast suite asks for the form of their guess alone."""

OF_THE_FORM = (
    "check_guess_shape",
    "check_guess_is_in_range",
    "check_guess_is_finite",
    "check_guess_is_detached",
    "check_convergence_is_shown",
)
"""Checks that look at one and the same run."""


TRAIN_A_PRIOR = ("deep_prior", "diffusion", "latent")

LEARN = ("disco", "dpsgd_groupnorm", "pca", "quantize", "shredder", "siftfunnel", "vib")
"""Defenses for which a new process is started each time, of those that keep what they learn in tensors of their own."""

AT_LENGTH = {
    ("decoder", "check_control_edges"),
    ("diffusion", "check_control_edges"),
    ("recognise", "check_reads_any_scale"),
    ("deep_prior", "check_knowledge_is_declared"),
    *((name, "check_wire_scale") for name in TRAIN_A_PRIOR),
    *((name, "check_restores_in_a_new_process") for name in DEFENSES.names() if name not in LEARN),
}
"""What takes long: slow tests."""


def built_in(registry: Any) -> list[str]:
    return [name for name in registry.names() if "/" not in name]  # the others are third parties'


def cases(size: Any) -> list[Any]:
    out = []
    for registry in (DEFENSES, ATTACKS, METRICS):
        for name in built_in(registry):
            cls = registry.get(name)
            every = checks_of(cls, "all" if name in TRAIN_MUCH else size)
            form = [c for c in every if c.__name__ in OF_THE_FORM]
            if name in TRAIN_MUCH:
                every = form if size == "fast" else [c for c in every if c not in form]
            for check in every:
                reason = WEAK_AS_PUBLISHED.get((name, check.__name__))
                marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=CheckFailed)]
                if size == "full":
                    marks.append(pytest.mark.slow if (name, check.__name__) in AT_LENGTH else pytest.mark.full)
                out.append(pytest.param(cls, check, id=f"{registry.kind}-{name}-{check.__name__}", marks=marks))
    return out


@pytest.mark.parametrize(("cls", "check"), cases("fast"))
def test_a_built_in_keeps_its_contract(cls: Any, check: Any) -> None:
    run_check(check, cls)


@pytest.mark.parametrize(("cls", "check"), cases("full"))
def test_a_built_in_keeps_the_longer_part_of_its_contract(cls: Any, check: Any) -> None:
    run_check(check, cls)


@pytest.fixture
def random_squeezenet(tmp_path: Path) -> Iterator[None]:
    """Puts random weights where LPIPS looks for those of its backbone, which are a download."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    (tmp_path / "checkpoints").mkdir()
    name = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save(state, tmp_path / "checkpoints" / name)
    yield
    torch.hub.set_dir(before)


@pytest.mark.full
@pytest.mark.usefixtures("random_squeezenet")
def test_lpips_keeps_its_contract_whatever_its_backbones_weights() -> None:
    found = {o.check: o for o in check_metric(METRICS.get("lpips"))}
    assert [o for o in found.values() if not o.passed] == []
    assert [o.check for o in found.values() if not o.applies] == ["check_agrees_with_its_reference"]


OF_A_BACKBONE = {"scaled_cost"}
"""Measures of registered backbones, which the toy target has none of; their values are tested by themselves."""

MEASURES = [name for name in built_in(METRICS) if issubclass(METRICS.get(name), Measure) and name not in OF_A_BACKBONE]


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_checked_on_values_and_not_only_on_reasons_why_there_are_none(name: str) -> None:
    cls = METRICS.get(name)
    values = measured(cls, toy_target()).values
    headline = [column for column, says in cls.columns.items() if says.higher_means != "neither"]
    assert any(values[column] is not None for column in headline)
