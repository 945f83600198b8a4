"""Published scores, each with who measured it and where it was read; `dokja show scores` prints them.

The figures are facts copied from public tables, not measurements of ours. A table's publisher ran its own models; who
ran the others it does not say, and neither do we. `published/scores.json` holds them, `judge.claims` what others said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib.resources import files

from dokja.judge.criteria import exact, round_half_up

AIME_PROBLEMS = 30


@dataclass(frozen=True)
class Model:
    """A column of a table. Parameter counts as the table or the name gives them, None where neither does."""

    name: str
    own: bool
    """Whether it is the publisher's."""
    total: float | None = None
    active: float | None = None


@dataclass(frozen=True)
class Row:
    """A benchmark of a table; a score of None was not published. `scale` is the highest score there is."""

    benchmark: str
    category: str | None
    metric: str
    scale: float
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Table:
    """One published table."""

    id: str
    en: str
    ko: str
    publisher: str
    publisher_ko: str
    source: str
    source_ko: str
    models: tuple[Model, ...]
    rows: tuple[Row, ...]

    def value(self, model: str, benchmark: str, metric: str | None = None) -> float | None:
        """A score, None where the table has none. KeyError where it has no such row or column."""
        at = [m.name for m in self.models].index(model) if any(m.name == model for m in self.models) else None
        row = next((r for r in self.rows if r.benchmark == benchmark and metric in (None, r.metric)), None)
        if at is None or row is None:
            raise KeyError(f"{self.id} has no {benchmark} of {model}")
        return row.values[at]


@dataclass(frozen=True)
class Entry:
    """One number with its origin."""

    table: str
    model: Model
    benchmark: str
    category: str | None
    metric: str
    scale: float
    value: float
    by: str
    source: str


@dataclass(frozen=True)
class Figure:
    """A number that stands in no table: an index, a gap, a total."""

    model: str
    en: str
    ko: str
    value: float
    unit: str
    unit_ko: str
    by: str
    by_ko: str
    source: str
    source_ko: str


@dataclass(frozen=True)
class Published:
    """Everything that is shipped."""

    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]

    def table(self, name: str) -> Table:
        """The table of an id; KeyError where there is none."""
        return {t.id: t for t in self.tables}[name]


@cache
def published() -> Published:
    """The shipped scores."""
    raw = json.loads(files("dokja.judge").joinpath("published", "scores.json").read_text(encoding="utf-8"))
    return Published(tuple(map(_table, raw["tables"])), tuple(Figure(**f) for f in raw["figures"]))


def entries(tables: Iterable[Table] | None = None) -> Iterator[Entry]:
    """Every number of `tables` (all by default) with who measured it."""
    for t in published().tables if tables is None else tables:
        for row in t.rows:
            for model, value in zip(t.models, row.values, strict=True):
                if value is not None:
                    origin = (measured_by(t, model), t.source)
                    yield Entry(t.id, model, row.benchmark, row.category, row.metric, row.scale, value, *origin)


def measured_by(table: Table, model: Model) -> str:
    """In words: a publisher vouches for its own models; of the others only that it printed the number is known."""
    return f"{table.publisher}, own model" if model.own else f"printed by {table.publisher}, who ran it is not said"


def matching(text: str) -> list[Table]:
    """Tables cut down to the rows and columns in which `text` occurs (any case); the whole table where its name does.

    A benchmark's name keeps all its models, a model's name all its benchmarks.
    """
    wanted = text.casefold()
    out = []
    for t in published().tables:
        rows = tuple(r for r in t.rows if wanted in f"{r.benchmark}, {r.metric} {r.category or ''}".casefold())
        columns = [i for i, m in enumerate(t.models) if wanted in m.name.casefold()]
        if wanted in f"{t.id} {t.en} {t.ko}".casefold():
            out.append(t)
        elif rows:
            out.append(_cut(t, rows, range(len(t.models))))
        elif columns:
            out.append(_cut(t, t.rows, columns))
    return out


def whole_number(percent: float, items: int, digits: int = 1) -> int | None:
    """k where `percent`, printed with `digits` decimals, is k of `items`; None where no whole k prints so.

    cons@k of a vote without shared ties is always such a number.
    """
    step = Fraction(1, 10**digits)
    k = int(round_half_up(exact(percent) * items / 100, Fraction(1)))
    return k if round_half_up(Fraction(100 * k, items), step) == exact(percent) else None


def odd_vote(row: Row, value: float | None) -> bool:
    """Whether a printed cons@k of AIME is no whole number of its 30 problems."""
    vote = row.metric.startswith("cons@") and row.benchmark.startswith("AIME")
    return vote and value is not None and whole_number(value, AIME_PROBLEMS) is None


def _cut(t: Table, rows: Iterable[Row], columns: Iterable[int]) -> Table:
    columns = list(columns)
    kept = tuple(Row(r.benchmark, r.category, r.metric, r.scale, tuple(r.values[i] for i in columns)) for r in rows)
    models = tuple(t.models[i] for i in columns)
    return replace(t, models=models, rows=kept)


def _table(raw: Mapping[str, object]) -> Table:
    models, rows = raw["models"], raw["rows"]
    assert isinstance(models, list) and isinstance(rows, list)
    head = {k: str(raw[k]) for k in ("id", "en", "ko", "publisher", "publisher_ko", "source", "source_ko")}
    kept = tuple(Row(**{**r, "values": tuple(r["values"])}) for r in rows)
    return Table(**head, models=tuple(Model(**m) for m in models), rows=kept)
