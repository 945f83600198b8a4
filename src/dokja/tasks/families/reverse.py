"""Writing a word backwards, by letters or by Hangul syllables; level 1 to 3 is 3-4, 5-6, 7-8 units."""

from __future__ import annotations

from dokja.tasks.extract import same_word
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.families.words import distinct_word, real_word
from dokja.tasks.problem import Problem

_PHRASES = {
    "en": ("Reverse the word {}.", "Write backwards: {}.", "Spell in reverse: {}.", "What is the reverse of {}?"),
    "ko": ("거꾸로 쓰세요: {}.", "다음 낱말을 뒤집으세요: {}.", "뒤에서부터 읽으면? {}.", "글자 순서를 거꾸로: {}."),
}


class Reverse(Family):
    """`대한민국` -> `①대②한③민④국>④국③민②한①대` -> 국민한대."""

    name = "reverse"
    levels = (1, 2, 3)
    needs_steps = False

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        low = 1 + 2 * level
        word = real_word(dice, language, low, low + 1)
        if word is None:
            word = distinct_word(dice, language, dice.between(low, low + 1))
        units = [STEP[k] + unit for k, unit in enumerate(word, 1)]
        trace = f"{''.join(units)}>{''.join(reversed(units))}"
        return Draft(dice.pick(_PHRASES[language]).format(word), word[::-1], trace)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_word(problem.reference, answer)
