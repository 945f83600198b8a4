"""Names of people and things, with their Korean particles worked out once."""

from __future__ import annotations

from dokja.tasks.korean import josa


class Noun(str):
    """A noun with its particles: 민지는, 지민은; 사과를, 책을."""

    neun: str
    i: str
    eul: str

    def __new__(cls, name: str) -> Noun:
        out = super().__new__(cls, name)
        out.neun, out.i, out.eul = josa(name, "은/는"), josa(name, "이/가"), josa(name, "을/를")
        return out


class Person(Noun):
    """Somebody in a story."""


class Thing(Noun):
    """Something to count, with its counter: 사과 (개), 연필 (자루). In English the plural, without a counter."""

    counter: Noun

    def __new__(cls, name: str, counter: str = "") -> Thing:
        out = super().__new__(cls, name)
        assert isinstance(out, Thing)
        out.counter = Noun(counter)
        return out


_PEOPLE = {
    "en": "Mina Jun Tom Anna Ben Sara Leo Eva Sam Kate Noah Lily",
    "ko": "민지 준호 서연 지민 하은 유나 도윤 수아 태양 민수 예진 현우",
}
_THINGS = {
    "en": "apples pencils candies marbles cookies stickers books balls cards stamps eggs coins",
    "ko": "사과:개 연필:자루 사탕:개 구슬:개 책:권 공:개 색종이:장 귤:개 우표:장 과자:개 동전:개 꽃:송이",
}
NAMES = {language: tuple(Person(n) for n in names.split()) for language, names in _PEOPLE.items()}
"""Twelve names by language, in Korean with and without a final consonant."""
THINGS = {language: tuple(Thing(*n.split(":")) for n in names.split()) for language, names in _THINGS.items()}
"""Twelve countable things by language."""
