"""What decode_speed.py tells: tables, and shares of the limit as a picture, from the figures that it writes as JSON.

python bench/decode_report.py FIGURES.json      # the tables once more
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from workers import ratios, spread, times

PAIRS = (
    ("dokja int4", "llama.cpp Q4_0"), ("dokja int8", "llama.cpp Q8_0"), ("dokja bf16", "llama.cpp BF16"),
    ("dokja int4", "transformers bf16"), ("dokja bf16", "transformers bf16"),
)  # fmt: skip
Figures = Mapping[str, Any]


def terminal() -> Console:
    """Wide enough for the tables where there is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def show(figures: Figures, console: Console) -> None:
    """Speeds, ratios, the foreign core, and what else must be said."""
    memory, threads = spread(figures["memory_gb_per_second"]), figures["environment"]["threads"]
    same = {name: n for name, n in figures["same_first_tokens"].items() if name != "of"}
    console.print(
        f"{figures['parameters'] / 1e6:,.0f} M parameters, {threads} threads on {figures['environment']['cpu']}; the "
        f"memory gives {memory['median']:.1f} GB/s ({memory['min']:.1f} – {memory['max']:.1f})"
    )
    _speeds(figures, console)
    _ratios(figures, console)
    _disturbed(figures, console)
    for note in figures["notes"]:
        console.print(note, markup=False)
    for name, told in figures["peers"].items():
        console.print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in told.items()))
    told = ", ".join(f"{name} {n}" for name, n in same.items())
    console.print(f"best first tokens as in bf16, of {figures['same_first_tokens']['of']}: {told}")
    asleep = ", ".join(f"{name} {share:.1%}" for name, share in figures["asleep"].items())
    console.print(f"most that a sleeping engine used of a core: {asleep}")


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left")
    return table


def _speeds(figures: Figures, console: Console) -> None:
    jobs, one = [j["name"] for j in figures["jobs"]], first_decode(figures)
    table = _table("tokens/s (least – most)", ["engine", *jobs, f"{one}: of limit"])
    for name, engine in figures["engines"].items():
        cells = [_range(spread(engine["tokens_per_second"][job])) for job in jobs]
        table.add_row(name, *cells, _range(spread(engine["of_limit"][one]), share=True))
    console.print(table)


def _ratios(figures: Figures, console: Console) -> None:
    jobs, engines = [j["name"] for j in figures["jobs"]], figures["engines"]
    table = _table("ours / theirs, by round", ["pair", *jobs])
    for pair in PAIRS:
        if all(name in engines for name in pair):
            a, b = (engines[name]["tokens_per_second"] for name in pair)
            table.add_row(" / ".join(pair), *(times(ratios(a[job], b[job])) for job in jobs))
    if table.row_count:
        console.print(table)


def _disturbed(figures: Figures, console: Console) -> None:
    table = _table(f"{first_decode(figures)} beside a foreign busy core", ["engine", "quiet", "disturbed", "share"])
    for name, engine in figures["engines"].items():
        if pairs := engine["quiet_and_disturbed"]:
            quiet, busy = (_range(spread(values)) for values in zip(*pairs, strict=True))
            table.add_row(name, quiet, busy, _range(spread([b / q for q, b in pairs]), share=True))
    if table.row_count:
        console.print(table)


def _range(s: Mapping[str, float], share: bool = False) -> str:
    """`31.2 (30.0 – 33.1)`."""
    kind = ".0%" if share else ",.1f" if s["median"] < 100 else ",.0f"
    return f"{s['median']:{kind}} ({s['min']:{kind}} – {s['max']:{kind}})"


def first_decode(figures: Figures) -> str:
    """The decode of the fewest sequences, which the limit is told for."""
    return str(min((j for j in figures["jobs"] if j["do"] == "decode"), key=lambda j: j["batch"])["name"])


def bars(figures: Figures) -> str:
    """Share of the limit by engine, as an SVG of its own: a bar to the median, a line from the least to the most."""
    job, out, height = first_decode(figures), [], 26 * len(figures["engines"]) + 30
    for n, (name, engine) in enumerate(figures["engines"].items()):
        s, y = spread(engine["of_limit"][job]), 26 * n + 6
        middle, least, most = (150 + 400 * s[key] for key in ("median", "min", "max"))
        colour = "#2563eb" if name.startswith("dokja") else "#9ca3af"
        out.append(
            f'<text x="142" y="{y + 13}" text-anchor="end">{name}</text>'
            f'<rect x="150" y="{y}" width="{middle - 150:.1f}" height="18" fill="{colour}"/>'
            f'<path d="M{least:.1f} {y + 9}H{most:.1f}" stroke="currentColor"/>'
            f'<text x="{most + 6:.1f}" y="{y + 13}">{s["median"]:.0%}</text>'
        )
    label = f"{job}: bytes read a second, of what the memory gives"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {height}" font-family="sans-serif" font-size="12" '
        f'fill="currentColor" role="img" aria-label="{label}"><path d="M550 0V{height - 24}" stroke="currentColor" '
        f'stroke-dasharray="3"/>{"".join(out)}<text x="150" y="{height - 8}">{label}</text></svg>\n'
    )


if __name__ == "__main__":
    show(
        json.loads(Path(sys.argv[1]).read_text()), Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    )
