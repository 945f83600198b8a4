"""Counting shapes of one colour and kind; level 1 to 3 is up to 5, 8 and 11 shapes, the others ever more alike."""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.korean import josa
from dokja.tasks.problem import Problem
from dokja.tasks.sight import scene
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.names import HUES, SHAPES, noun

_GRID = {1: 3, 2: 3, 3: 4}
_MOST = {1: 5, 2: 8, 3: 11}
_PHRASES = {
    "en": ("How many {}s are there?", "Count the {}s.", "Number of {}s in the image?"),
    "ko": ("{} 몇 개인가요?", "그림에 {} 몇 개 있나요?", "{} 모두 몇 개 보이나요?"),
}


class HowMany(Sight):
    """`How many red circles are there?` -> by rows `①2②0③1>3` -> 3."""

    name = "howmany"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        grid = _GRID[level]
        count = dice.between(2, _MOST[level])
        wanted = dice.between(0, min(count, 7)) if level > 1 else dice.between(1, count)
        hues, kinds = dice.distinct(HUES, 2 + level), dice.distinct(tuple(SHAPES), 1 + level)
        hue, kind = hues[0], kinds[0]
        right = set(dice.distinct(range(count), wanted))
        things = []
        for n, (row, column) in enumerate(scene.cells(dice, count, grid)):
            this, form = hue, kind
            if n not in right:  # another colour, another kind, or both
                way = dice.below(3)
                this = hue if way == 0 else dice.pick(hues[1:])
                form = kind if way == 1 else dice.pick(kinds[1:])
            things.append(scene.Thing(form, this, row, column, 0.65 + 0.3 * dice.random()))
        rows = [sum(t.row == r and (t.hue, t.kind) == (hue, kind) for t in things) for r in range(grid)]
        what = hue.of(noun(kind, language), language)
        if language == "ko":
            what = josa(what, "은/는")
        image = scene.draw(dice, things, grid, level)
        answer = str(wanted)
        return Draft(dice.pick(_PHRASES[language]).format(what), answer, seen(rows, answer), "", (image,))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)
