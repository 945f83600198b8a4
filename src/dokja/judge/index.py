"""Indexes and stage evaluations by name and version, and scores that know which version they are of.

A score of one version says nothing about another: the EXAONE 4.0 32B of 64 points (v2), 51 (2025-08) and 43 (v3) is
one model. So a score carries the definition's name, version and hash, and `same_index` refuses to let two meet.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dokja.errors import ConfigError, DataError
from dokja.judge.criteria import Definition
from dokja.judge.points import Points, Total, evaluate


@dataclass(frozen=True)
class Score:
    """A total with the identity of what it is a total of."""

    index: str
    version: str
    definition_sha256: str
    total: Total

    def to_json(self) -> dict[str, Any]:
        """Plain values; points as decimals, None where partial."""
        low, high = self.total.between
        return {
            "index": self.index,
            "version": self.version,
            "definition_sha256": self.definition_sha256,
            "name": self.total.name,
            "value": _plain(self.total.value),
            "partial": self.total.value is None,
            "covered": _plain(self.total.covered),
            "between": [_plain(low), _plain(high)],
            "missing": self.total.missing,
            "gates": self.total.gates,
            "criteria": [_points(c) for c in self.total.criteria],
        }


def names() -> list[str]:
    """All definitions that are shipped."""
    folder = files("dokja.judge").joinpath("definitions")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name: str) -> tuple[Definition, str]:
    """(definition, its sha256) of a shipped name or of a TOML file of one's own. Raises ConfigError otherwise."""
    if name in names():
        data = files("dokja.judge").joinpath("definitions", f"{name}.toml").read_bytes()
    elif name.endswith(".toml") and Path(name).is_file():
        data = Path(name).read_bytes()
    else:
        raise ConfigError(f"There is no index {name!r}. Name one of {', '.join(names())}, or a TOML file of your own.")
    try:
        raw = tomllib.loads(data.decode(), parse_float=Decimal)
        return Definition.model_validate(raw), hashlib.sha256(data).hexdigest()
    except (ValueError, ValidationError) as err:
        first = err.errors()[0]["msg"] if isinstance(err, ValidationError) else str(err)
        raise ConfigError(f"{name} is no definition of an index: {first}.") from err


def score(name: str, field: Mapping[str, Mapping[str, Any]]) -> list[Score]:
    """Scores of `field` (inputs by criterion, by model or team); errors as `load` and `points.evaluate`."""
    definition, digest = load(name)
    return [Score(definition.id, definition.version, digest, total) for total in evaluate(definition, field)]


def read_inputs(path: str | Path) -> dict[str, dict[str, Any]]:
    """Inputs by criterion, by model, of a TOML file: a table per model. Raises DataError where it is none."""
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as err:
        raise DataError(f"{path} cannot be read ({err}). Give a TOML file with a table of values per model.") from err
    if not raw or not all(isinstance(v, dict) for v in raw.values()):
        raise DataError(f'{path} must hold a table per model: a line ["its name"], then a line per criterion.')
    return raw


def same_index(scores: Sequence[Score]) -> None:
    """Raises DataError where scores are of different indexes or versions, or where one is partial."""
    kinds = {(s.index, s.version, s.definition_sha256) for s in scores}
    if len(kinds) > 1:
        said = " and ".join(sorted(f"{index} {version} ({digest[:8]})" for index, version, digest in kinds))
        raise DataError(f"Scores of {said} cannot be compared. Compute all of them by one definition.")
    for s in scores:
        if s.total.value is None:
            missing = ", ".join(s.total.missing)
            raise DataError(
                f"{s.total.name} has no {s.index} score, it lacks {missing}. Measure that, or leave it out."
            )


def flips(a: Total, b: Total) -> list[tuple[str, str, Fraction]]:
    """How little the weights must move to put the loser of a and b ahead: (from, to, points of weight), least first.

    Moving t points of weight from criterion i to j changes the margin by t * (d_j - d_i), with d the difference of the
    two totals' shares. Only moves that the weight of i allows are listed; an empty list means that no single move
    suffices. Raises DataError where a total is partial.
    """
    if a.value is None or b.value is None:
        raise DataError("A partial total has no rank that could change. Fill in what it lacks.")
    if a.value < b.value:
        a, b = b, a
    assert a.value is not None and b.value is not None
    margin = a.value - b.value
    share = {x.id: (_of(x) - _of(y), x.out_of) for x, y in zip(a.criteria, b.criteria, strict=True)}
    moves = [
        (i, j, margin / (di - dj))
        for i, (di, weight) in share.items()
        for j, (dj, _) in share.items()
        if di > dj and margin <= weight * (di - dj)
    ]
    return sorted(moves, key=lambda move: move[2])


def _of(points: Points) -> Fraction:
    assert points.points is not None
    return points.points / points.out_of


def _points(p: Points) -> dict[str, Any]:
    said = {"id": p.id, "points": _plain(p.points), "out_of": _plain(p.out_of)}
    return {**said, **({"by": p.by} if p.by else {}), **({"parts": [_points(x) for x in p.parts]} if p.parts else {})}


def _plain(value: Fraction | None) -> float | None:
    return None if value is None else round(float(value), 6)
