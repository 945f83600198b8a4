"""Instructions that make sense in Korean, under `ko:`; lengths count what Korean counts: syllables and spaced words."""

from __future__ import annotations

import re
import unicodedata

from dokja.tasks.graders.instructions import prose
from dokja.tasks.graders.instructions.ifeval import Check, compare
from dokja.tasks.korean import is_syllable

_INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_POLITE = re.compile(r"(?:요|니다|니까|시오|세요|십시오|죠)$")
_FORMAL = re.compile(r"(?:니다|니까|시오)$")
_PLAIN = re.compile(r"(?<![니])다$|(?:는가|인가|을까|ㄹ까|까|라|자|네)$")
_NOT_WORDS = " \t\r\n.,!?;:'\"`*_~()[]{}<>“”‘’「」『』《》〈〉·…。、-–—#"


def _sentences(text: str) -> list[str]:
    """Sentences and lines, without marks at their ends; those without Hangul are left out."""
    pieces = [s.strip(_NOT_WORDS) for line in text.split("\n") for s in prose.sentences(line)]
    return [p for p in pieces if any(map(is_syllable, p))]


def syllable_count(text: str, relation: str, count: int) -> bool:
    """The number of Hangul syllables."""
    return compare(sum(map(is_syllable, unicodedata.normalize("NFC", text))), relation, count)


def word_count(text: str, relation: str, count: int) -> bool:
    """The number of words between spaces (eojeol)."""
    return compare(len([w for w in text.split() if any(c.isalnum() for c in w)]), relation, count)


def polite(text: str) -> bool:
    """Every sentence ends politely (요, 니다, ...)."""
    found = _sentences(text)
    return bool(found) and all(map(_POLITE.search, found))


def formal(text: str) -> bool:
    """Every sentence ends in the formal style (니다, 니까, 시오)."""
    found = _sentences(text)
    return bool(found) and all(map(_FORMAL.search, found))


def plain(text: str) -> bool:
    """Every sentence ends in the plain style (다, 는가, ...), none politely."""
    found = _sentences(text)
    return bool(found) and not any(map(_POLITE.search, found)) and all(map(_PLAIN.search, found))


def no_latin(text: str) -> bool:
    """Not one Latin letter."""
    return not any(prose.script_of(c) == "latin" for c in text)


def no_digits(text: str) -> bool:
    """Not one digit of any kind."""
    return not any(c.isdigit() for c in text)


def initials(text: str, initials: str) -> bool:
    """The words start with these consonants, in this order and no others."""
    text = unicodedata.normalize("NFC", text)
    heads = [w.strip(_NOT_WORDS)[:1] for w in text.split()]
    return "".join(_INITIALS[(ord(h) - 0xAC00) // 588] for h in heads if h and is_syllable(h)) == initials


def acrostic(text: str, word: str) -> bool:
    """As many lines as the word has syllables, each starting with its own."""
    lines = [line.strip(_NOT_WORDS) for line in text.split("\n") if line.strip(_NOT_WORDS)]
    # a line may name its syllable first: `나: 나무가 ...`
    bodies = [re.sub(r"^(\S)\s*[:：.)\-]\s*", "", line) for line in lines]
    return len(bodies) == len(word) and all(b[:1] == c for b, c in zip(bodies, word, strict=True))


def sentence_count(text: str, relation: str, count: int) -> bool:
    """The number of sentences; a line ends one."""
    return compare(len(_sentences(text)), relation, count)


def ends_with(text: str, phrase: str) -> bool:
    """These last words; a full stop after them is free."""
    return text.strip().strip(_NOT_WORDS).endswith(phrase.strip(_NOT_WORDS))


def exactly(text: str, keyword: str, count: int) -> bool:
    """A keyword exactly so many times, particles after it aside."""
    return unicodedata.normalize("NFC", text).count(keyword) == count


def numbered(text: str, count: int) -> bool:
    """Lines numbered 1 to `count` in order, and no other numbered line."""
    found = re.findall(r"^\s*(\d+)[.)]\s*\S", text, re.MULTILINE)
    return found == [str(n) for n in range(1, count + 1)]


CHECKS: dict[str, Check] = {
    "ko:syllables": syllable_count,
    "ko:words": word_count,
    "ko:sentences": sentence_count,
    "ko:polite": polite,
    "ko:formal": formal,
    "ko:plain": plain,
    "ko:no_latin": no_latin,
    "ko:no_digits": no_digits,
    "ko:initials": initials,
    "ko:acrostic": acrostic,
    "ko:ends_with": ends_with,
    "ko:exactly": exactly,
    "ko:numbered": numbered,
}
