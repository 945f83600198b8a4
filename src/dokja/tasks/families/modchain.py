"""Chained modular arithmetic, reduced after each step; level 1 to 4 is 2 to 5 operations, modulus 5 to 9.

Every operation is in brackets, so the order is the reading order. Multipliers stay small and nothing is subtracted
below zero: each step is one product or sum of one-digit numbers and one remainder of a two-digit number.
"""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.korean import josa
from dokja.tasks.problem import Problem

_PHRASES = {
    "en": (
        "Compute {e} mod {m}.",
        "Modulo {m}, what is {e}?",
        "Mod {m}: {e}.",
        "Divide by {m} and give the remainder: {e}.",
    ),
    "ko": (
        "{e} mod {m}의 값은?",
        "{m_ro} 나눈 나머지는? {e}.",
        "{m_ro} 나눈 나머지를 구하세요: {e}.",
        "mod {m} 계산: {e}.",
    ),
}
_BY = {m: josa(str(m), "으로/로") for m in range(5, 10)}


class ModChain(Family):
    """`((3*4)+5)-2 mod 7` -> `①3*4=12>5②5+5=10>3③3-2=01>1` -> 1."""

    name = "modchain"
    levels = (1, 2, 3, 4)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        modulus = dice.between(5, 9)
        value = dice.between(1, modulus - 1)
        text, trace = str(value), ""
        for k in range(1, level + 2):
            kind = dice.random()
            if kind < 0.4 and value:  # a product of 0 stays 0, which would let the end be guessed
                sign, n = "*", dice.between(2, 5)
                result = value * n
            elif kind < 0.75 or value < 2:
                sign, n = "+", dice.between(1, 9)
                result = value + n
            else:
                sign, n = "-", dice.between(1, value - 1)
                result = value - n
            text = f"{text}{sign}{n}" if k == 1 else f"({text}){sign}{n}"
            trace += f"{STEP[k]}{value}{sign}{n}={result:02d}>{result % modulus}"
            value = result % modulus
        prompt = dice.pick(_PHRASES[language]).format(e=f"({text})", m=modulus, m_ro=_BY[modulus])
        return Draft(prompt, str(value), trace)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)
