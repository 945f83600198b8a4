"""Which of two shapes is larger; level 1 to 3 brings their widths from 3 to 1 sixteenths of the image together."""

from __future__ import annotations

from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.korean import josa
from dokja.tasks.problem import Problem
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.canvas import Canvas, shade
from dokja.tasks.sight.names import HUES, SHAPES, noun, paint, same_name
from dokja.tasks.sight.scene import SIDE, TILT

UNIT = SIDE / 16
_APART = {1: 3, 2: 2, 3: 1}
_PHRASES = {
    "en": ("Which {n} is larger, the {a} or the {b} one?", "Is the {a} or the {b} {n} larger?"),
    "ko": ("{a} {gwa} {b} {n} 중 더 큰 것은 무슨 색인가요?", "{a} {n}, {b} {n} 중 어느 색이 더 큰가요?"),
}


class Larger(Sight):
    """`Is the red or the blue circle larger?` -> widths `①5②7>blue` -> blue."""

    name = "larger"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        kind, hues = dice.pick(tuple(SHAPES)), dice.distinct(HUES, 2)
        small = dice.between(3, 8 - _APART[level])
        widths = dice.distinct((small, small + _APART[level]), 2)
        canvas = Canvas(dice, SIDE, SIDE, level)
        across, swapped = dice.random() < 0.5, dice.random() < 0.5
        for n, (hue, width) in enumerate(zip(hues, widths, strict=True)):
            half = SIDE / 4 if (n == 0) != swapped else SIDE * 3 / 4
            radius = width * UNIT / 2
            along = half + (2 * dice.random() - 1) * (SIDE / 4 - radius)
            beside = SIDE / 2 + (2 * dice.random() - 1) * (SIDE / 2 - radius - 1)
            turn = (2 * dice.random() - 1) * TILT[level]
            place = (along, beside) if across else (beside, along)
            paint(canvas, kind, place, radius, shade(dice, hue.rgb), turn)
        answer = hues[widths.index(max(widths))].name(language)
        one, other = (h.before if language == "ko" else h.en for h in hues)
        what = noun(kind, language)
        prompt = dice.pick(_PHRASES[language]).format(n=what, a=one, b=other, gwa=josa(what, "과/와"))
        return Draft(prompt, answer, seen(widths, answer), "", (canvas.pixels(),))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_name(problem.reference, answer)
