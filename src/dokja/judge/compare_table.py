"""A comparison on the terminal and as a file."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.judge.compare import Bar, Change, CompareRow, Comparison
from dokja.ledger.atomic import write_atomic
from dokja.text.chat import MODES

NOTES = {
    "grader_version": "Their answers were graded by different versions of the graders",
    "template_sha256": "Their chat templates differ",
    "sampling": "Their answers were drawn differently",
    "same_weights": "Two of them have the same weights",
    "other_texts": "Problems of one id that ask different things, left out",
    "not_shared": "Problems that not all of them answered, left out",
}
FAULTS = ("truncated", "unparseable", "refused", "grader_failed")


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Scores and differences by family and mode, then what keeps the models from being comparable."""
    console = console or Console()
    first, *others = comparison.sides
    table = Table(
        title="pass@1 in %, 95 % intervals; differences in points, paired, to the first model",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE,
        collapse_padding=True,
    )
    table.add_column("mode", no_wrap=True)
    table.add_column("problems of", no_wrap=True)
    table.add_column("n", justify="right")
    for side in comparison.sides:
        table.add_column(escape(side.name), justify="right")
    for side in others:
        table.add_column(escape(f"{side.name} − {first.name}"), justify="right")
        table.add_column("p", justify="right", no_wrap=True)
    table.add_column("could show", justify="right")
    for mode in MODES:
        for row in (r for r in comparison.rows if r.mode == mode):
            table.add_row(*_cells(row), style="bold" if row.kind == "all" else "")
        table.add_section()
    console.print(table)
    console.print(
        "p is corrected for the number of rows (Holm). A row could show a difference of that many points four times in "
        "five; * is a difference that it does show.",
        style="dim",
    )
    for name, words in zip((s.name for s in comparison.sides), _faults(comparison), strict=True):
        if words:
            console.print(f"{name}: {words}.", markup=False, highlight=False)
    for key, details in comparison.notes:
        words = f"{NOTES[key]}: {details}." if details else f"{NOTES[key]}."
        console.print(words, style="yellow", markup=False, highlight=False)


def write_json(comparison: Comparison, path: str | Path) -> Path:
    """Every figure as JSON, written atomically; returns the file's path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison.to_json(), ensure_ascii=False, indent=1, default=str, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())
    return path


def _cells(row: CompareRow) -> list[str]:
    cells = [
        "think" if row.mode == "think" else "at once",
        "all" if row.name is None else row.name,
        str(row.problems),
        *(_score(bar) for bar in row.bars),
    ]
    for change in row.changes:
        cells += [_difference(change), "< 0.001" if change.adjusted_p < 0.001 else f"{change.adjusted_p:.3f}"]
    return [*map(escape, cells), f"{100 * max(c.detectable for c in row.changes):.1f}"]


def _score(bar: Bar) -> str:
    e = bar.score
    return f"{100 * e.value:.1f} [{100 * e.low:.0f}, {100 * e.high:.0f}]"


def _difference(change: Change) -> str:
    e = change.difference
    star = " " if change.verdict == "not told apart" else "*"
    value, low, high = (f"{100 * v:+.1f}".replace("-", "−") for v in (e.value, e.low, e.high))
    return f"{value} [{low}, {high}]{star}".replace("+0.0", "0.0").replace("−0.0", "0.0")


def _faults(comparison: Comparison) -> list[str]:
    """By model: how many answers were lost to something else than being wrong."""
    out = []
    for n in range(len(comparison.sides)):
        bars = [row.bars[n] for row in comparison.rows if row.kind == "all"]
        found = {name: sum(getattr(bar, name) for bar in bars) for name in FAULTS}
        lost = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.items() if count)
        out.append(f"of {sum(bar.answers for bar in bars):,} answers {lost}" if lost else "")
    return out
