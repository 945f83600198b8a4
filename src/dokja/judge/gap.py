"""How far behind the frontier: a share of its score, and months by estimators that answer different questions.

| estimator | months | compares with |
|---|---|---|
| `linear_rate` | (1 - F) / r | today's frontier, on the assumption that it gains r of itself every month |
| `catch_up` | release(m) - first day on which anybody scored as much | the frontier of that day |
| `capability` | catch_up on fitted abilities (`judge.capability`) | the same, where models sat different benchmarks |

They disagree by design, so every result carries its method's name.

Sources: `linear_rate` reproduces the AI Diffusion Report of Microsoft's AI Economy Institute (2025-10-31), which
republishes scores of Artificial Analysis; its formula is not printed there, and the pairs it publishes imply
r = 0.030 per month (tests/judge/test_gap.py). `catch_up` is the horizontal gap of Epoch AI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal

from dokja.judge.index import Score, same_index

Method = Literal["linear_rate", "catch_up", "capability"]
DAYS = 365.2425 / 12
"""Days of a mean month."""
MICROSOFT_RATE = 0.030
"""Share of its own score that the frontier gained per month, as the report's pairs imply."""


@dataclass(frozen=True)
class Gap:
    """Months behind the frontier by one method. `low` and `high` are a 95 % interval, where there is one."""

    model: str
    method: Method
    months: float | None
    """None: the frontier never scored as much before (the model leads), which no number of months says."""
    low: float | None = None
    high: float | None = None
    passed_by: str = ""
    """The model that was first to score as much (`catch_up`, `capability`)."""


def relative(scores: list[Score]) -> dict[str, Fraction]:
    """F of each: its score over the highest. Raises DataError where scores are of different indexes, or partial."""
    same_index(scores)
    values = {s.total.name: s.total.value for s in scores if s.total.value is not None}
    best = max(values.values())
    return {name: value / best for name, value in values.items()}


def linear_rate(model: str, share: float, rate: float = MICROSOFT_RATE) -> Gap:
    """Months until a frontier that gains `rate` of itself per month is 1 / share ahead: (1 - F) / r.

    Negative for a model ahead of the frontier. ValueError for a rate of 0 or less.
    """
    if rate <= 0:
        raise ValueError(f"a frontier that gains {rate} per month is never out of reach")
    return Gap(model, "linear_rate", (1 - share) / rate)


def frontier_rate(scores: Mapping[str, float], released: Mapping[str, date]) -> float:
    """r measured: the least-squares slope per month of the frontier's score, over its last value.

    The frontier is every model that was the best on its day of release. ValueError where there are fewer than two.
    """
    points = [((day - date.min).days / DAYS, value) for day, _, value in frontier(scores, released)]
    if len(points) < 2:
        raise ValueError("a rate needs two models that were the best of their day")
    middle = sum(x for x, _ in points) / len(points)
    slope = sum((x - middle) * y for x, y in points) / sum((x - middle) ** 2 for x, _ in points)
    return slope / points[-1][1]


def frontier(scores: Mapping[str, float], released: Mapping[str, date]) -> list[tuple[date, str, float]]:
    """(day, model, score) of each model that on its day scored more than all before it."""
    out: list[tuple[date, str, float]] = []
    for day, negative, name in sorted((released[name], -value, name) for name, value in scores.items()):
        if not out or -negative > out[-1][2]:
            out.append((day, name, -negative))
    return out


def catch_up(model: str, scores: Mapping[str, float], released: Mapping[str, date], method: Method = "catch_up") -> Gap:
    """Months between the first model with at least this score and this model; 0 for one that was first itself.

    None where only models released later have reached it: the gap is censored.
    """
    for day, name, value in frontier({k: v for k, v in scores.items() if k != model}, released):
        if value >= scores[model]:
            if day >= released[model]:
                break
            return Gap(model, method, (released[model] - day).days / DAYS, passed_by=name)
    return Gap(model, method, None)
