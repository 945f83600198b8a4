"""Several shapes in one image, each in a cell of a loose grid, so that none hides another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dokja.tasks.families.base import Dice
from dokja.tasks.sight.canvas import Canvas, shade
from dokja.tasks.sight.names import Hue, paint

if TYPE_CHECKING:
    import numpy as np

SIDE = 64
"""Pixels of a square image."""
TILT = {1: 0.0, 2: 0.3, 3: math.pi}
"""Largest turn of a shape by level, in radians."""


class Thing(NamedTuple):
    """A shape and its colour, with the row and column of its cell; `size` is its share of the cell."""

    kind: str
    hue: Hue
    row: int
    column: int
    size: float


def cells(dice: Dice, count: int, grid: int) -> list[tuple[int, int]]:
    """`count` different cells of a grid, in reading order."""
    return [divmod(n, grid) for n in sorted(dice.distinct(range(grid * grid), count))]


def draw(dice: Dice, things: Sequence[Thing], grid: int, level: int) -> np.ndarray:
    """The image of `things`, uint8 [SIDE, SIDE, 3]."""
    canvas, cell = Canvas(dice, SIDE, SIDE, level), SIDE / grid
    for thing in things:
        radius = cell / 2 * thing.size
        slack = max(0.0, cell / 2 - radius)
        x = (thing.column + 0.5) * cell + (2 * dice.random() - 1) * slack
        y = (thing.row + 0.5) * cell + (2 * dice.random() - 1) * slack
        turn = (2 * dice.random() - 1) * TILT[level] + (math.pi / 4 if thing.kind == "square" else 0.0)
        paint(canvas, thing.kind, (x, y), radius, shade(dice, thing.hue.rgb, 8 * level), turn)
    return canvas.pixels()
