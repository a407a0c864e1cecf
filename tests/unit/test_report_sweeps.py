"""Which settings of a defense are a sweep, and how settings are named."""

from __future__ import annotations

import pytest

from splitaudit.labels import params_of_label
from splitaudit.report.style import shared_styles, styles
from splitaudit.report.sweeps import between_words, setting_words, sweeps

NOISE = [f"noise(sigma={s})" for s in ("4", "0.25", "1e-05", "1")]


def test_settings_are_in_the_order_of_the_number_whatever_the_suites_is() -> None:
    (sweep,) = sweeps(["none", *NOISE, "siftfunnel"])
    assert list(sweep.settings) == [f"noise(sigma={s})" for s in ("1e-05", "0.25", "1", "4")]
    assert sweep.title == "noise: sigma 1e-05, 0.25, 1, 4"


def test_an_ablation_and_single_settings_are_no_sweep() -> None:
    assert sweeps(["siftfunnel", "siftfunnel(beta=0)", "siftfunnel(variant=corrected)", "noise", "local/blur"]) == []
    assert sweeps([]) == []


def test_a_grid_is_a_sweep_for_each_value_of_the_other_number_and_no_setting_is_in_two() -> None:
    labels = [f"noise(sigma={s},relative={r})" for s in (1, 2, 3) for r in (True, False)]
    found = sweeps([*labels, "noise(sigma=1,relative=True)@infer"])
    assert [(s.parameter, s.fixed) for s in found] == [("sigma", "relative=True"), ("sigma", "relative=False")]
    assert "noise (relative=True): sigma 1, 2, 3" in [s.title for s in found]
    grid = sweeps([f"x(a={a},b={b})" for a in (1, 2) for b in (1, 2, 3)])
    every = [label for s in grid for label in s.settings]
    assert len(every) == len(set(every)) == 6
    assert {s.parameter for s in grid} == {"b"}


@pytest.mark.parametrize(
    ("label", "params"),
    [
        ("noise", {}),
        ("noise(sigma=0.5,relative=True)@infer", {"sigma": "0.5", "relative": "True"}),
        ("x(sizes=[1, 2],mode=a)", {"sizes": "[1, 2]", "mode": "a"}),
        ("x(table={'a': 1, 'b': 2})", {"table": "{'a': 1, 'b': 2}"}),
        ("nopeek+noise(noise.sigma=1)", {"noise.sigma": "1"}),
        ("siftfunnel(no beta)", {}),
    ],
)
def test_the_parameters_of_a_label(label: str, params: dict[str, str]) -> None:
    assert params_of_label(label) == params


def test_settings_in_words() -> None:
    assert setting_words("noise(sigma=0.5,relative=True)") == "sigma 0.5, relative True"
    assert between_words("noise(sigma=1)", "noise(sigma=0.5)") == "sigma 0.5 to 1"
    assert between_words("n(a=1,b=x)", "n(a=2,b=x)") == "a 1 to 2, b x"
    assert between_words("siftfunnel", "siftfunnel(beta=0.5)") == "siftfunnel to siftfunnel(beta=0.5)"


def test_a_sweep_has_the_look_of_its_first_setting_where_a_line_tells_its_settings_apart() -> None:
    """Elsewhere its settings differ, and everything else looks the same in both kinds of figures."""
    names = ["none", *NOISE, "siftfunnel", "siftfunnel(beta=0)"]
    shared, each = shared_styles(names), styles(names)
    assert {shared[n] for n in NOISE} == {each[NOISE[0]]}
    assert all(shared[n] == each[n] for n in names if n not in NOISE)
    assert len(set(each.values())) == len(names)
    assert len(set(shared.values())) == 4
