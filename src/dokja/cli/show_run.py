"""How a run stands: its stages with cost and last figures, the table by stage, the state of the ledger."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dokja.ledger.chain import read_chain, verify
from dokja.ledger.manifest import read_manifest
from dokja.ledger.metrics import TIMING_KEYS, read_metrics
from dokja.ledger.progress import clock
from dokja.ledger.run import Run

BLOCKS = "▁▂▃▄▅▆▇█"
FIGURES = {
    "preference": ("step", "loss", "accuracy", "margin"),
    "rl": ("step", "reward", "accuracy_think", "accuracy_direct", "thought_tokens", "entropy", "mismatch_kl", "kept"),
}
"""What is shown of a stage's last step; of stages not listed, everything but times."""
CURVES = {"preference": ("loss", "accuracy"), "rl": ("reward", "thought_tokens", "eval_think", "eval_direct")}
"""What is drawn of a stage; `loss` of stages not listed."""


def show_run(folder: Path, console: Console | None = None) -> None:
    """Print the run in `folder`. Nothing is changed and no lock is taken, so a run may be watched while it is built."""
    console = console or Console()
    attempts = Run(folder).attempts()
    console.print(f"{folder} · {len(attempts)} attempt{'s' if len(attempts) != 1 else ''}", style="bold")
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("stage", "state", "time", "tokens", "PFLOP", "peak GB", "last figures"):
        table.add_column(name, justify="left" if name in ("stage", "state", "last figures") else "right")
    for stage in stages(folder):
        table.add_row(*_row(stage))
    console.print(table)
    for stage in stages(folder):
        metrics = read_metrics(stage / "metrics.jsonl")
        for key in CURVES.get(stage.name, ("loss",)):
            values = [row[key] for row in metrics if isinstance(row.get(key), (int, float))]
            if len(values) > 1:
                words = f"{stage.name:>10} {key} {values[0]:.3f} {sparkline(values)} {values[-1]:.3f}"
                console.print(words, markup=False)
    _by_stage(folder / "judge", console)
    problems = verify(folder)
    if problems:
        for problem in problems:
            console.print(problem, style="red", markup=False)
    else:
        console.print(f"ledger: {len(read_chain(folder))} entries, chain unbroken", style="dim")


def stages(folder: Path) -> list[Path]:
    """Stage folders, in the order they were begun."""
    found = [p for p in folder.iterdir() if (p / "manifest.json").exists() or (p / "metrics.jsonl").exists()]
    return sorted(found, key=lambda p: min(f.stat().st_mtime for f in p.iterdir() if f.is_file()))


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The curve of `values` in blocks, each the mean of its stretch."""
    width = min(width, len(values))
    edges = [len(values) * i // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def _row(stage: Path) -> tuple[str, ...]:
    manifest = read_manifest(stage)
    metrics = read_metrics(stage / "metrics.jsonl")
    figures = _figures(metrics, FIGURES.get(stage.name)) if metrics else ""
    if manifest is None:
        return (stage.name, "under way", "", "", "", "", figures)
    cost = manifest.cost
    flops = cost.get("flops_6nd", 0) + cost.get("flops_attention", 0)
    return (
        stage.name,
        "done",
        clock(cost["seconds"]) if "seconds" in cost else "",
        f"{cost['tokens']:,.0f}" if cost.get("tokens") else "",
        f"{flops / 1e15:.3g}" if flops else "",
        f"{cost['peak_memory_bytes'] / 1e9:.2f}" if cost.get("peak_memory_bytes") else "",
        figures,
    )


def _by_stage(judged: Path, console: Console) -> None:
    """The table of judge/stages.json, where more than one stage was judged."""
    from dokja.judge.stages import STAGES, print_stages

    path = judged / STAGES
    if path.exists():
        try:
            print_stages(json.loads(path.read_text(encoding="utf-8")), console)
        except (ValueError, KeyError, TypeError, AttributeError):
            console.print(f"{path} is damaged. Remove the judge folder and build again.", style="red", markup=False)


def _figures(metrics: Sequence[dict[str, Any]], keys: Sequence[str] | None) -> str:
    """The last step in words; each of `keys` as it last was, since not every step measures everything."""
    row = metrics[-1]
    if keys is not None:
        row = {key: next((m[key] for m in reversed(metrics) if m.get(key) is not None), None) for key in keys}
    return " ".join(
        f"{key} {value:.4g}" for key, value in row.items() if key not in TIMING_KEYS and isinstance(value, (int, float))
    )
