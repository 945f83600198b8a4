"""Counting the ones of a binary string in groups of four from the right; level 1 to 3 is 6-9, 10-12, 13-16 bits."""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.problem import Problem

# Lengths to draw from: few strings are short, so short ones are drawn less often and prompts seldom repeat.
_BITS = {1: (6, 7, 8, 8, 9, 9, 9, 9), 2: (10, 11, 12), 3: (13, 14, 15, 16)}
_PHRASES = {
    "en": (
        "How many 1s are in {}?",
        "Count the ones in {}.",
        "Number of 1 bits in {}?",
        "How many ones does it have: {}?",
    ),
    "ko": (
        "1이 몇 개인가요? {}.",
        "1의 개수를 세세요: {}.",
        "다음 이진수에 1은 몇 개 있나요? {}.",
        "1을 모두 세면? {}.",
    ),
}


class Bits(Family):
    """`1101100110` -> `①0110=2>02②0110=2>04③11=2>06` -> 6."""

    name = "bits"
    levels = (1, 2, 3)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        length = dice.pick(_BITS[level])
        share = 0.25 + 0.5 * dice.random()  # spreads the counts: half of each would make the middle a good guess
        bits = "".join("1" if dice.random() < share else "0" for _ in range(length))
        count, trace = 0, ""
        for k, end in enumerate(range(length, 0, -4), 1):
            group = bits[max(0, end - 4) : end]
            ones = group.count("1")
            count += ones
            trace += f"{STEP[k]}{group}={ones}>{count:02d}"
        return Draft(dice.pick(_PHRASES[language]).format(bits), str(count), trace)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)
