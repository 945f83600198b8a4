"""Places; level 1 to 3 is left or right of another shape, also above or below, and the outermost of four."""

from __future__ import annotations

from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.korean import josa
from dokja.tasks.problem import Problem
from dokja.tasks.sight import scene
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.names import HUES, SHAPES, SIDES, noun, same_name

_GRID = 4
_SIDE = {
    ("en", 0): ("Is the {a} left or right of the {b}?", "On which side of the {b} is the {a}, left or right?"),
    ("en", 1): ("Is the {a} above or below the {b}?", "Where is the {a}, above or below the {b}?"),
    ("ko", 0): ("{aneun} {b}의 왼쪽과 오른쪽 중 어디에 있나요?", "{aneun} {b}의 왼쪽인가요, 오른쪽인가요?"),
    ("ko", 1): ("{aneun} {b}의 위와 아래 중 어디에 있나요?", "{aneun} {b}보다 위인가요, 아래인가요?"),
}
_OUTERMOST = {
    "en": ("What colour is the {} shape?", "Which colour is {}?"),
    "ko": ("가장 {}에 있는 도형은 무슨 색인가요?", "맨 {} 도형의 색은?"),
}
_MOST = {"en": (("leftmost", "rightmost"), ("topmost", "lowest")), "ko": SIDES["ko"]}


class Where(Sight):
    """`Is the red star left or right of the blue circle?` -> the two in order `①blue②red>right` -> right."""

    name = "where"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        axis = 0 if level == 1 else dice.below(2)
        count = {1: 2, 2: 3, 3: 4}[level]
        hues, kinds = dice.distinct(HUES, count), [dice.pick(tuple(SHAPES)) for _ in range(count)]
        places = zip(dice.distinct(range(_GRID), count), dice.distinct(range(_GRID), count), strict=True)
        things = [
            scene.Thing(kind, hue, row, column, 0.7 + 0.25 * dice.random())
            for kind, hue, (row, column) in zip(kinds, hues, places, strict=True)
        ]
        image = scene.draw(dice, things, _GRID, level)
        after = dice.below(2)
        if level == 3:
            ordered = sorted(things, key=lambda t: t.row if axis else t.column)
            answer = ordered[-after].hue.name(language)
            trace = seen((t.hue.name(language) for t in ordered), answer)
            return Draft(
                dice.pick(_OUTERMOST[language]).format(_MOST[language][axis][after]), answer, trace, "", (image,)
            )
        one, other = things[0], things[1]
        pair = sorted((one, other), key=lambda t: t.row if axis else t.column)
        answer = SIDES[language][axis][pair.index(one)]
        a, b = (t.hue.of(noun(t.kind, language), language) for t in (one, other))
        prompt = dice.pick(_SIDE[language, axis]).format(a=a, b=b, aneun=josa(a, "은/는"))
        return Draft(prompt, answer, seen((t.hue.name(language) for t in pair), answer), "", (image,))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_name(problem.reference, answer)
