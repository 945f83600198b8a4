"""The gap to the frontier of every model of an index, each figure under the name of its method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.errors import DataError
from dokja.judge.capability import Observation, fit
from dokja.judge.gap import MICROSOFT_RATE, Gap, catch_up, frontier_rate, linear_rate, relative
from dokja.judge.index import Score

FEWEST = 3
"""Models and components below which abilities are not fitted: fewer leave as many parameters as scores."""


@dataclass(frozen=True)
class GapRow:
    """One model. None where a method cannot say: a partial score, no date, too few components."""

    model: str
    share: float | None
    gaps: tuple[Gap | None, ...]
    """linear_rate with the published rate, with the measured rate, catch_up, capability."""


def gaps(scores: Sequence[Score], released: Mapping[str, date]) -> tuple[list[GapRow], float | None]:
    """A row per score in the order given, and the rate measured among them (None with one frontier model only).

    Shares and the first three estimators need whole scores of one index; `capability` also takes partial ones.
    """
    whole = [s for s in scores if s.total.value is not None]
    share = {name: float(value) for name, value in relative(whole).items()} if whole else {}
    dated = {
        s.total.name: float(s.total.value) for s in whole if s.total.value is not None and s.total.name in released
    }
    try:
        rate: float | None = frontier_rate(dated, released)
    except ValueError:
        rate = None
    observations = [o for s in scores if s.total.name in released for o in _observations(s)]
    ability = _abilities(observations)
    rows = []
    for s in scores:
        name = s.total.name
        mine = share.get(name)
        rows.append(
            GapRow(
                name,
                mine,
                (
                    None if mine is None else linear_rate(name, mine),
                    None if mine is None or not rate else linear_rate(name, mine, rate),
                    catch_up(name, dated, released) if name in dated else None,
                    catch_up(name, ability, released, "capability") if name in ability else None,
                ),
            )
        )
    return rows, rate


def split_dates(field: Mapping[str, Mapping[str, object]]) -> tuple[dict[str, dict[str, object]], dict[str, date]]:
    """(inputs without `released`, dates by model). Raises DataError for a `released` that is no date."""
    inputs, released = {}, {}
    for name, values in field.items():
        inputs[name] = {k: v for k, v in values.items() if k != "released"}
        day = values.get("released")
        if day is not None and type(day) is not date:
            raise DataError(f"released of {name} is {day!r}. Write a date without quotes: released = 2025-07-15.")
        if day is not None:
            released[name] = day
    return inputs, released


def print_gaps(rows: Sequence[GapRow], rate: float | None, console: Console) -> None:
    """The rows as a table; a leader has no months, which is not the same as none known."""
    measured = "–" if rate is None else f"{rate:.3f}"
    table = Table(title="months behind the frontier", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("model")
    for name in ("F", f"linear rate {MICROSOFT_RATE:.3f}", f"linear rate {measured}", "catch-up", "capability"):
        table.add_column(name, justify="right")
    for row in rows:
        share = "–" if row.share is None else f"{100 * row.share:.1f} %"
        table.add_row(escape(row.model), share, *(_months(gap) for gap in row.gaps))
    console.print(table)
    console.print(
        "F: share of the best score here. Linear rate: behind today's best, if it gains that share of itself a month; "
        f"{MICROSOFT_RATE:.3f} is implied by the AI Diffusion Report, {measured} is of the frontier of these models. "
        "Catch-up: behind the first model that scored as much. Capability: the same on fitted abilities.",
        style="dim",
    )


def _observations(score: Score) -> list[Observation]:
    leaves = [leaf for c in score.total.criteria for leaf in c.leaves()]
    return [(score.total.name, leaf.id, float(leaf.points / leaf.out_of)) for leaf in leaves if leaf.points is not None]


def _abilities(observations: Sequence[Observation]) -> dict[str, float]:
    models, components = {m for m, _, _ in observations}, {b for _, b, _ in observations}
    return fit(observations).ability if min(len(models), len(components)) >= FEWEST else {}


def _months(gap: Gap | None) -> str:
    if gap is None:
        return "–"
    return "leads" if gap.months is None else f"{gap.months:.1f}"
