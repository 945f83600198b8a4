"""Bars with intervals, and differences around nothing; drawn as in `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dokja.proof.report_html import text

_LANE = 16


@dataclass(frozen=True)
class Bar:
    """A value in [0, 1] with its interval; `css` names its colour."""

    value: float
    low: float
    high: float
    css: str
    title: str


def bar_track(bars: Sequence[Bar], label: str) -> str:
    """One lane per bar from 0 to 100 %, the interval drawn over its end; grid lines every 25 %."""
    height = _LANE * len(bars) + 6
    out = [f'<svg class="track" width="100%" height="{height}" role="img" aria-label="{text(label)}">']
    out += [f'<line class="grid" x1="{q}%" x2="{q}%" y1="0" y2="{height}"/>' for q in (0, 25, 50, 75, 100)]
    for n, bar in enumerate(bars):
        top = 3 + _LANE * n
        out.append(f'<g class="{bar.css}"><title>{text(bar.title)}</title>')
        out.append(f'<rect class="rod" x="0" y="{top + 2}" width="{_percent(bar.value)}" height="{_LANE - 5}"/>')
        middle = top + (_LANE - 1) / 2
        ends = f'x1="{_percent(bar.low)}" x2="{_percent(bar.high)}" y1="{middle}" y2="{middle}"'
        out.append(f'<line class="error" {ends}/></g>')
    return "".join([*out, "</svg>"])


def difference_track(bars: Sequence[Bar], reach: float, label: str) -> str:
    """Differences with their intervals around a line at nothing; the track runs from -reach to +reach."""
    height = _LANE * len(bars) + 6

    def x(value: float) -> str:
        return f"{50 + 48 * max(-1.0, min(1.0, value / reach)):.2f}%"

    out = [f'<svg class="track" width="100%" height="{height}" role="img" aria-label="{text(label)}">']
    out.append(f'<line class="nothing" x1="50%" x2="50%" y1="0" y2="{height}"/>')
    for n, bar in enumerate(bars):
        y = 3 + _LANE * (n + 0.5)
        out.append(f'<g class="{bar.css}"><title>{text(bar.title)}</title>')
        out.append(f'<line class="whisker" x1="{x(bar.low)}" x2="{x(bar.high)}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<circle class="full" cx="{x(bar.value)}" cy="{y:.1f}" r="4"/></g>')
    return "".join([*out, "</svg>"])


def _percent(share: float) -> str:
    return f"{100 * max(0.0, min(1.0, share)):.2f}%"
