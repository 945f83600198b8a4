"""Finding the answer in what a model wrote, and comparing it with the reference.

Each `same_*` function returns True (right), False (another answer) or None (no answer of that kind, or several
different ones: hedging is not answering). All work on at most LONGEST characters, whatever is thrown at them.

| what is read past | example |
|---|---|
| thoughts above the last line, a marker | `...\\nAnswer: 12`, `정답: 12`, `\\boxed{12}` |
| full-width characters, decomposed Hangul | `１２`, `ㄱ+ㅏ` typed as jamo |
| invisible and control characters | NUL, zero-width, right-to-left marks |
| units, endings, quotes, final marks | `12개입니다.`, `**12**`, `"12"` |
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 4000
"""Characters of an answer that are looked at: its end, from a word boundary."""
_TOO_LONG = 40  # digits; no reference comes near

_INVISIBLE = dict.fromkeys(
    [c for c in range(32) if chr(c) not in "\n\t\r"]
    + [*range(0x7F, 0xA0), 0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)
_FULL_WIDTH = {c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0x2212: "-"}
_CLEAN = _INVISIBLE | _FULL_WIDTH
_BOX = "\\boxed{"
_MARKER = re.compile(r"(?:final answer|answer|정답|답변|답)\s*(?:is|은|는)?\s*[:：=]", re.IGNORECASE)
_REFUSAL = re.compile(r"\b(?:i (?:can(?:no|')t|don't know|am unable)|sorry)\b|모르겠|할 수 없|죄송", re.IGNORECASE)

_NUMBER = re.compile(r"(?:(?<![\w.)\]])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?", re.ASCII)
_INTEGER = re.compile(r"\d+", re.ASCII)
_TIME = re.compile(r"(\d{1,2})\s*(?::|시)\s*(?:(\d{1,2})\s*분?)?", re.ASCII)
_HALF_DAY = re.compile(r"\b([ap])\.?m\b|(오전)|(오후)", re.IGNORECASE)
_PUNCTUATION = " \t\r\n.,!?;:'\"`*_$()[]{}<>“”‘’「」『』。…~"

WEEKDAYS = {
    "en": ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "ko": ("일요일", "월요일", "화요일", "수요일", "목요일", "금요일", "토요일"),
}
"""Names by language; their places (Sunday is 0) are the numbers used in traces."""
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAY_KO = re.compile(r"([일월화수목금토])요일")
_WEEKDAY_EN = re.compile(r"(?<![a-z])(sun|mon|tue|wed|thu|fri|sat)(?:s|nes|rs|ur)?(?:day)?(?![a-z])", re.IGNORECASE)
_ENDING_KO = re.compile(r"(?:입니다|이에요|예요|이다|이야|다|요)$")
_MONTH_NAME = re.compile(
    r"(?<![a-z])(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s*(\d{1,2})(?!\d)", re.IGNORECASE | re.ASCII
)
_NAME_MONTH = re.compile(
    r"(?<!\d)(\d{1,2})(?:st|nd|rd|th)?\s*(?:of\s*)?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
    re.IGNORECASE | re.ASCII,
)
_MONTH_DAY = re.compile(r"(?<!\d)(\d{1,2})\s*(?:월|/)\s*(\d{1,2})(?!\d)\s*일?", re.ASCII)
_LABEL = re.compile(r"(?<![A-Za-z])[A-Z](?![A-Za-z])")


def tidy(answer: str) -> str:
    """The end of `answer`, composed (NFC), without invisible characters, full-width characters made narrow."""
    if len(answer) > LONGEST:
        answer = answer[-LONGEST:]
        broken = re.search(r"\s", answer)  # the first word was cut: what is left of it is not what was written
        answer = answer[broken.end() :] if broken else ""
    return unicodedata.normalize("NFC", answer).translate(_CLEAN).strip()


def final_part(answer: str) -> str:
    """The part that holds the answer: the last \\boxed{...}, else what follows the last marker, else the last line."""
    text = tidy(answer)
    start = text.rfind(_BOX)
    if start >= 0:
        inside = text[start + len(_BOX) :]
        return _strip(inside[: inside.find("}")] if "}" in inside else inside)
    marks = list(_MARKER.finditer(text))
    if marks:
        text = text[marks[-1].end() :].strip()
        return _strip(text.split("\n", 1)[0])
    return _strip(text.rsplit("\n", 1)[-1])


def _strip(text: str) -> str:
    return text.strip(_PUNCTUATION)


def is_refusal(answer: str) -> bool:
    """Whether the answer says that it will not or cannot answer."""
    return _REFUSAL.search(tidy(answer)) is not None


def _canonical(number: str) -> str:
    whole, _, fraction = number.replace(",", "").partition(".")
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    if len(whole) > _TOO_LONG:
        return "too long"
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return ("" if whole == "0" and not fraction else sign) + whole + ("." + fraction if fraction else "")


def _one_number(text: str) -> str | None:
    found = {_canonical(n) for n in _NUMBER.findall(text)}
    return found.pop() if len(found) == 1 else None


def same_number(reference: str, answer: str) -> bool | None:
    """Equal as numbers: `12`, `012`, `12.0`, `１２개입니다`, `3+9=12`. Several different numbers are no answer."""
    text = final_part(answer)
    number = _one_number(text.rpartition("=")[2]) if "=" in text else _one_number(text)
    return None if number is None else number == _canonical(reference)


def same_list(reference: str, answer: str) -> bool | None:
    """The same whole numbers in the same order, whatever stands between them."""
    found = _INTEGER.findall(final_part(answer))
    if not found:
        return None
    return [_canonical(n) for n in found] == [_canonical(n) for n in _INTEGER.findall(reference)]


def same_word(reference: str, answer: str) -> bool | None:
    """The same word, spaces and case aside; its last word alone, or a Korean ending after it, will do."""
    text = final_part(answer)
    if not any(c.isalpha() for c in text):
        return None
    joined = "".join(text.split())
    candidates = {joined, _strip(text.split()[-1])}
    candidates |= {_strip(_ENDING_KO.sub("", c)) for c in candidates}
    return reference.casefold() in {c.casefold() for c in candidates}


def same_label(reference: str, answer: str) -> bool | None:
    """The same single Latin letter: `B`, `B입니다`, `cup B`. Several different letters are no answer."""
    text = final_part(answer)
    found = {text.upper()} if len(text) == 1 and text.isalpha() else set(_LABEL.findall(text))
    return None if len(found) != 1 else found.pop() == reference


def weekday_of(text: str) -> int | None:
    """0 (Sunday) to 6 where `text` names exactly one day of the week, in either language, short or long."""
    found = {"일월화수목금토".index(d) for d in _WEEKDAY_KO.findall(text)}
    found |= {[n[:3].lower() for n in WEEKDAYS["en"]].index(d.lower()) for d in _WEEKDAY_EN.findall(text)}
    if not found:
        short = text if len(text) == 1 else _strip(_ENDING_KO.sub("", text))
        found = {"일월화수목금토".index(short)} if len(short) == 1 and short in "일월화수목금토" else set()
    return found.pop() if len(found) == 1 else None


def same_weekday(reference: str, answer: str) -> bool | None:
    """The same day of the week: `Saturday`, `Sat`, `토요일`, `토`."""
    day = weekday_of(final_part(answer))
    return None if day is None else day == weekday_of(reference)


def _minutes(text: str) -> int | None:
    found = set()
    for hours, minutes in _TIME.findall(text):
        hour, minute = int(hours), int(minutes or 0)
        half = _HALF_DAY.search(text)
        if half and 1 <= hour <= 12:
            afternoon = half.group(3) is not None or (half.group(1) or "").lower() == "p"
            hour = hour % 12 + 12 * afternoon
        found.add(hour * 60 + minute if hour <= 24 and minute < 60 else -1)
    return found.pop() if len(found) == 1 else None


def same_time(reference: str, answer: str, clock: int = 24) -> bool | None:
    """The same time on a clock of 24 or 12 hours: `03:05`, `3:05`, `3시 5분`, `3:05 PM` for 15:05."""
    time, right = _minutes(final_part(answer)), _minutes(reference)
    if time is None or right is None:
        return None
    return time >= 0 and (time - right) % (clock * 60) == 0


def same_date(reference: str, answer: str) -> bool | None:
    """The same month and day: `April 6`, `6 April`, `4월 6일`, `4/6`."""
    found = _dates(final_part(answer))
    return None if len(found) != 1 else found == _dates(reference)


def _dates(text: str) -> set[tuple[int, int]]:
    short = [m[:3].lower() for m in MONTHS]
    found = {(short.index(m.lower()) + 1, int(d)) for m, d in _MONTH_NAME.findall(text)}
    found = found or {(short.index(m.lower()) + 1, int(d)) for d, m in _NAME_MONTH.findall(text)}
    return found or {(int(m), int(d)) for m, d in _MONTH_DAY.findall(text)}
