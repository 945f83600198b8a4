"""The colour of most shapes, or of the largest one; level 1 to 3 is 2, 3 and 4 colours on ever more shapes."""

from __future__ import annotations

from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.problem import Problem
from dokja.tasks.sight import scene
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.names import HUES, SHAPES, same_name

_COUNTS = {
    1: ((3, 1), (4, 2), (4, 1)),
    2: ((3, 1, 1), (4, 2, 1), (4, 2, 2)),
    3: ((3, 2, 2, 1), (4, 3, 2, 1), (4, 3, 2)),
}
"""Shapes of the colours of one image."""
_MOST = {
    "en": ("Which colour is most frequent?", "Which colour do most shapes have?", "What is the most common colour?"),
    "ko": ("가장 많은 색은 무엇인가요?", "어떤 색이 가장 많나요?", "제일 많이 보이는 색은?"),
}
_LARGEST = {
    "en": ("What colour is the largest shape?", "Which colour has the biggest shape?", "Colour of the largest shape?"),
    "ko": ("가장 큰 도형은 무슨 색인가요?", "제일 큰 도형의 색은?", "어떤 색 도형이 가장 큰가요?"),
}


class Colours(Sight):
    """`Which colour is most frequent?` -> `①red3②blue1>red` -> red."""

    name = "colours"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        if dice.random() < 0.5:
            return _most(dice, level, language)
        return _largest(dice, level, language)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_name(problem.reference, answer)


def _most(dice: Dice, level: int, language: str) -> Draft:
    counts = dice.pick(_COUNTS[level])
    hues = dice.distinct(HUES, len(counts))
    all_of = [hue for hue, n in zip(hues, counts, strict=True) for _ in range(n)]
    grid = 3 if len(all_of) <= 9 else 4
    places = scene.cells(dice, len(all_of), grid)
    things = [
        scene.Thing(dice.pick(tuple(SHAPES)), hue, row, column, 0.65 + 0.3 * dice.random())
        for hue, (row, column) in zip(dice.distinct(all_of, len(all_of)), places, strict=True)
    ]
    answer = hues[0].name(language)
    trace = seen((f"{hue.name(language)}{n}" for hue, n in zip(hues, counts, strict=True)), answer)
    image = scene.draw(dice, things, grid, level)
    return Draft(dice.pick(_MOST[language]), answer, trace, "most", (image,))


def _largest(dice: Dice, level: int, language: str) -> Draft:
    count = 2 + level
    hues = dice.distinct(HUES, count)
    size = {1: 0.55, 2: 0.62, 3: 0.68}[level]
    largest = dice.below(count)
    things = [
        scene.Thing(dice.pick(tuple(SHAPES)), hue, row, column, 0.98 if n == largest else size - 0.15 * dice.random())
        for n, (hue, (row, column)) in enumerate(zip(hues, scene.cells(dice, count, 3), strict=True))
    ]
    answer = hues[largest].name(language)
    trace = seen((t.hue.name(language) for t in things), answer)
    image = scene.draw(dice, things, 3, level)
    return Draft(dice.pick(_LARGEST[language]), answer, trace, "largest", (image,))
