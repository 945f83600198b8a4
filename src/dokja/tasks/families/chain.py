"""Variables defined from one another, in any order; level 1 to 4 is 2 to 5 variables."""

from __future__ import annotations

from itertools import pairwise

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import Dice, Draft, Family
from dokja.tasks.korean import particle
from dokja.tasks.problem import Problem

_NAMES = "abcdefghijkmnpqrstuvwxyz"  # without l and o, which look like digits
_PHRASES = {
    "en": ("{d}. What is {v}?", "Given {d}, find {v}.", "Find {v}: {d}.", "Value of {v}? {d}."),
    "ko": ("{d}일 때 {v}의 값은?", "{d}. {v}{neun} 얼마인가요?", "{v}{eul} 구하세요: {d}.", "{v}의 값은? {d}."),
}


class Chain(Family):
    """`c=b+2, a=3, b=a+4` -> `a=3, b=a+4=7, c=b+2=9` -> 9."""

    name = "chain"
    levels = (1, 2, 3, 4)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        names = dice.distinct(_NAMES, level + 1)
        value = dice.between(1, 30)
        definitions = [f"{names[0]}={value}"]
        steps = definitions[:]
        for before, name in pairwise(names):
            n = dice.between(1, 9)
            if value > n and dice.random() < 0.4:
                value, sign = value - n, "-"
            else:
                value, sign = value + n, "+"
            definitions.append(f"{name}={before}{sign}{n}")
            steps.append(f"{definitions[-1]}={value}")
        given = ", ".join(dice.distinct(definitions, len(definitions)))
        asked = names[-1]
        phrase = dice.pick(_PHRASES[language])
        if language == "ko":
            neun, eul = particle(asked, "은/는"), particle(asked, "을/를")
            return Draft(phrase.format(d=given, v=asked, neun=neun, eul=eul), str(value), ", ".join(steps))
        return Draft(phrase.format(d=given, v=asked), str(value), ", ".join(steps))

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)
