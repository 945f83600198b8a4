"""Sorting different numbers, up or down; level 1 to 4 is 3 to 6 numbers.

The trace inserts one number after another into a sorted list, so its last list is the answer.
"""

from __future__ import annotations

from bisect import bisect

from dokja.tasks.extract import same_list
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.problem import Problem

_PHRASES = {
    ("en", False): ("Sort in ascending order: {}.", "From smallest to largest: {}.", "Smallest first: {}."),
    ("en", True): ("Sort in descending order: {}.", "From largest to smallest: {}.", "Largest first: {}."),
    ("ko", False): ("작은 수부터 쓰세요: {}.", "오름차순으로 정렬하세요: {}.", "작은 것부터 차례로: {}."),
    ("ko", True): ("큰 수부터 쓰세요: {}.", "내림차순으로 정렬하세요: {}.", "큰 것부터 차례로: {}."),
}
# Two-digit numbers in each list (at least, at most): the longest lists have few, which keeps the trace short.
_LONG = {1: (0, 3), 2: (1, 4), 3: (1, 4), 4: (1, 2)}


class Sort(Family):
    """`12,5,33,8` -> `①12②5>5,12③33>5,12,33④8>5,8,12,33` -> 5,8,12,33."""

    name = "sort"
    levels = (1, 2, 3, 4)
    needs_steps = False

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        long = dice.between(*_LONG[level])
        numbers = dice.distinct(range(1, 10), level + 2 - long) + dice.distinct(range(10, 100), long)
        numbers = dice.distinct(numbers, len(numbers))
        falling = dice.random() < 0.5
        order = -1 if falling else 1
        done = [order * numbers[0]]
        trace = f"{STEP[1]}{numbers[0]}"
        for k, n in enumerate(numbers[1:], 2):
            done.insert(bisect(done, order * n), order * n)
            trace += f"{STEP[k]}{n}>{','.join(str(abs(v)) for v in done)}"
        prompt = dice.pick(_PHRASES[language, falling]).format(",".join(map(str, numbers)))
        return Draft(prompt, ",".join(str(abs(v)) for v in done), trace, "falling" if falling else "rising")

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_list(problem.reference, answer)
