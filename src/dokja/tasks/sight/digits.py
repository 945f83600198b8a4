"""Reading a number; level 1 to 3 is 2, 3 and 4 or 5 digits, ever more tilted and grainy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.problem import Problem
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.canvas import FONTS, Canvas, shade
from dokja.tasks.sight.names import HUES

if TYPE_CHECKING:
    import numpy as np

WIDTH, HEIGHT = 128, 32
_LENGTHS = {1: (2,), 2: (3,), 3: (4, 5)}
_TURN = {1: 0.0, 2: 2.0, 3: 4.0}
_PHRASES = {
    "en": ("Which number is written?", "Read the number.", "What number do you see?"),
    "ko": ("어떤 수가 쓰여 있나요?", "수를 읽어 보세요.", "무슨 수가 보이나요?"),
}


class Digits(Sight):
    """`Read the number.` -> `①4②7>47` -> 47."""

    name = "digits"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        length = dice.pick(_LENGTHS[level])
        number = str(dice.between(1, 9)) + "".join(str(dice.below(10)) for _ in range(length - 1))
        image = write(dice, number, level, 0.58)
        return Draft(dice.pick(_PHRASES[language]), number, seen(number, number), "", (image,))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)


def write(dice: Dice, text: str, level: int, advance: float) -> np.ndarray:
    """`text` on one line, in a dark colour; a letter takes `advance` ems."""
    canvas = Canvas(dice, WIDTH, HEIGHT, level)
    largest = min(26.0, (WIDTH - 10) / (advance * len(text)))
    size = largest * (0.8 + 0.2 * dice.random())
    colour = shade(dice, dice.pick([h for h in HUES if h.en != "yellow"]).rgb)
    slack_x = max(0.0, (WIDTH - 8 - size * advance * len(text)) / 2)
    slack_y = max(0.0, (HEIGHT - 4 - size) / 2)
    centre = (
        WIDTH / 2 + (2 * dice.random() - 1) * slack_x,
        HEIGHT / 2 + (2 * dice.random() - 1) * slack_y,
    )
    turn = (2 * dice.random() - 1) * _TURN[level]
    canvas.text(centre, text, size, colour, dice.pick(FONTS), turn)
    return canvas.pixels()
