"""Charts as inline SVG written by hand: they follow the page's width and colours, and need no plotting library.

Horizontal places are percentages of the width and text keeps its size, so a chart is as readable on a phone as on a
desk; only the curves themselves live in a stretched inner picture. Colours come from the page's CSS classes, so light
and dark schemes need nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from dokja.proof.figures import short
from dokja.proof.report_html import text

Point = tuple[float, float]
_TOP, _BOTTOM, _POINTS = 14, 22, 400


@dataclass(frozen=True)
class Series:
    """One curve: `raw` is drawn faintly, `line` firmly, `dots` as marks joined by a line. `css` names its colour."""

    points: Sequence[Point]
    css: str
    kind: Literal["raw", "line", "dots"] = "line"
    name: str = ""


@dataclass(frozen=True)
class Mark:
    """An estimate with its interval on a track from 0 to 1."""

    value: float
    low: float
    high: float
    css: str
    title: str
    hollow: bool = False


def line_chart(
    series: Sequence[Series],
    label: str,
    *,
    height: int = 220,
    from_zero: bool = False,
    format_y: Callable[[float], str] = short,
    format_x: Callable[[float], str] = short,
) -> str:
    """`series` over a common axis of steps; empty where there is nothing finite to draw. `label` is read aloud."""
    series = [Series([p for p in s.points if all(map(math.isfinite, p))], s.css, s.kind, s.name) for s in series]
    series = [s for s in series if s.points]
    if not series:
        return ""
    left = min(p[0] for s in series for p in s.points)
    right = max(p[0] for s in series for p in s.points)
    firm = [s for s in series if s.kind != "raw"] or series  # outliers of the faint curve do not set the scale
    bottom = 0.0 if from_zero else min(p[1] for s in firm for p in s.points)
    top = max(p[1] for s in firm for p in s.points)
    ticks = nice_ticks(bottom, top)
    bottom, top = min(bottom, ticks[0]), max(top, ticks[-1])
    width, rise = (right - left) or 1.0, (top - bottom) or 1.0
    inside = height - _TOP - _BOTTOM

    def x(value: float) -> float:
        return 100 * (value - left) / width

    def y(value: float) -> float:
        return _TOP + inside * (1 - (value - bottom) / rise)

    names = (_tick("38", y(tick) + 4, "end", format_y(tick)) for tick in ticks)
    out = [
        f'<div class="chart"><svg width="46" height="{height}" aria-hidden="true">{"".join(names)}</svg>',
        f'<svg class="plot" width="100%" height="{height}" role="img" aria-label="{text(label)}">',
    ]
    for tick in ticks:
        out.append(f'<line class="grid" x1="0" x2="100%" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
    out.append(
        f'<svg x="0" y="{_TOP}" width="100%" height="{inside}" viewBox="0 0 1000 1000" '
        'preserveAspectRatio="none" overflow="hidden">'
    )
    for s in series:
        spots = (
            f"{10 * x(a):.1f} {1000 * (1 - (b - bottom) / rise):.1f}" for a, b in thin(s.points, spread=s.kind == "raw")
        )
        out.append(f'<path class="curve {s.kind} {s.css}" vector-effect="non-scaling-stroke" d="M{" L".join(spots)}"/>')
    out.append("</svg>")
    for s in series:
        for a, b in s.points if s.kind == "dots" else ():
            title = f"{s.name} {format_y(b)} @ {format_x(a)}".strip()
            spot = f'class="dot {s.css}" cx="{x(a):.2f}%" cy="{y(b):.1f}"'
            out.append(f'<circle {spot} r="3"><title>{text(title)}</title></circle>')
    for tick in nice_ticks(left, right):
        if left <= tick <= right:
            place = x(tick)
            anchor = "start" if place < 3 else "end" if place > 97 else "middle"
            out.append(_tick(f"{place:.2f}%", height - 6, anchor, format_x(tick)))
    return "".join([*out, "</svg></div>"])


def interval_track(marks: Sequence[Mark], label: str, *, lane: int = 14) -> str:
    """Estimates from 0 to 100 %, one lane each, dot and interval; grid lines every 25 %."""
    height = lane * len(marks) + 6
    out = [f'<svg class="track" width="100%" height="{height}" role="img" aria-label="{text(label)}">']
    # Dots at 0 and 100 % need room beside the scale: it runs from 2 % to 98 % of the width.
    out += [f'<line class="grid" x1="{_at(q)}" x2="{_at(q)}" y1="0" y2="{height}"/>' for q in (0, 0.25, 0.5, 0.75, 1)]
    for n, mark in enumerate(marks):
        y = 3 + lane * (n + 0.5)
        shape = "hollow" if mark.hollow else "full"
        out.append(f'<g class="{mark.css}"><title>{text(mark.title)}</title>')
        out.append(f'<line class="whisker" x1="{_at(mark.low)}" x2="{_at(mark.high)}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<circle class="{shape}" cx="{_at(mark.value)}" cy="{y:.1f}" r="4.5"/></g>')
    return "".join([*out, "</svg>"])


def smooth(points: Sequence[Point], share: float = 0.03) -> list[Point]:
    """Centred moving average over about `share` of the points; the window shrinks at both ends, so it never lags."""
    sums = list(accumulate((y for _, y in points), initial=0.0))
    reach = round(share * len(points) / 2)
    out = []
    for n, (x, _) in enumerate(points):
        r = min(reach, n, len(points) - 1 - n)
        out.append((x, (sums[n + r + 1] - sums[n - r]) / (2 * r + 1)))
    return out


def thin(points: Sequence[Point], most: int = _POINTS, *, spread: bool = False) -> list[Point]:
    """At most about `most` points that look the same: the last of each bucket, or with `spread` its extremes."""
    if len(points) <= most:
        return list(points)
    buckets = most // 2 if spread else most
    out = []
    for n in range(buckets):
        bucket = points[n * len(points) // buckets : (n + 1) * len(points) // buckets]
        ends = {min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])} if spread else {bucket[-1]}
        out += sorted(ends)
    return out if spread else [points[0], *out]


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that span [low, high]; one or more."""
    if not high > low:
        return [low]
    exponent = math.floor(math.log10((high - low) / most))
    step = next(s for s in (1, 2, 5, 10) if s * 10**exponent * most >= (high - low) * (1 - 1e-9)) * 10.0**exponent
    first = math.floor(low / step + 1e-9)
    return [n * step for n in range(first, math.ceil(high / step - 1e-9) + 1)]


def _tick(x: str, y: float, anchor: str, name: str) -> str:
    return f'<text class="tick" x="{x}" y="{y:.1f}" text-anchor="{anchor}">{text(name)}</text>'


def _at(share: float) -> str:
    return f"{2 + 96 * min(1.0, max(0.0, share)):.2f}%"
