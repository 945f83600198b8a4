"""Counting a letter in a word, a syllable in a Hangul string; level 1 to 3 is 4-5, 6-7, 8-9 units."""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.families.words import real_word, word_with
from dokja.tasks.korean import particle
from dokja.tasks.problem import Problem

_PHRASES = {
    "en": (
        "Count the letter {c} in {w}.",
        "How many times does {c} appear in {w}?",
        "How many {c} are in {w}?",
        "Number of {c} in {w}?",
    ),
    "ko": (
        "'{c}'{i} 몇 번 나오나요? {w}.",
        "글자 '{c}'의 개수를 세세요: {w}.",
        "다음에 '{c}'{neun} 몇 개 있나요? {w}.",
        "다음에서 '{c}'{eul} 세어 보세요: {w}.",
    ),
}


class Letters(Family):
    """`a` in `banana` -> `a:①b0②a1③n1④a2⑤n2⑥a3` -> 3."""

    name = "letters"
    levels = (1, 2, 3)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        low = 2 + 2 * level
        word = real_word(dice, language, low, low + 1)
        if word:
            target = dice.pick(word)
        else:
            word, target = word_with(dice, language, dice.between(low, low + 1))
        count, trace = 0, f"{target}:"  # restated, so that every step compares with a place nearby
        for k, unit in enumerate(word, 1):
            count += unit == target
            trace += f"{STEP[k]}{unit}{count}"
        phrase = dice.pick(_PHRASES[language])
        if language == "ko":
            i, neun, eul = (particle(target, pair) for pair in ("이/가", "은/는", "을/를"))
            return Draft(phrase.format(c=target, w=word, i=i, neun=neun, eul=eul), str(count), trace)
        return Draft(phrase.format(c=target, w=word), str(count), trace)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)
