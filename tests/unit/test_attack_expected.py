"""What attacks claim of themselves on the control edges, and that their default parameters keep it."""

from __future__ import annotations

from typing import Any

import pytest

from splitaudit.attack import INVERTIBLE, Expected
from splitaudit.plugins import ATTACKS
from splitaudit.stats import mean_interval
from splitaudit.testing import Sizes, attacked
from splitaudit.testing.attack_power import UNSEEN

AS_PUBLISHED = {"mle_published", "decoder_published"}
"""Rebuilt as they are, weakness included: nothing is claimed of them."""

ON_IMAGES = [n for n in ATTACKS.names() if "/" not in n and ATTACKS.get(n).infers == "image"]
EXACT = sorted(
    {"linear", "decoder"} | {n for n in ON_IMAGES if ATTACKS.get(n).requires.edge == "weights"} - AS_PUBLISHED
)
"""Where everything is to be seen these have to see it."""

NEEDED: dict[tuple[str, str], dict[str, Any]] = {("decoder", "linear"): {"skip": True}}
"""Attack and edge to what has to differ from the default parameters."""

SIZES = Sizes(private=16, aux_train=512, aux_val=32)


@pytest.mark.parametrize("name", EXACT)
def test_white_box_linear_and_decoder_attacks_claim_a_thousandth_on_every_invertible_edge(name: str) -> None:
    claims = ATTACKS.get(name).expected.control_mse
    assert set(claims) == set(INVERTIBLE)
    assert max(claims.values()) <= 1e-3


def test_only_a_control_and_what_is_rebuilt_as_published_may_be_worse_than_the_prior() -> None:
    excused = {n for n in ON_IMAGES if ATTACKS.get(n).expected.worse_than_prior}
    assert excused == {"nearest", "mle_published"}


def test_a_claim_for_an_edge_that_does_not_exist_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="got claims for identical, expected .* identity, linear, orthogonal"):
        Expected(control_mse={"identical": 1e-3})
    with pytest.raises(ValueError, match="got claims for constant"):
        Expected(control_params={"constant": {}})


@pytest.mark.slow
@pytest.mark.parametrize("edge", INVERTIBLE)
@pytest.mark.parametrize("name", EXACT)
def test_default_parameters_keep_the_claim_on_every_invertible_edge(name: str, edge: str) -> None:
    cls = ATTACKS.get(name)
    run = attacked(cls, edge, params=NEEDED.get((name, edge), {}), sizes=SIZES)
    assert float(run.errors().mean()) <= cls.expected.control_mse[edge]


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_IMAGES)
def test_with_default_parameters_no_attack_is_worse_than_the_prior_by_more_than_its_interval(name: str) -> None:
    cls = ATTACKS.get(name)
    params = {"structure": "autoencoder"} if name == "decoder_published" else {}  # there is no other for a toy
    run = attacked(cls, "constant", params=params, sizes=Sizes(private=24, aux_train=512, aux_val=32))
    low = mean_interval((run.errors() - run.prior_errors()).double().numpy()).low
    assert (low > UNSEEN) == bool(cls.expected.worse_than_prior), low
