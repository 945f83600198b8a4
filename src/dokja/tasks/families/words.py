"""Words to spell, count in and reverse: pseudo-words, and a few real ones so that the task is not only about noise."""

from __future__ import annotations

from dokja.tasks.families.base import Dice

CONSONANTS = "bdfghjklmnprstvz"
VOWELS = "aeiou"
SYLLABLES = (
    "가나다라마바사아자차카타파하고노도로모보소오조초코토포호구두무부수우주"
    "기니디리미비시이지치피거너더러머버서어개내대배새애재강산달별문물발눈손말집길밥국동방선성안정"
)
_REAL = {
    "en": (
        "cat sun map pen dog box cup hat red fox lake moon bird milk door fish hand tree star wind "
        "apple bread chair table river stone cloud light music plant banana garden window summer orange "
        "pencil school kitchen picture morning village blanket notebook mountain sandwich elephant umbrella "
        "butterfly chocolate pineapple"
    ),
    "ko": (
        "고양이 강아지 바나나 사다리 도서관 자전거 코끼리 다람쥐 무지개 소나무 기차역 운동장 비행기 책가방 "
        "해바라기 고속도로 대한민국 세종대왕 어린이날 개나리꽃 바닷가재 초등학교 가로수길 "
        "오리너구리 아이스크림 텔레비전 스파게티면 오케스트라 지하철역 우체국장 나뭇가지"
    ),
}
_BY_LENGTH = {
    language: {n: [w for w in words.split() if len(w) == n] for n in range(2, 10)} for language, words in _REAL.items()
}
_REAL_SHARE = 0.15


def real_word(dice: Dice, language: str, low: int, high: int) -> str | None:
    """Now and then a real word of `low` to `high` units, else None."""
    if dice.random() >= _REAL_SHARE:
        return None
    words = _BY_LENGTH[language][dice.between(low, high)]
    return dice.pick(words) if words else None


def distinct_word(dice: Dice, language: str, length: int) -> str:
    """A pseudo-word of `length` (at most 9) different units: syllables, or consonants and vowels in turn."""
    if language == "ko":
        return "".join(dice.distinct(SYLLABLES, length))
    first = dice.below(2)  # 0: starts with a consonant
    consonants = dice.distinct(CONSONANTS, (length + 1 - first) // 2)
    vowels = dice.distinct(VOWELS, (length + first) // 2)
    return "".join((vowels if (i + first) % 2 else consonants)[i // 2] for i in range(length))


def word_with(dice: Dice, language: str, length: int) -> tuple[str, str]:
    """A pseudo-word of `length` units and one unit whose number of occurrences in it is about evenly spread."""
    if language == "ko":
        units = dice.distinct(SYLLABLES, length + 1)
        target, places = units.pop(), list(range(length))
    else:
        first = dice.below(2)
        units = [dice.pick(VOWELS if (i + first) % 2 else CONSONANTS) for i in range(length)]
        kind = dice.below(2)
        target = dice.pick(VOWELS if kind else CONSONANTS)
        places = [i for i in range(length) if (i + first) % 2 == kind]
        others = (VOWELS if kind else CONSONANTS).replace(target, "")
        for i in places:
            units[i] = dice.pick(others)
    for i in dice.distinct(places, dice.between(0, min(len(places), 5))):
        units[i] = target
    return "".join(units), target
