"""Bar charts with lettered bars and a line at every unit; level 1 to 3 asks for the highest or lowest of 3, a value
among 4, a difference among 4 or 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dokja.tasks.extract import same_label, same_number
from dokja.tasks.families.base import STEP, Dice, Draft
from dokja.tasks.problem import Problem
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.canvas import Canvas, Colour, shade
from dokja.tasks.sight.names import HUES

if TYPE_CHECKING:
    import numpy as np

WIDTH, HEIGHT = 64, 64
UNITS = 8
"""The highest value."""
_ENDS = {
    ("en", True): ("Which bar is the highest?", "Which bar is the tallest?"),
    ("en", False): ("Which bar is the lowest?", "Which bar is the shortest?"),
    ("ko", True): ("가장 높은 막대는 무엇인가요?", "어느 막대가 제일 높나요?"),
    ("ko", False): ("가장 낮은 막대는 무엇인가요?", "어느 막대가 제일 낮나요?"),
}
_VALUE = {
    "en": ("What is the value of bar {}?", "How high is bar {}?", "Read the value of {}."),
    "ko": ("막대 {}의 값은 얼마인가요?", "막대 {}의 높이는?", "{}의 값을 읽어 보세요."),
}
_DIFFERENCE = {
    "en": ("How much higher is {} than {}?", "What is {} minus {}?", "Difference of {} and {}?"),
    "ko": ("{}는 {}보다 얼마나 더 높나요?", "{}에서 {}를 빼면?", "{}와 {}의 차이는?"),
}


class Bars(Sight):
    """`What is C minus A?` -> `①7②3>7-3=4` -> 4."""

    name = "bars"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        count = {1: 3, 2: 4, 3: dice.between(4, 5)}[level]
        labels = "ABCDE"[:count]
        values = dice.distinct(range(1, UNITS + 1), count)
        image = _chart(dice, labels, values, level)
        if level == 1:
            high = dice.random() < 0.5
            answer = labels[values.index(max(values) if high else min(values))]
            trace = seen((f"{a}{v}" for a, v in zip(labels, values, strict=True)), answer)
            return Draft(dice.pick(_ENDS[language, high]), answer, trace, "end", (image,))
        if level == 2:
            at = dice.below(count)
            answer = str(values[at])
            return Draft(
                dice.pick(_VALUE[language]).format(labels[at]),
                answer,
                seen([f"{labels[at]}{answer}"], answer),
                "value",
                (image,),
            )
        one, other = sorted(dice.distinct(range(count), 2), key=lambda n: -values[n])
        answer = str(values[one] - values[other])
        parts = f"{STEP[1]}{values[one]}{STEP[2]}{values[other]}"
        trace = f"{parts}>{values[one]}-{values[other]}={answer}"
        prompt = dice.pick(_DIFFERENCE[language]).format(labels[one], labels[other])
        return Draft(prompt, answer, trace, "difference", (image,))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return (same_label if problem.reference.isalpha() else same_number)(problem.reference, answer)


def _chart(dice: Dice, labels: str, values: list[int], level: int) -> np.ndarray:
    canvas = Canvas(dice, WIDTH, HEIGHT, level)
    unit = 5.0 + dice.random()
    left, ground = 3.0 + 3 * dice.random(), HEIGHT - 13.0
    step = (WIDTH - 2 * left) / len(labels)
    grey = shade(dice, (200, 200, 200), 10)
    for n in range(1, UNITS + 1):
        canvas.line((left - 1, ground - n * unit), (WIDTH - left + 1, ground - n * unit), grey, 0.5)
    same = dice.pick(HUES)
    for n, (label, value) in enumerate(zip(labels, values, strict=True)):
        colour: Colour = shade(dice, (same if level == 1 else dice.pick(HUES)).rgb)
        middle, half = left + (n + 0.5) * step, step * (0.28 + 0.1 * dice.random())
        canvas.box(middle - half, ground - value * unit, middle + half, ground, colour)
        canvas.text((middle, HEIGHT - 6.5), label, 10.0, (30, 30, 30))
    canvas.line((left - 1, ground), (WIDTH - left + 1, ground), (40, 40, 40), 1.0)
    return canvas.pixels()
