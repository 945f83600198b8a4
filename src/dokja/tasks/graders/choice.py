"""Multiple choice: which option an answer chose.

| form | read as |
|---|---|
| `Answer: C`, `**Answer:** (C)`, `the answer is C` | the letter |
| `정답은 ③입니다`, `정답: 3번`, `답은 다` | the third |
| `\\boxed{C}`, `\\boxed{\\text{C}}` | the letter |
| `C`, `C. Paris`, `③ 서울` as the first or last line | the letter |
| `Paris`, alone or after the marker | the option of that text |
| `A or B`, `①, ③` | None: hedging is not answering |
| `A가 아니라 B`, `not A but B` | B |

The last marker wins, as in `(?i)[\\*\\_]{0,2}Answer[\\*\\_]{0,2}\\s*:[\\s\\*\\_]{0,2}\\s*([A-Z])(?![a-zA-Z0-9])` of the
usual harnesses, of which everything found here is a superset.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dokja.tasks.extract import tidy
from dokja.tasks.graders.base import verdict
from dokja.tasks.problem import Grade

Labels = Literal["letters", "numbers", "circled"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
_SYLLABLES, _JAMO = "가나다라마바사아자차", "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊ"

_MARKER = re.compile(
    r"(?:final\s+answer|correct\s+(?:answer|option|choice)|answer|정답|답변|답)"
    r"[*_\s]*(?:[:：=]|\bis\b|은|는|이|가|→)[*_\s:：]*",
    re.IGNORECASE,
)
_LEAD = (
    r"(?:[\s*_\"'`「『<\[({$]|\\(?:boxed|text|textbf|mathrm|mathbf|fbox)"
    r"|(?:option|choice|letter|number|보기|선택지|번호)\b)*"
)
_BACK = (
    r"(?![A-Za-z0-9가-힣ㄱ-ㅎ])|(?=번|입니다|이다|이에요|예요|이며|이고|이므로|임|을|를|이|가|은|는|와|과|로|으로|다\b)"
)
_LABEL = (
    rf"(?:([A-Za-z])(?:{_BACK})|([{CIRCLED}])|(\d{{1,2}})(?![\d.]\d)(?:{_BACK})|([{_SYLLABLES}{_JAMO}])(?:{_BACK}))"
)
_FIRST = re.compile(_LEAD + _LABEL)
_ALSO = re.compile(
    r"[\s*_\"'`)\]}.번]*(?:,|/|&|·|\bor\b|\band\b|또는|혹은|이나|거나|나\s|과|와|및)[\s*_\"'`(\[{]*" + _LABEL,
)
_DENIED = re.compile(r"[\s*_)\]}.]*(?:번|이|가|은|는)*\s*아니(?:라|고|며|므로|에요|다)")
_NOT = re.compile(r"\s*not\b", re.IGNORECASE)
_CLEAR = re.compile(rf"([{CIRCLED}])|\(([A-J])\)|(?<!\d)(\d)\s*번")
_LINE = re.compile(rf"^{_LEAD}{_LABEL}[\s*_)\]}}.:번,-]")
_BOX = re.compile(r"\\boxed\s*\{")
_EDGES = " \t\r\n.,!?;:'\"`*_$()[]{}<>“”‘’「」『』。…~\\"


def show_options(options: Sequence[str], labels: Labels) -> str:
    """The options as lines of a prompt."""
    marks = {"letters": [f"{c}." for c in LETTERS], "numbers": [f"{n}." for n in range(1, 27)], "circled": CIRCLED}
    return "\n".join(f"{mark} {option}" for mark, option in zip(marks[labels], options, strict=False))


def label_of(place: int, labels: Labels) -> str:
    """What an answer calls the option at `place`."""
    return {"letters": LETTERS, "numbers": [str(n) for n in range(1, 27)], "circled": CIRCLED}[labels][place]


def _place(groups: tuple[str | None, ...]) -> int:
    letter, circled, number, syllable = groups
    if letter:
        return LETTERS.index(letter.upper())
    if circled:
        return CIRCLED.index(circled)
    if number:
        return int(number) - 1
    assert syllable
    return _SYLLABLES.index(syllable) if syllable in _SYLLABLES else _JAMO.index(syllable)


def _plain(text: str) -> str:
    """An option's text without case, spaces and marks."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in text if c.isalnum() or c in "+-./%")


def _of_text(text: str, options: Sequence[str], labels: Labels) -> int | None:
    """The one option whose text this is. What is a label of an option is no text: `4` among numbered options."""
    text = text.strip(_EDGES)
    if text in CIRCLED or (labels != "letters" and text.isdigit() and 1 <= int(text) <= len(options)):
        return None
    bare = _plain(text)
    same = [n for n, option in enumerate(options) if bare and bare == _plain(option.strip(_EDGES))]
    return same[0] if len(same) == 1 else None


def _read(region: str, options: Sequence[str], labels: Labels) -> int | None:
    """The option that a marked place names; -1 where it names several."""
    region = region.strip()
    line = region.split("\n", 1)[0]
    if (place := _of_text(line, options, labels)) is not None:
        return place
    at = 0
    if denied := _NOT.match(line):
        # "not A but B": what counts stands behind the "but"
        but = re.search(r"\bbut\b", line[denied.end() :], re.IGNORECASE)
        if but is None:
            return None
        at = denied.end() + but.end()
    while first := _FIRST.match(line, at):
        if denied := _DENIED.match(line, first.end()):
            at = denied.end()
            continue
        if also := _ALSO.match(line, first.end()):
            return _place(first.groups()) if _place(also.groups()) == _place(first.groups()) else -1
        if first.group(3) and labels == "letters" and not line[first.end(3) :].lstrip().startswith("번"):
            # a bare number among letters may be the text of an option
            return next((n for n, o in enumerate(options) if _plain(o) == first.group(3)), _place(first.groups()))
        if first.group(1) and first.group(1).islower() and not re.match(r"\s*$|[.):,번]", line[first.end(1) :]):
            break  # "a dog", "i think"
        if first.group(1) in ("A", "I") and re.match(r"\s+[a-z]", line[first.end(1) :]):
            break  # the article, the pronoun
        return _place(first.groups())
    clear = {_place((b, a, c, None)) for a, b, c in _CLEAR.findall(line[at:])}
    return clear.pop() if len(clear) == 1 else -1 if clear else None


def _boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...}, its braces counted."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    depth, start = 1, boxes[-1].end()
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return text[start:]


def read_choice(answer: str, options: Sequence[str], labels: Labels = "letters") -> int | None:
    """The place of the option that `answer` chose, counted from 0; None where it chose none or several.

    A place beyond the options is returned as it is: that is a choice, and a wrong one.
    """
    text = tidy(answer)
    marks = list(_MARKER.finditer(text))
    for mark in reversed(marks):
        found = _read(text[mark.end() :], options, labels)
        if found is not None:
            return None if found < 0 else found
    if (inside := _boxed(text)) is not None:
        found = _read(inside, options, labels)
        return None if found is None or found < 0 else found
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for line in (lines[-1], lines[0]) if lines else ():
        if (place := _of_text(line, options, labels)) is not None:
            return place
        if _LINE.match(line + " ") or _FIRST.fullmatch(line.strip(_EDGES)):
            found = _read(line, options, labels)
            return None if found is None or found < 0 else found
    if len(lines) == 1:
        found = _read(lines[0], options, labels) if _CLEAR.search(lines[0]) else None
        return None if found is None or found < 0 else found
    return None


@dataclass(frozen=True)
class Choice:
    """Reference: `{"answer": place from 0, "options": [texts]}`."""

    labels: Labels = "letters"

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Whether the chosen option is the right one."""
        chosen = read_choice(answer, reference["options"], self.labels)
        if chosen is None:
            return None
        right = label_of(reference["answer"], self.labels)
        named = label_of(chosen, self.labels) if chosen < len(reference["options"]) else "no option"
        return verdict(chosen == reference["answer"], f"chose {named}, expected {right}")
