"""Running sums, from the last number to the first. Level 1: 3-4 digits, 2: 5-7 digits, 3: 3-4 two-digit numbers."""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.families.steps import two_step_add
from dokja.tasks.problem import Problem

_PHRASES = {
    "en": ("What is the sum {}?", "Add up {}.", "Total of {}?", "Sum: {}."),
    "ko": ("다음의 합은? {}.", "모두 더하세요: {}.", "합을 구하세요: {}.", "다 더하면 얼마인가요? {}."),
}


class Sum(Family):
    """`3+5+7` -> `①7=07②5=12③3=15` -> 15; `24+35` -> `①35=35②35+20=55+4=59` -> 59."""

    name = "sum"
    levels = (1, 2, 3)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        numbers = _two_digit(dice) if level == 3 else _one_digit(dice, level)
        total, trace = 0, ""
        for k, n in enumerate(reversed(numbers), 1):
            if level == 3 and k > 1:
                step, total = two_step_add(f"{total:02d}", total, n)
                trace += STEP[k] + step
            else:
                total += n
                trace += f"{STEP[k]}{n}={total:02d}"
        prompt = dice.pick(_PHRASES[language]).format("+".join(map(str, numbers)))
        return Draft(prompt, str(total), trace)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)


def _one_digit(dice: Dice, level: int) -> list[int]:
    return [dice.between(1, 9) for _ in range(dice.between(3, 4) if level == 1 else dice.between(5, 7))]


def _two_digit(dice: Dice) -> list[int]:
    """3 or 4 numbers of two digits whose sum has two digits, in random order."""
    count, room = dice.between(3, 4), 99
    numbers = []
    for left in range(count - 1, -1, -1):
        numbers.append(dice.between(10, min(room - 10 * left, 55)))
        room -= numbers[-1]
    return dice.distinct(numbers, count)
