"""Filling in a definition: what each criterion of `criteria` earned, exactly, and what cannot be said.

A criterion whose published points alone are known takes {points = ...}. What is missing is never filled in: the sum is
then partial, has no value, and says between which two values it must lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dokja.errors import DataError
from dokja.judge.criteria import Criterion, Definition, Gate, exact, round_half_up

ELO_FLOOR, ELO_SPAN = 500, 2000
_NOTHING = Fraction(0)


@dataclass(frozen=True)
class Points:
    """What a criterion earned of `out_of`; None where something is missing. `low` and `high` bound the truth."""

    id: str
    out_of: Fraction
    points: Fraction | None
    low: Fraction
    high: Fraction
    by: str = ""
    """Who measured the input, where that was said."""
    parts: tuple[Points, ...] = ()

    @property
    def share(self) -> Fraction | None:
        """Points of 100 possible ones."""
        return None if self.points is None else 100 * self.points / self.out_of

    def leaves(self) -> Iterator[Points]:
        """The criteria that take an input."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True)
class Total:
    """A definition filled in for one model or team."""

    name: str
    criteria: tuple[Points, ...]
    gates: dict[str, bool | None]
    """None: nobody said."""

    @property
    def value(self) -> Fraction | None:
        """The sum, or None where it is partial."""
        points = [c.points for c in self.criteria]
        return None if None in points else sum((p for p in points if p is not None), _NOTHING)

    @property
    def between(self) -> tuple[Fraction, Fraction]:
        """The least and the most it can be, whatever the missing inputs are."""
        return sum((c.low for c in self.criteria), _NOTHING), sum((c.high for c in self.criteria), _NOTHING)

    @property
    def missing(self) -> list[str]:
        """Criteria without an input."""
        return [leaf.id for c in self.criteria for leaf in c.leaves() if leaf.points is None]

    @property
    def covered(self) -> Fraction:
        """Share of the weight that has an input."""
        leaves = [leaf for c in self.criteria for leaf in c.leaves()]
        whole = sum((leaf.out_of for leaf in leaves), _NOTHING)
        return sum((leaf.out_of for leaf in leaves if leaf.points is not None), _NOTHING) / whole


def evaluate(definition: Definition, field: Mapping[str, Mapping[str, Any]]) -> list[Total]:
    """Every entry of `field` (inputs by criterion, by model or team), in the order given.

    `scale_to_winner` compares within `field`, so all that took part belong in it. An input is as the table above says,
    or {value = ..., by = "who measured it"}, or {points = ...}; for gates true or false. Raises DataError for an input
    that no criterion takes or that cannot be.
    """
    takes = {leaf.id: leaf for leaf in definition.leaves()}
    given_points = {c.id for c in _all(definition.criteria)}
    gates = {g.id for g in definition.gates}
    for name, inputs in field.items():
        for key, value in inputs.items():
            if key not in takes and key not in gates and not (key in given_points and _points_of(value) is not None):
                known = ", ".join([*takes, *gates])
                raise DataError(f"{definition.id} has no criterion {key!r} (of {name}). It takes: {known}.")
    winners = _winners([leaf for leaf in takes.values() if leaf.transform == "scale_to_winner"], field)
    return [
        Total(
            name,
            tuple(_fill(c, inputs, definition.unit, winners, name) for c in definition.criteria),
            {g.id: _said(inputs.get(g.id), g, name) for g in definition.gates},
        )
        for name, inputs in field.items()
    ]


def _winners(criteria: Sequence[Criterion], field: Mapping[str, Mapping[str, Any]]) -> dict[str, Fraction]:
    """The largest mean of each criterion."""
    means = {c.id: [_mean(_plain(i[c.id]), c, n) for n, i in field.items() if _is_input(i.get(c.id))] for c in criteria}
    return {name: max(found) for name, found in means.items() if found}


def _fill(c: Criterion, inputs: Mapping[str, Any], unit: Fraction, winners: Mapping[str, Fraction], who: str) -> Points:
    out_of = c.weight * unit
    raw = inputs.get(c.id)
    by = str(raw.get("by", "")) if isinstance(raw, Mapping) else ""
    if (given := _points_of(raw)) is not None:
        if not 0 <= given <= out_of:
            raise DataError(f"{c.id} of {who} has {float(given):g} points, which is not within 0 to {float(out_of):g}.")
        return Points(c.id, out_of, given, given, given, by)
    if c.parts:
        parts = tuple(_fill(p, inputs, unit, winners, who) for p in c.parts)
        known = [p.points for p in parts if p.points is not None]
        total = sum(known, _NOTHING) if len(known) == len(parts) else None
        low, high = sum((p.low for p in parts), _NOTHING), sum((p.high for p in parts), _NOTHING)
        return Points(c.id, out_of, total, low, high, by, parts)
    if raw is None:
        return Points(c.id, out_of, None, _NOTHING, out_of)
    points = out_of * _share(c, _plain(raw), winners, who)
    points = points if c.rounding is None else round_half_up(points, c.rounding)
    return Points(c.id, out_of, points, points, points, by)


def _share(c: Criterion, value: Any, winners: Mapping[str, Fraction], who: str) -> Fraction:
    if c.transform == "elo":
        return min(Fraction(1), max(_NOTHING, (_number(value, c, who) - ELO_FLOOR) / ELO_SPAN))
    if c.transform == "ratio_to_target":
        return _average([min(Fraction(1), ours / target) for ours, target in _pairs(value, c, who)])
    if c.transform == "scale_to_winner":
        return _mean(value, c, who) / winners[c.id] if winners[c.id] else _NOTHING
    if c.transform == "trimmed_mean":
        marks = sorted(_number(v, c, who) for v in (value if isinstance(value, Sequence) else ()))
        if len(marks) < 3:
            raise DataError(f"{c.id} of {who} leaves out the highest and the lowest mark: give a list of at least 3.")
        mean = _average(marks[1:-1])
    else:
        mean = _mean(value, c, who)
    if not 0 <= mean <= c.scale:
        raise DataError(f"{c.id} of {who} is {float(mean):g}, which is not within 0 to {float(c.scale):g}.")
    return mean / c.scale


def _pairs(value: Any, c: Criterion, who: str) -> list[tuple[Fraction, Fraction]]:
    """[ours, target] or a list of such pairs."""
    pairs = value if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple) else [value]
    if any(not isinstance(p, list | tuple) or len(p) != 2 for p in pairs):
        raise DataError(f"{c.id} of {who} is {value!r}. Give pairs [ours, target].")
    out = [(_number(ours, c, who), _number(target, c, who)) for ours, target in pairs]
    if any(target <= 0 for _, target in out):
        raise DataError(f"{c.id} of {who} has a target of 0 or less, to which nothing can be compared.")
    return out


def _mean(value: Any, c: Criterion, who: str) -> Fraction:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not values:
        raise DataError(f"{c.id} of {who} is an empty list. Leave it out where nothing was measured.")
    return _average([_number(v, c, who) for v in values])


def _average(values: Sequence[Fraction]) -> Fraction:
    return sum(values, _NOTHING) / len(values)


def _number(value: Any, c: Criterion, who: str) -> Fraction:
    try:
        return exact(value)
    except ValueError as err:
        raise DataError(f"{c.id} of {who} is {value!r}, which is not a number.") from err


def _points_of(raw: Any) -> Fraction | None:
    return exact(raw["points"]) if isinstance(raw, Mapping) and "points" in raw else None


def _is_input(raw: Any) -> bool:
    return raw is not None and _points_of(raw) is None


def _plain(raw: Any) -> Any:
    if isinstance(raw, Mapping) and "value" not in raw:
        raise DataError(f"{dict(raw)} is no input. Write a number, or {{value = ..., by = ...}}, or {{points = ...}}.")
    return raw["value"] if isinstance(raw, Mapping) else raw


def _said(raw: Any, gate: Gate, who: str) -> bool | None:
    if raw is not None and not isinstance(raw, bool):
        raise DataError(f"The gate {gate.id} of {who} is {raw!r}. Say true or false, or leave it out.")
    return raw


def _all(criteria: Sequence[Criterion]) -> Iterator[Criterion]:
    for criterion in criteria:
        yield criterion
        yield from _all(criterion.parts)
