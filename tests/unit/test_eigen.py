"""Eigenvectors where the solver fails once, twice or for good."""

from __future__ import annotations

import pytest
import torch

from splitaudit.nn import eigen


def symmetric(n: int = 6) -> torch.Tensor:
    rows = torch.randn(n, n, generator=torch.Generator().manual_seed(0))
    return rows @ rows.T


def reluctant(monkeypatch: pytest.MonkeyPatch, failures: int, silent: bool) -> list[torch.Tensor]:
    """Lets the solver fail at first, with an error or with numbers that are none; returns what it is given."""
    solve, given = torch.linalg.eigh, []

    def solver(product: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given.append(product)
        if len(given) > failures:
            return solve(product)
        if silent:
            return product[0] * float("nan"), product * float("nan")
        raise torch.linalg.LinAlgError("too many repeated eigenvalues")

    monkeypatch.setattr(torch.linalg, "eigh", solver)
    return given


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_vectors_are_found_in_the_precision_of_the_matrix(
    monkeypatch: pytest.MonkeyPatch, failures: int, silent: bool
) -> None:
    product = symmetric()
    given = reluctant(monkeypatch, failures, silent)
    values, vectors = eigen.eigh(product)
    assert [g.dtype for g in given] == [torch.float32, torch.float64, torch.float64][: failures + 1]
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, product, rtol=1e-4, atol=1e-4)


def test_nothing_is_prepared_for_a_failure_that_does_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in double precision takes twice the memory, and the greatest value waits for the device."""

    def unwanted(*_: object) -> None:
        raise AssertionError("made although the first attempt gave numbers")

    product = symmetric()
    monkeypatch.setattr(torch.Tensor, "double", unwanted)
    monkeypatch.setattr(eigen, "_apart", unwanted)
    assert len(eigen.eigh(product)[0]) == 6


@pytest.mark.parametrize("silent", [False, True])
def test_a_matrix_that_no_attempt_solves_is_an_error_and_no_numbers_that_are_none(
    monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    given = reluctant(monkeypatch, 9, silent)
    with pytest.raises(torch.linalg.LinAlgError, match="6×6 has no eigenvectors: the solver does not converge"):
        eigen.eigh(symmetric())
    assert len(given) == 3


def test_a_matrix_with_numbers_that_are_none_is_named_as_the_cause() -> None:
    product = symmetric()
    product[2, 3] = product[3, 2] = float("nan")
    with pytest.raises(torch.linalg.LinAlgError, match="6×6 has no eigenvectors: 2 of its numbers are not finite"):
        eigen.eigh(product)
