"""Whether two lines are parallel; level 1 to 3 brings the others from 45 to 15 degrees together."""

from __future__ import annotations

import math

from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.problem import Problem
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.canvas import Canvas, shade
from dokja.tasks.sight.names import HUES, NO_YES, same_name
from dokja.tasks.sight.scene import SIDE

STEP_DEGREES = 15
_APART = {1: 3, 2: 2, 3: 1}
"""Least difference of two lines that are not parallel, in steps."""
_PHRASES = {
    "en": ("Are the two lines parallel?", "Do the lines run parallel?", "Are these lines parallel?"),
    "ko": ("두 선은 평행한가요?", "두 직선이 평행한가요?", "이 선들은 서로 평행한가요?"),
}


class Parallel(Sight):
    """`Are the two lines parallel?` -> angles `①30②75>no` -> no."""

    name = "parallel"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        steps = 180 // STEP_DEGREES
        same = dice.random() < 0.5
        first = dice.below(steps)
        apart = 0 if same else dice.between(_APART[level], steps - _APART[level])
        angles = [first * STEP_DEGREES, (first + apart) % steps * STEP_DEGREES]
        canvas = Canvas(dice, SIDE, SIDE, level)
        jitter = 3 * dice.random() - 1.5
        across = 45 <= angles[0] <= 135  # steep lines stand side by side, flat ones above each other
        for n, angle in enumerate(angles):
            half = SIDE * (0.2 + 0.08 * dice.random())
            middle = SIDE * (0.3 if n == 0 else 0.7) + 4 * dice.random() - 2
            beside = SIDE / 2 + 12 * dice.random() - 6
            x, y = (middle, beside) if across else (beside, middle)
            turn = math.radians(angle + jitter)
            dx, dy = half * math.cos(turn), half * math.sin(turn)
            canvas.line(
                (x - dx, y + dy), (x + dx, y - dy), shade(dice, dice.pick(HUES).rgb), 1.5 + level * dice.random()
            )
        answer = NO_YES[language][same]
        return Draft(dice.pick(_PHRASES[language]), answer, seen(angles, answer), "", (canvas.pixels(),))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_name(problem.reference, answer)
