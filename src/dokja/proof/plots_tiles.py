"""Shares over time as tiles: a row per level, a column per step, the fuller the higher, drawn as in `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dokja.proof.figures import percent
from dokja.proof.report_html import text

_ROW = 16


@dataclass(frozen=True)
class Tiles:
    """One row: its name and a share for each column, None where there is none yet; `titles` say what each tile is."""

    name: str
    shares: Sequence[float | None]
    titles: Sequence[str]


def tile_chart(rows: Sequence[Tiles], label: str) -> str:
    """Rows of tiles with their names on the left and their last shares on the right; nothing without rows."""
    if not rows:
        return ""
    height = _ROW * len(rows)
    names, tiles, ends = [], [], []
    for n, row in enumerate(rows):
        middle = _ROW * n + _ROW / 2 + 4
        names.append(f'<text class="tick" x="12" y="{middle}" text-anchor="end">{text(row.name)}</text>')
        last = next((s for s in reversed(row.shares) if s is not None), None)
        ends.append(f'<text class="tick" x="100%" y="{middle}" text-anchor="end">{text(percent(last, 0))}</text>')
        width = 100 / max(1, len(row.shares))
        for i, share in enumerate(row.shares):
            if share is None:
                continue
            place = f'x="{width * i:.3f}%" y="{_ROW * n + 1}" width="{width + 0.05:.3f}%" height="{_ROW - 2}"'
            # Never wholly clear: a tile at zero is a measurement, unlike one that is not there.
            strength = 0.06 + 0.94 * min(1.0, max(0.0, share))
            tiles.append(
                f'<rect class="tile" {place} fill-opacity="{strength:.3f}"><title>{text(row.titles[i])}</title></rect>'
            )
    return (
        f'<div class="tiles"><svg width="18" height="{height}" aria-hidden="true">{"".join(names)}</svg>'
        f'<svg width="100%" height="{height}" role="img" aria-label="{text(label)}">{"".join(tiles)}</svg>'
        f'<svg width="100%" height="{height}" aria-hidden="true">{"".join(ends)}</svg></div>'
    )
