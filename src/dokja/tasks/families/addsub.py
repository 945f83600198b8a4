"""Addition and subtraction, digit by digit from the right; level 1 to 4 is 2 to 5 digits.

Each step is (digit ± digit ± carry): sums show the carry as their tens (`7+6+0=13`), differences borrow before they
subtract (`17-9-0=8`; `07` where nothing is borrowed). After `>` the result digits are gathered, leading zeros included.
"""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.problem import Problem

_PHRASES = {
    "en": ("What is {}?", "Compute {}.", "Find {}.", "Calculate {}."),
    "ko": ("다음 값은? {}.", "계산하세요: {}.", "값을 구하세요: {}.", "얼마인가요? {}."),
}


class AddSub(Family):
    """`4827+1596` -> `①7+6+0=13②2+9+1=12③8+5+1=14④4+1+1=06>06423` -> 6423."""

    name = "addsub"
    levels = (1, 2, 3, 4)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        digits = level + 1
        low = 10 ** (digits - 1)
        a, b = low + dice.below(9 * low), low + dice.below(9 * low)
        adding = dice.random() < 0.5
        if not adding and a < b:
            a, b = b, a
        sign = "+" if adding else "-"
        text = dice.pick(_PHRASES[language]).format(f"{a}{sign}{b}")
        trace, total = (_add if adding else _subtract)(a, b, digits)
        return Draft(text, str(total), trace, "add" if adding else "subtract")

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)


def _add(a: int, b: int, digits: int) -> tuple[str, int]:
    out, carry, total = "", 0, a + b
    for k in range(1, digits + 1):
        a, x = divmod(a, 10)
        b, y = divmod(b, 10)
        s = x + y + carry
        out += f"{STEP[k]}{x}+{y}+{carry}={s:02d}"
        carry = s // 10
    return f"{out}>{total:0{digits + 1}d}", total


def _subtract(a: int, b: int, digits: int) -> tuple[str, int]:
    out, borrow, total = "", 0, a - b
    for k in range(1, digits + 1):
        a, x = divmod(a, 10)
        b, y = divmod(b, 10)
        lent = x < y + borrow
        out += f"{STEP[k]}{lent:d}{x}-{y}-{borrow}={x + 10 * lent - y - borrow}"
        borrow = int(lent)
    return f"{out}>{total:0{digits}d}", total
