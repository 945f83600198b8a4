"""What answers took: speed out of the records of streams, and the table of tokens, seconds and cost by task."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.judge.records import Record
from dokja.judge.speed import Speed, Stream, measure

if TYPE_CHECKING:
    from dokja.judge.table import Summary


def stream_of(record: Record) -> Stream | None:
    """When the tokens of an answer came; None where it was not streamed."""
    times = record.times
    if times is None or times.first_token is None or times.last_token is None:
        return None
    rest = record.usage.completion_tokens - times.first_tokens
    return Stream(((times.first_token, times.first_tokens), (times.last_token, rest)), record.usage.reasoning_tokens)


def speed_of(records: Iterable[Record]) -> Speed | None:
    """Medians over the answers that were streamed; None without any."""
    streams = [stream for record in records if (stream := stream_of(record)) is not None]
    return measure(streams) if streams else None


def print_spent(summary: Summary, console: Console | None = None) -> None:
    """Print, by task and mode, tokens read, thought and written per answer, and what else is known: seconds per answer,
    time to the first token and output speed, and the cost of all answers."""
    console = console or Console()
    rows = [*summary.rows["task"], *summary.rows["overall"]]
    timed = any(math.isfinite(r.seconds) for r in rows)
    streamed = any(r.speed for r in rows)
    priced = any(math.isfinite(r.cost) for r in rows)
    title = "per answer: tokens, time" + "; cost of all" * priced
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, padding=0)
    for name in ("task", "mode"):
        table.add_column(name, no_wrap=True)
    names = ["answers", "read", "thought", "written"] + ["s"] * timed + ["first s", "tokens/s"] * streamed
    for name in names + [str(summary.settings.get("currency", "cost"))] * priced:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [row.task or "all", row.mode, f"{row.answers}"]
        cells += [_number(x, 0) for x in (row.prompt_tokens, row.thought_tokens, row.completion_tokens)]
        cells += [_number(row.seconds, 2)] * timed
        if streamed:
            speed = row.speed
            cells += [_number(speed.first_token, 3), _number(speed.output_speed, 1)] if speed else ["–", "–"]
        cells += [_number(row.cost, 4)] * priced
        table.add_row(*map(escape, cells), style="" if row.task else "bold")
    console.print(table)


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"
