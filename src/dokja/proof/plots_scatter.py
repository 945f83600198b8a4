"""Scores against a size, a cost or a time: spots over a logarithmic axis, drawn as in `plots`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dokja.proof.plots import nice_ticks
from dokja.proof.report_html import text

_TOP, _BOTTOM, _LETTER = 14, 22, 6.2


@dataclass(frozen=True)
class Spot:
    """A point: x above 0, y in [0, 1] with its interval (low = high: none), `css` names its colour."""

    x: float
    y: float
    low: float
    high: float
    css: str
    name: str
    hollow: bool = False


def scatter(
    spots: Sequence[Spot],
    label: str,
    format_x: Callable[[float], str],
    format_y: Callable[[float], str],
    height: int,
    width: int = 0,
) -> str:
    """`spots` as a chart; nothing where they do not differ in x.

    With the `width` that the plot will have in pixels, names stand beside the spots; without it they show when a spot
    is pointed at.
    """
    if len({spot.x for spot in spots}) < 2:
        return ""
    left, right = _span([math.log10(spot.x) for spot in spots], named=width > 0)
    ticks = nice_ticks(min(s.low for s in spots), max(s.high for s in spots))
    bottom, rise = ticks[0], (ticks[-1] - ticks[0]) or 1.0
    inside = height - _TOP - _BOTTOM

    def x(value: float) -> float:
        return 100 * (math.log10(value) - left) / (right - left)

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
    for tick in _log_ticks(left, right):
        place = f'x="{x(tick):.2f}%" y="{height - 6}"'
        out.append(f'<text class="tick" {place} text-anchor="middle">{text(format_x(tick))}</text>')
    for spot in spots:
        across, title = f"{x(spot.x):.2f}%", f"{spot.name}: {format_y(spot.y)} @ {format_x(spot.x)}"
        out.append(f'<g class="{spot.css}"><title>{text(title)}</title>')
        if spot.high > spot.low:
            ends = f'x1="{across}" x2="{across}" y1="{y(spot.low):.1f}" y2="{y(spot.high):.1f}"'
            out.append(f'<line class="whisker" {ends}/>')
        shape = "hollow" if spot.hollow else "full"
        out.append(f'<circle class="{shape}" cx="{across}" cy="{y(spot.y):.1f}" r="4.5"/></g>')
    if width:
        places = [(x(s.x) * width / 100, y(s.y)) for s in spots]
        moves = _names_beside(places, [s.name for s in spots], width)
        for spot, (dx, dy) in zip(spots, moves, strict=True):
            place = f'x="{x(spot.x):.2f}%" y="{y(spot.y) + dy + 4:.1f}" dx="{dx}"'
            anchor = "end" if dx < 0 else "start"
            out.append(f'<text class="tick {spot.css}" {place} text-anchor="{anchor}">{text(spot.name)}</text>')
    return "".join([*out, "</svg></div>"])


def _span(logs: Sequence[float], named: bool) -> tuple[float, float]:
    """A tenth of the spread beyond either end; on the right a quarter where names stand there."""
    low, high = min(logs), max(logs)
    room = max(0.1 * (high - low), 0.02)
    return low - room, high + (2.5 if named else 1) * room


def _log_ticks(left: float, right: float) -> list[float]:
    """1, 2 and 5 times powers of ten; powers alone where those are enough, even steps where neither is there."""
    powers = range(math.floor(left), math.ceil(right) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5) if left <= math.log10(m) + p <= right]
    coarse = [10.0**p for p in powers if left <= p <= right]
    if len(fine) > 8 and len(coarse) > 1:
        return coarse
    low, high = 10**left, 10**right
    return fine if len(fine) > 1 else [t for t in nice_ticks(low, high, 3) if low <= t <= high]


def _names_beside(places: Sequence[tuple[float, float]], names: Sequence[str], width: int) -> list[tuple[int, int]]:
    """(dx, dy) of each name beside its spot, so that it covers no other name or spot if that can be had.

    Right of the spot comes first, then left of it, then both some lines further away.
    """
    taken = [(x - 5, x + 5, y) for x, y in places]
    out: dict[int, tuple[int, int]] = {}
    for n in sorted(range(len(places)), key=lambda i: places[i]):
        boxes = {
            (side, dy): _box(places[n], side, dy, _LETTER * len(names[n]))
            for dy in (0, -12, 12, -24, 24, -36, 36)
            for side in (8, -8)
        }
        best = min(boxes, key=lambda move: (_cost(boxes[move], taken, width), abs(move[1]), -move[0]))
        taken.append(boxes[best])
        out[n] = best
    return [out[n] for n in range(len(places))]


def _box(place: tuple[float, float], side: int, dy: int, wide: float) -> tuple[float, float, float]:
    """Where a name begins and ends, and its height."""
    start = place[0] + side if side > 0 else place[0] + side - wide
    return start, start + wide, place[1] + dy


def _cost(box: tuple[float, float, float], taken: Sequence[tuple[float, float, float]], width: int) -> float:
    """How many things it covers, plus letters outside of the plot."""
    start, end, level = box
    hits = sum(start < e and b < end and abs(level - other) < 11 for b, e, other in taken)
    return hits + (max(0.0, -start) + max(0.0, end - width)) / _LETTER
