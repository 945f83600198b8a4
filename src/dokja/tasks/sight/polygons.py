"""Kinds of polygon; level 1 to 3 is upright and regular, turned, and irregular, filled or outlined."""

from __future__ import annotations

import math

from dokja.tasks.families.base import STEP, Dice, Draft
from dokja.tasks.problem import Problem
from dokja.tasks.sight.base import Sight
from dokja.tasks.sight.canvas import Canvas, corners, shade
from dokja.tasks.sight.names import HUES, POLYGONS, same_name
from dokja.tasks.sight.scene import SIDE

_OF_LEVEL = {1: (3, 4, 6), 2: (3, 4, 5, 6), 3: (3, 4, 5, 6, 8)}
_TURN = {1: 0.1, 2: 0.4, 3: math.pi}
_PHRASES = {
    "en": ("What kind of polygon is this?", "Name the polygon.", "Which polygon do you see?"),
    "ko": ("이 도형은 무엇인가요?", "어떤 다각형인가요?", "도형의 이름을 말해 보세요."),
}


class Polygons(Sight):
    """`Name the polygon.` -> `①5>pentagon` -> pentagon."""

    name = "polygons"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        sides = dice.pick(_OF_LEVEL[level])
        canvas = Canvas(dice, SIDE, SIDE, level)
        radius = SIDE * (0.26 + 0.18 * dice.random())
        slack = max(0.0, SIDE / 2 - 2 - radius)
        centre = (SIDE / 2 + (2 * dice.random() - 1) * slack, SIDE / 2 + (2 * dice.random() - 1) * slack)
        turn = (2 * dice.random() - 1) * _TURN[level] + math.pi / sides
        points = corners(centre, radius, sides, turn)
        if level == 3 and sides < 6:  # corners of a regular hexagon hardly move before it looks like another shape
            points = [(centre[0] + (x - centre[0]) * s, centre[1] + (y - centre[1]) * s)
                      for x, y in points for s in [0.8 + 0.25 * dice.random()]]  # fmt: skip
        line = 0.0 if level == 1 or dice.random() < 0.5 else 1.5 + 1.5 * dice.random()
        canvas.polygon(points, shade(dice, dice.pick(HUES).rgb), line)
        answer = POLYGONS[sides][language == "ko"]
        return Draft(dice.pick(_PHRASES[language]), answer, f"{STEP[1]}{sides}>{answer}", "", (canvas.pixels(),))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_name(problem.reference, answer)
