"""A chart over a few named stages: an estimate with its interval for each, joined by a line, drawn as in `plots`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dokja.proof.figures import Both
from dokja.proof.plots import nice_ticks
from dokja.proof.report_html import text

Interval = tuple[float, float, float]
"""value, low, high"""
_TOP, _BOTTOM = 14, 22


@dataclass(frozen=True)
class Trail:
    """One line of the chart: an interval for each stage, None where it was not measured. `css` names its colour."""

    intervals: Sequence[Interval | None]
    css: str
    name: str


def stage_chart(
    trails: Sequence[Trail], stages: Sequence[Both], label: str, format_y: Callable[[float], str], height: int = 180
) -> str:
    """`trails` over `stages`, side by side where they would hide each other; nothing where nothing was measured."""
    measured = [e for trail in trails for e in trail.intervals if e]
    if not measured:
        return ""
    ticks = nice_ticks(min(low for _, low, _ in measured), max(high for _, _, high in measured))
    bottom, rise = ticks[0], (ticks[-1] - ticks[0]) or 1.0
    inside = height - _TOP - _BOTTOM

    def x(stage: int, trail: int) -> float:
        """Per cent of the width; trails of one stage stand 3 % apart."""
        return 100 * (stage + 0.5) / len(stages) + 3 * (trail - (len(trails) - 1) / 2)

    def y(value: float) -> float:
        return _TOP + inside * (1 - (value - bottom) / rise)

    names = "".join(
        f'<text class="tick" x="38" y="{y(t) + 4:.1f}" text-anchor="end">{text(format_y(t))}</text>' for t in ticks
    )
    out = [
        f'<div class="chart"><svg width="46" height="{height}" aria-hidden="true">{names}</svg>',
        f'<svg class="plot" width="100%" height="{height}" role="img" aria-label="{text(label)}">',
    ]
    out += [f'<line class="grid" x1="0" x2="100%" y1="{y(t):.1f}" y2="{y(t):.1f}"/>' for t in ticks]
    for n, trail in enumerate(trails):
        spots = [(x(i, n), e) for i, e in enumerate(trail.intervals) if e]
        for (a, before), (b, after) in pairwise(spots):
            ends = f'x1="{a:.2f}%" y1="{y(before[0]):.1f}" x2="{b:.2f}%" y2="{y(after[0]):.1f}"'
            out.append(f'<line class="trail {trail.css}" {ends}/>')
        for spot, (value, low, high) in spots:
            title = f"{trail.name} {format_y(value)} [{format_y(low)}, {format_y(high)}]"
            rod = f'x1="{spot:.2f}%" x2="{spot:.2f}%" y1="{y(low):.1f}" y2="{y(high):.1f}"'
            out.append(f'<g class="{trail.css}"><title>{text(title)}</title><line class="whisker" {rod}/>')
            out.append(f'<circle class="dot {trail.css}" cx="{spot:.2f}%" cy="{y(value):.1f}" r="4"/></g>')
    for i, name in enumerate(stages):
        # Letters inside a drawing cannot be `span`s, so each language gets a `text` of its own.
        for code, word in (("en", name.en), ("ko", name.ko)) if name.en != name.ko else (("", name.en),):
            own = f' {code}" lang="{code}' if code else ""
            place = f'x="{100 * (i + 0.5) / len(stages):.2f}%" y="{height - 6}"'
            out.append(f'<text class="tick{own}" {place} text-anchor="middle">{text(word)}</text>')
    return "".join([*out, "</svg></div>"])
