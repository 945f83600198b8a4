"""Drawing: shapes, lines and text on a light ground, twice as large as wanted and halved, then grain from the seed.

Positions and sizes are in pixels of the finished image. Everything comes from the problem's dice, so a seed gives the
same pixels wherever the same Pillow draws them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dokja.errors import ConfigError
from dokja.tasks.families.base import Dice

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]
FONTS = ("sans", "serif")
_FINE = 2
_GRAIN = {1: 4, 2: 12, 3: 24}
"""Largest change of a channel by level."""


@functools.cache
def pillow() -> Any:
    """The drawing modules of Pillow. ConfigError where it is missing."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as err:
        raise ConfigError("Images are drawn with Pillow, which is missing. Install dokja[vision].") from err
    return Image, ImageDraw, ImageFont


@functools.lru_cache(maxsize=256)
def _font(name: str, size: int) -> Any:
    _, _, fonts = pillow()
    path = Path(__file__).parent / "fonts" / f"{name}.otf"
    return fonts.truetype(str(path), size, layout_engine=fonts.Layout.BASIC)


def shade(dice: Dice, colour: Colour, spread: int = 24) -> Colour:
    """`colour` with a little of another hue and brightness."""
    red, green, blue = (min(255, max(0, c + dice.between(-spread, spread))) for c in colour)
    return red, green, blue


class Canvas:
    """An image of `width` x `height` pixels in the making."""

    def __init__(self, dice: Dice, width: int, height: int, level: int) -> None:
        image, draw, _ = pillow()
        self.dice, self.width, self.height, self.level = dice, width, height, level
        low = 255 - 12 * level
        self._image = image.new("RGB", (width * _FINE, height * _FINE), tuple(dice.between(low, 255) for _ in range(3)))
        self._draw = draw.Draw(self._image)

    def polygon(self, points: Sequence[Point], colour: Colour, line: float = 0.0) -> None:
        """A filled polygon, or its outline `line` pixels thick."""
        fine = [(x * _FINE, y * _FINE) for x, y in points]
        if line:
            self._draw.line([*fine, fine[0], fine[1]], colour, round(line * _FINE), joint="curve")
        else:
            self._draw.polygon(fine, colour)

    def circle(self, centre: Point, radius: float, colour: Colour, line: float = 0.0) -> None:
        """A disc, or a ring `line` pixels thick."""
        x, y, r = (v * _FINE for v in (*centre, radius))
        box = (x - r, y - r, x + r, y + r)
        if line:
            self._draw.ellipse(box, outline=colour, width=round(line * _FINE))
        else:
            self._draw.ellipse(box, colour)

    def line(self, start: Point, end: Point, colour: Colour, thick: float) -> None:
        """A straight line."""
        points = [(x * _FINE, y * _FINE) for x, y in (start, end)]
        self._draw.line(points, colour, max(1, round(thick * _FINE)))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self._draw.rectangle(tuple(round(v * _FINE) for v in (left, top, right, bottom)), colour)

    def text(
        self, centre: Point, text: str, size: float, colour: Colour, font: str = "sans", turn: float = 0.0
    ) -> None:
        """`text` around `centre`, `size` pixels to the em, turned by `turn` degrees against the clock."""
        image, draw, _ = pillow()
        letters = _font(font, round(size * _FINE))
        left, top, right, bottom = letters.getbbox(text)
        width, height = int(right - left) + 4, int(bottom - top) + 4
        mask = image.new("L", (width, height))
        draw.Draw(mask).text((2 - left, 2 - top), text, 255, letters)
        if turn:
            mask = mask.rotate(turn, image.Resampling.BICUBIC, expand=True)
        place = (round(centre[0] * _FINE - mask.width / 2), round(centre[1] * _FINE - mask.height / 2))
        self._image.paste(colour, place, mask)

    def pixels(self) -> np.ndarray:
        """The finished image, uint8 [height, width, 3]."""
        import numpy as np

        plain = np.asarray(self._image.reduce(_FINE)).astype(np.int16)
        noise = np.frombuffer(self.dice.randbytes(plain.size), np.int8).reshape(plain.shape)
        grain = noise.astype(np.int16) * _GRAIN[self.level] // 128
        return np.clip(plain + grain, 0, 255).astype(np.uint8)


def corners(centre: Point, radius: float, count: int, turn: float) -> list[Point]:
    """A regular polygon; `turn` in radians."""
    step = 2 * math.pi / count
    return [
        (centre[0] + radius * math.sin(turn + step * k), centre[1] - radius * math.cos(turn + step * k))
        for k in range(count)
    ]


def star(centre: Point, radius: float, turn: float) -> list[Point]:
    """A star of five points."""
    outer, inner = corners(centre, radius, 5, turn), corners(centre, radius * 0.42, 5, turn + math.pi / 5)
    return [p for pair in zip(outer, inner, strict=True) for p in pair]
