"""What was said about published scores, held against the published tables.

| verdict | the claim |
|---|---|
| holds | is what the table says, or follows from it |
| contradicted | differs from what the table says |
| not published | is about a number that no published table has |
| misattributed | is a true number of somebody else's |
| no source | has neither a definition nor a table |

The first two are computed wherever the claim can be. A number that does not hold is looked up in the rest of the table:
often it is a neighbour's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any

from dokja.judge.criteria import exact, round_half_up
from dokja.judge.efficiency import size_ratio
from dokja.judge.published import Table, published

VERDICTS = ("holds", "contradicted", "not published", "misattributed", "no source")


@dataclass(frozen=True)
class Fact:
    """One number of a claim beside the published one; `same_as` names rows of the table that do have it."""

    what: str
    said: float
    published: float | None
    same_as: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether both are the same number as printed."""
        return self.published == self.said


@dataclass(frozen=True)
class Claim:
    """What was said, by whom, and how it stands."""

    id: str
    en: str
    ko: str
    by: str
    by_ko: str
    verdict: str
    facts: tuple[Fact, ...]
    note_en: str
    note_ko: str


@cache
def claims() -> tuple[Claim, ...]:
    """The shipped claims with their verdicts."""
    text = files("dokja.judge").joinpath("published", "claims.toml").read_text(encoding="utf-8")
    return tuple(judged(raw) for raw in tomllib.loads(text, parse_float=Decimal)["claim"])


def judged(raw: Mapping[str, Any]) -> Claim:
    """A claim of claims.toml with its verdict. ValueError for a check or verdict of no known kind."""
    facts = tuple(_facts(raw))
    verdict = raw.get("verdict", "")
    if facts:
        wrong = [f for f in facts if not f.agrees]
        missing = wrong and all(f.published is None for f in wrong)
        verdict = "not published" if missing else "contradicted" if wrong else "holds"
    if verdict not in VERDICTS:
        raise ValueError(f"claim {raw['id']} has the verdict {verdict!r}")
    words = (raw.get("note_en", ""), raw.get("note_ko", ""))
    return Claim(raw["id"], raw["en"], raw["ko"], raw["by"], raw["by_ko"], verdict, facts, *words)


def _facts(raw: Mapping[str, Any]) -> Iterator[Fact]:
    check = raw["check"]
    if check == "none":
        return
    table = published().table(raw["table"])
    if check == "values":
        for v in raw["values"]:
            said, found = float(v["value"]), table.value(v["model"], v["benchmark"])
            others = () if found == said else tuple(_elsewhere(table, v["model"], said))
            yield Fact(f"{v['model']}, {v['benchmark']}", said, found, others)
    elif check == "mean":
        values = [table.value(raw["model"], b) for b in raw["benchmarks"]]
        yield Fact(f"{raw['model']}, mean of {', '.join(raw['benchmarks'])}", float(raw["value"]), _mean(values))
    elif check == "ratio":
        sizes = {m.name: m.total for m in table.models}
        ours, theirs = sizes[raw["model"]], sizes[raw["other"]]
        share = None if ours is None or theirs is None else float(f"{100 * size_ratio(ours, theirs):.1f}")
        yield Fact(f"{raw['model']} / {raw['other']}, % of the parameters", float(raw["value"]), share)
    else:
        raise ValueError(f"claim {raw['id']} has the check {check!r}")


def _mean(values: Sequence[float | None]) -> float | None:
    """Rounded half up to 0.1; None where one is missing."""
    known = [exact(v) for v in values if v is not None]
    if len(known) < len(values):
        return None
    return float(round_half_up(sum(known, Fraction(0)) / len(known), Fraction(1, 10)))


def _elsewhere(table: Table, model: str, value: float) -> Iterator[str]:
    """Other benchmarks of the table at which the model does have the value."""
    at = [m.name for m in table.models].index(model)
    yield from (row.benchmark for row in table.rows if row.values[at] == value)
