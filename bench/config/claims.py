"""The shape of a claim: what a paper says of a defense, in terms of columns that a suite measures."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Estimator = Literal["published", "trustworthy"]
Comparison = Literal["ratio", "inverse ratio", "difference"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClaimFigure(_Model):
    """A measured figure on which a claim can be tested."""

    column: str = Field(description="column of cells.csv or targets.csv; with `high` the lower bound of a quantity")
    high: str | None = Field(None, description="column of the quantity's upper bound; null: `column` is the quantity")
    attack: str | None = Field(
        None,
        description="label of the attack whose cells are meant, or a name that no other attack of the suite goes by (without "
        "parameters or what follows @); null: the strongest one (for columns of cells)",
    )
    estimator: Estimator = Field(
        "trustworthy", description="published: computed as the paper's code does, whatever that is worth"
    )
    decides: bool = Field(True, description="false: shown beside the verdict, without a vote")
    note: str = Field("", description="a few words for the table")


class Claim(_Model):
    """A statement about a defense against baselines, with the figures that decide it.

    The claim is compared with every baseline that is still of use: it holds only against all of them, and any one of them
    refutes it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="short name: small letters, digits and -")
    says: str = Field(description="the statement, in one sentence")
    published: str = Field(description="the figure as published, in words")
    defense: str = Field(description="label of the defense that the claim is about")
    against: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)] = (
        Field(description="labels of the baselines")
    )
    compare: Comparison = Field(
        "ratio", description="defense / baseline, baseline / defense (inverse), or defense less baseline"
    )
    at_least: float | None = Field(None, description="the claim holds if the comparison is at least this")
    at_most: float | None = Field(None, description="the claim holds if the comparison is at most this")
    usable_drop: float | None = Field(
        0.05,
        gt=0,
        description="baselines that lose more accuracy than this against none are named and not compared with, unless "
        "their accuracy is at least the defense's or not distinguishable from it (null: all are compared with)",
    )
    figures: Annotated[list[ClaimFigure], Field(min_length=1)] = Field(description="what decides it")

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected exactly one of at_least and at_most")
        if not any(f.decides for f in self.figures):
            raise ValueError("got figures that are all without a vote, expected at least one with decides: true")
        return self
