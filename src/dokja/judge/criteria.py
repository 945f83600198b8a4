"""What indexes and stage evaluations are made of: a tree of criteria with weights, read from TOML.

| transform | share of a criterion's weight that its input earns | input |
|---|---|---|
| linear | x / scale | a number, or a list of repeats whose mean counts |
| likert | mean / scale | ratings of 1 to `scale` |
| trimmed_mean | mean without the highest and the lowest / scale | one mark per reviewer |
| ratio_to_target | mean of min(ours / target, 1) | a pair, or a list of pairs [ours, target] |
| scale_to_winner | mean / the largest mean of all that take part | a number or a list of ratings |
| elo | clamp((x - 500) / 2000, 0, 1) | an Elo rating, frozen when first scored |

A criterion is weight * share, rounded half up to `rounding` where it says so, and only then added: rounding after the
sum gives other totals. All figures are exact fractions of the decimals written, never binary floats. `points` does the
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Exact = Annotated[Fraction, BeforeValidator(lambda v: exact(v))]
Transform = Literal["linear", "likert", "trimmed_mean", "ratio_to_target", "scale_to_winner", "elo"]
Evidence = Literal["verified", "secondary", "recalled", "inferred"]


class Criterion(BaseModel):
    """A weight and either what earns it or the criteria it consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    en: str
    ko: str
    weight: Exact
    transform: Transform = "linear"
    scale: Exact = Fraction(100)
    """The input that earns the whole weight."""
    rounding: Exact | None = None
    """Points are rounded half up to a multiple of this."""
    repeats: int | None = None
    """How often the makers ask each item."""
    evidence: Evidence = "verified"
    note: str = ""
    parts: tuple[Criterion, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Criterion:
        total = sum((p.weight for p in self.parts), Fraction(0))
        if self.parts and total != self.weight:
            raise ValueError(f"the parts of {self.id} weigh {total} and it {self.weight}")
        return self

    def leaves(self) -> Iterator[Criterion]:
        """The criteria that take an input, in order."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


class Gate(BaseModel):
    """A condition that no points make up for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    en: str
    ko: str


class Definition(BaseModel):
    """An index or an evaluation of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    name: str
    version: str
    date: str
    by: str
    """Who defined it."""
    source: str
    """Where the rules were read, and how sure that is."""
    total: Exact = Fraction(100)
    """What full marks are; weights are scaled to it."""
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    gates: tuple[Gate, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Definition:
        weight = sum((c.weight for c in self.criteria), Fraction(0))
        if weight not in (1, self.total):
            raise ValueError(f"the weights of {self.id} add up to {weight}, neither 1 nor {self.total}")
        names = [leaf.id for leaf in self.leaves()]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.id} names a criterion twice")
        return self

    def leaves(self) -> Iterator[Criterion]:
        """All criteria that take an input."""
        for criterion in self.criteria:
            yield from criterion.leaves()

    @property
    def unit(self) -> Fraction:
        """Points of a weight of 1."""
        return self.total / sum((c.weight for c in self.criteria), Fraction(0))


def exact(value: Any) -> Fraction:
    """A number as it is written: "1/6", 0.1 as one tenth. ValueError for what is no number."""
    if isinstance(value, Fraction | int) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, float | str | Decimal):
        return Fraction(str(value))
    raise ValueError(f"{value!r} is not a number")


def round_half_up(value: Fraction, step: Fraction) -> Fraction:
    """The nearest multiple of `step`; a value in the middle goes up."""
    return (value / step + Fraction(1, 2)).__floor__() * step
