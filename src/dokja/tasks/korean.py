"""Korean by rule: syllables, the particle that fits a word, and numerals.

A particle has two forms; the last sound of the word before it decides. Words may end in Hangul, in a numeral (read in
Sino-Korean: 3 is 삼, so `3은`), in a Latin letter (a single one or an acronym is read by the letter's Korean name: L is
엘, so `L은`; R is read 알) or in closing quotes and brackets, which are silent. A Latin word of several letters is
judged by its spelling, which is an approximation.
"""

from __future__ import annotations

_FIRST, _LAST = 0xAC00, 0xD7A3
_RIEUL = 8  # place of ㄹ among the 28 finals: 로 follows it as if there were none

# Finals of the readings: 영 일 이 삼 사 오 육 칠 팔 구, as (place of the final); only none, ㄹ and other matter.
_DIGIT_FINAL = {"0": 21, "1": 8, "2": 0, "3": 16, "4": 0, "5": 0, "6": 1, "7": 8, "8": 8, "9": 0}
_LETTER_FINAL = {"l": 8, "m": 16, "n": 4, "r": 8}
_SPELLED_FINAL = {"l": 8, "m": 16, "n": 4, "b": 17, "p": 17, "k": 1, "c": 1, "g": 21, "t": 19, "d": 19}
_SILENT = "'\"’”)]}>»」』】 .,!?"

_PAIRS = {
    "은/는": ("은", "는"),
    "이/가": ("이", "가"),
    "을/를": ("을", "를"),
    "과/와": ("과", "와"),
    "으로/로": ("으로", "로"),
    "이에요/예요": ("이에요", "예요"),
    "이다/다": ("이다", "다"),
    "이라/라": ("이라", "라"),
    "이나/나": ("이나", "나"),
    "이랑/랑": ("이랑", "랑"),
    "아/야": ("아", "야"),
}
PARTICLES: dict[str, tuple[str, str]] = _PAIRS | {"/".join(reversed(k.split("/"))): v for k, v in _PAIRS.items()}
"""Either order of writing a pair (은/는, 는/은) -> (after a final consonant, after none)."""

_SINO = ("", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구")
_NATIVE_ONES = ("", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_BEFORE_COUNTER = {"하나": "한", "둘": "두", "셋": "세", "넷": "네", "스물": "스무"}


def is_syllable(char: str) -> bool:
    """Whether `char` is one whole Hangul syllable (NFC)."""
    return len(char) == 1 and _FIRST <= ord(char) <= _LAST


def decompose(char: str) -> tuple[int, int, int]:
    """The places of initial (0-18), vowel (0-20) and final (0-27, 0 = none) of a syllable. Unicode 3.12."""
    code = ord(char) - _FIRST
    return code // 588, code % 588 // 28, code % 28


def compose(initial: int, vowel: int, final: int = 0) -> str:
    """The syllable of these places, the inverse of `decompose`."""
    return chr(_FIRST + initial * 588 + vowel * 28 + final)


def final_of(word: str) -> int:
    """The place of the final consonant with which `word` ends when read aloud; 0 where it ends in a vowel."""
    word = word.rstrip(_SILENT)
    if not word:
        return 0
    char = word[-1]
    if _FIRST <= ord(char) <= _LAST:
        return (ord(char) - _FIRST) % 28
    if char in _DIGIT_FINAL:
        return _number_final(word)
    char = char.lower()
    if not "a" <= char <= "z":
        return 0
    by_name = word[-1].isupper() or len(word) == 1 or not word[-2].isalpha()
    if not by_name and char == "g":
        return 21 if word[-2:].lower() == "ng" else 1
    return (_LETTER_FINAL if by_name else _SPELLED_FINAL).get(char, 0)


def _number_final(word: str) -> int:
    stripped = word.rstrip("0,")
    if stripped == word:
        return _DIGIT_FINAL[word[-1]]
    zeros = len(word[len(stripped) :].replace(",", ""))
    if not stripped or not stripped[-1].isdigit():
        return 21  # zero itself: 영
    return 0 if 12 <= zeros < 16 else 1  # 십 백 천 만 억 경 end in a consonant other than ㄹ; only 조 ends in none


def particle(word: str, pair: str) -> str:
    """The form of `pair` that follows `word`; KeyError for a pair not in PARTICLES."""
    closed, open_ = PARTICLES[pair]
    final = final_of(word)
    if final == 0 or (final == _RIEUL and open_ == "로"):
        return open_
    return closed


def josa(word: str, pair: str) -> str:
    """`word` with its particle: josa("사과", "을/를") == "사과를"."""
    return word + particle(word, pair)


def sino(number: int) -> str:
    """Sino-Korean numeral, 0 to 99,999,999: 이십삼."""
    if number == 0:
        return "영"
    if number >= 10_000:
        head = "" if number // 10_000 == 1 else sino(number // 10_000)
        return f"{head}만{sino(number % 10_000) if number % 10_000 else ''}"
    out = ""
    for unit, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit = number // unit % 10
        if digit:
            out += ("" if digit == 1 and name else _SINO[digit]) + name
    return out


def native(number: int, counting: bool = False) -> str:
    """Native numeral, 1 to 99: 스물셋. With `counting`, as it stands before a counter: 스물세 (살), 스무 (살)."""
    if not 1 <= number <= 99:
        raise ValueError(f"native numerals run from 1 to 99, not {number}")
    tens, ones = _NATIVE_TENS[number // 10], _NATIVE_ONES[number % 10]
    if counting:
        ones = _BEFORE_COUNTER.get(ones, ones)
        tens = tens if ones else _BEFORE_COUNTER.get(tens, tens)
    return tens + ones
