"""Curves of rl_algorithms.py: runs brought onto one grid of seconds, bands over seeds, and a picture of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

FIGURES = {
    "eval_think": "Accuracy, thinking",
    "eval_direct": "Accuracy, at once",
    "eval_thought_tokens": "Tokens of a thought",
}
"""What is drawn, of the metrics of evaluations."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc4c9a", "#8c6d00", "#56b4e9", "#5b3fa0", "#444444")
Band = tuple[np.ndarray, np.ndarray, np.ndarray]


def on_grid(evaluations: Sequence[dict[str, Any]], key: str, grid_N: np.ndarray) -> np.ndarray:
    """A figure of one run at the given seconds, linear between its evaluations."""
    return np.interp(grid_N, [row["elapsed"] for row in evaluations], [row[key] for row in evaluations])


def band(curves_SN: Sequence[np.ndarray]) -> Band:
    """Mean, least and most over seeds."""
    stacked = np.stack(curves_SN)
    return stacked.mean(0), stacked.min(0), stacked.max(0)


def summary(rows: Sequence[dict[str, Any]], start: dict[str, float], seconds: float) -> dict[str, Any]:
    """A run's evaluations, the starting weights' first, and its figures after `seconds` of steps.

    rows: every step's metrics with `elapsed`. Accuracies and thoughts are interpolated, `mismatch_kl` and `kept` are
    means over the steps within `seconds`.
    """
    told = [{k: v for k, v in row.items() if not k.startswith("rate/")} for row in rows if "eval_think" in row]
    evaluations = [{"step": 0, "elapsed": 0.0, **start}, *told]
    within = [row for row in rows if row["elapsed"] <= seconds] or rows[:1]
    at = {key: float(on_grid(evaluations, key, np.array([seconds]))[0]) for key in FIGURES}
    means = {key: float(np.mean([row[key] for row in within if key in row])) for key in ("mismatch_kl", "kept")}
    return {"at_limit": {**at, **means, "steps": len(within)}, "evaluations": evaluations}


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = max(high - low, 1e-6)
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= about)
    return [n * step for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def panel(x0: int, key: str, title: str, bands: dict[str, dict[str, Band]], start: float, grid_N: np.ndarray) -> str:
    """One figure's axes, shades and lines, with the left axis at `x0`."""
    wide, high, top = 292, 250, 74
    every = [start, *(float(v) for found in bands.values() for curve in found[key] for v in curve)]
    room = 1.0 if "tokens" in key else 0.02  # what does not move is no zoom into rounding
    marks = ticks(min(min(every), start - room), max(max(every), start + room))

    def x(seconds: float) -> float:
        return x0 + wide * seconds / float(grid_N[-1])

    def y(value: float) -> float:
        return top + high * (marks[-1] - value) / (marks[-1] - marks[0])

    def path(curve_N: np.ndarray, places_N: np.ndarray = grid_N) -> str:
        return " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(places_N, curve_N, strict=True))

    out = [f'<text x="{x0}" y="{top - 16}" font-weight="600">{title}</text>']
    for v in marks:
        label = f"{round(v, 6):g}" if "tokens" in key else f"{round(100 * v, 6):g} %"
        out.append(f'<path d="M{x0} {y(v):.1f}h{wide}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{x0 - 7}" y="{y(v) + 4:.1f}" text-anchor="end">{label}</text>')
    for t in (t for t in ticks(0, float(grid_N[-1])) if t <= grid_N[-1]):
        out.append(f'<path d="M{x(t):.1f} {top + high}v5" stroke="#888"/>')
        out.append(f'<text x="{x(t):.1f}" y="{top + high + 19}" text-anchor="middle">{t:g}</text>')
    out.append(f'<path d="M{x0} {top + high}h{wide}" stroke="#888"/>')
    out.append(f'<text x="{x0 + wide / 2}" y="{top + high + 37}" text-anchor="middle" fill="#666">seconds</text>')
    out.append(f'<path d="M{x0} {y(start):.1f}h{wide}" stroke="#777" stroke-dasharray="3 4"/>')
    for n, found in enumerate(bands.values()):
        around = f"{path(found[key][2])} {path(found[key][1][::-1], grid_N[::-1])}"
        out.append(f'<polygon points="{around}" fill="{COLOURS[n % 8]}" fill-opacity="0.12"/>')
    for n, found in enumerate(bands.values()):
        out.append(f'<polyline points="{path(found[key][0])}" fill="none" {pen(n)}/>')
    return "\n".join(out)


def pen(number: int) -> str:
    """Stroke of a line: eight colours, then the same dashed."""
    dashes = "" if number < 8 else ' stroke-dasharray="7 3"'
    return f'stroke="{COLOURS[number % 8]}" stroke-width="2" stroke-linejoin="round"{dashes}'


def picture(results: dict[str, list[dict[str, Any]]], start: dict[str, float], seconds: float) -> str:
    """A self-contained SVG: one panel per figure, one colour per algorithm; line: mean, shade: least to most.

    results: by name, what `summary` gave for each seed; a name without any is left out.
    """
    grid_N = np.linspace(0.0, seconds, 101)
    bands = {
        name: {key: band([on_grid(run["evaluations"], key, grid_N) for run in runs]) for key in FIGURES}
        for name, runs in results.items()
        if runs
    }
    seeds = max(map(len, results.values()), default=0)
    foot, told = 388, f"mean, least and most of {seeds} seeds" if seeds > 1 else "one seed"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1080 {foot + 22 * -(-len(bands) // 5)}" font-size="12" '
        'font-family="Noto Sans, Helvetica, Arial, sans-serif" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text x="24" y="28" font-size="16" font-weight="600">Held-out problems against seconds of RL<tspan dx="14" '
        f'font-size="12" font-weight="400" fill="#666">{told}; dashed: the starting weights</tspan></text>',
    ]
    for n, (key, title) in enumerate(FIGURES.items()):
        out.append(panel(60 + n * 354, key, title, bands, start[key], grid_N))
    for n, name in enumerate(bands):
        x, y = 60 + n % 5 * 200, foot + n // 5 * 22
        out.append(f'<path d="M{x} {y - 4}h26" {pen(n)}/><text x="{x + 33}" y="{y}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>\n"])
