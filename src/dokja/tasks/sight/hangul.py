"""Reading Hangul; level 1 to 3 is 1, 2 and 3 syllables of the 173 in the fonts. Both languages answer in Hangul."""

from __future__ import annotations

from dokja.tasks.extract import final_part, same_word
from dokja.tasks.families.base import Dice, Draft
from dokja.tasks.korean import decompose
from dokja.tasks.problem import Problem
from dokja.tasks.sight.base import Sight, seen
from dokja.tasks.sight.digits import write

SYLLABLES = (
    "가나다라마바사아자차카타파하강고공과구국금기길김꽃꿈남내노논눈늘달닭대도돌동들딸땅떡떼람로리말매면모목무문물미민박반"
    "발밤방배백별병보봄부북불비빛빵산상새생서석선설성소손솔송수숲시신싹쌀안양어언여연영예오옥옷용우운원유윤은음이인일입잔"
    "장전정조종주준중지진짜집쪽창책천철청초춘치칠칼코콩크키탑토통트판팔편평포표품풍피학한해향허현형호홍화황효후훈휘흰희"
)
_FIRST = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWEL = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_LAST = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_PHRASES = {
    "en": ("Which Hangul is written?", "Read the Hangul.", "What Hangul do you see?"),
    "ko": ("어떤 글자가 쓰여 있나요?", "글자를 읽어 보세요.", "무슨 글자가 보이나요?"),
}


class Hangul(Sight):
    """`Read the Hangul.` -> `①ㅎㅏㄴ②ㄱㅡㄹ>한글` -> 한글."""

    name = "hangul"

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        text = "".join(dice.pick(SYLLABLES) for _ in range(level))
        image = write(dice, text, level, 0.95)
        return Draft(dice.pick(_PHRASES[language]), text, seen(map(jamo, text), text), "", (image,))

    def same(self, problem: Problem, answer: str) -> bool | None:
        words = final_part(answer).split()
        if any(not word.isascii() and not word.endswith(("은", "는", ":")) for word in words[:-1]):
            return None  # several readings, or one again and again: only a phrase may lead to the answer
        return same_word(problem.reference, answer)


def jamo(syllable: str) -> str:
    """The letters of a syllable: 한 -> ㅎㅏㄴ."""
    first, vowel, last = decompose(syllable)
    return _FIRST[first] + _VOWEL[vowel] + _LAST[last].strip()
