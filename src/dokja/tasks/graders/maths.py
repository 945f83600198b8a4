"""Mathematics: the cascade exact, normalised, numeric, part by part, math-verify. The first that can tell, tells.

| stage | tells | example |
|---|---|---|
| exact | the same text | `42`, `42` |
| normalised | the same formula in another hand | `\\dfrac12`, `\\frac{1}{2}`; `1{,}000원`, `1000` |
| numeric | values, exact where rational | `0.5`, `1/2`; `2\\sqrt3`, `\\sqrt{12}` |
| parts | tuples, sets, lists, part by part | `(1, 2)`; `x=1 또는 x=2` |
| math-verify | formulas with unknowns, in another process | `(x+1)^2`, `x^2+2x+1` |

An answer that is a number never reaches math-verify where the reference is one: values decide both ways.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from dokja.tasks.graders.base import verdict
from dokja.tasks.graders.latex import boxed, close, simplify, value
from dokja.tasks.graders.parts import as_interval, same_parts, unnamed
from dokja.tasks.graders.verify import WORKERS, VerifyFailed, Workers
from dokja.tasks.problem import Grade

Stage = Literal["exact", "normalised", "numeric", "parts", "math-verify"]
_LONGEST = 20_000  # characters at the end of an answer
_MARKER = re.compile(
    r"(?:final\s+answer|answer|정답|최종\s*답|답)[*_\s]*(?:[:：=]|\bis\b|은|는)[*_\s:：]*|####\s*", re.IGNORECASE
)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?", re.ASCII)
_DECORATION = re.compile(r"^[\s*_`\"'$]+|[\s*_`\"'$.。!]+$")
_CIRCLED = {c: str(n) for n, c in enumerate("①②③④⑤⑥⑦⑧⑨⑩", 1)}
_WORDS = re.compile(r"^[A-Za-z가-힣 ,.'-]+$")
_EITHER = re.compile(r"=.*(?:\bor\b|또는|혹은).*=")
_EQUALS = re.compile(rf"=\s*[$₩€£]?\s*((?>{_NUMBER.pattern}))(?!\s*[-+*=×^]|\s*/\s*\d)[^=]*$", re.ASCII)
_MONEY = re.compile(r"^\d.*(?:[-–−+*/=x×]\s*$|(?<!\\)[A-Za-z]{2,})|^\d[\d,.]*\s+\w")  # $5 + $: amounts, no formula
_HEDGE = re.compile(r"\d\s*(?:or|또는|혹은)\s*-?\d", re.IGNORECASE)


class Found(NamedTuple):
    """What an answer gives as its result, and where it stood."""

    text: str
    where: Literal["box", "marker", "line", "last number"]


def find_answer(answer: str) -> Found | None:
    """The result that an answer states: its last box, else what follows its last marker, else its last line.

    A last line of words yields its last number. None where there is none of these.
    """
    text = unicodedata.normalize("NFC", answer[-_LONGEST:]).strip()
    inside = boxed(text)
    if inside is not None and inside.strip():
        return Found(inside.strip(), "box")
    for mark in reversed(list(_MARKER.finditer(text))):
        rest = text[mark.end() :].strip()
        line = _DECORATION.sub("", rest.split("\n", 1)[0])
        if line and any(c.isalnum() or c in _CIRCLED for c in line):
            return Found(_last_formula(line), "marker")
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    line = _DECORATION.sub("", lines[-1])
    if value(simplify(line)) is not None:
        return Found(line, "line")
    formula = _last_formula(line)
    if formula != line:
        return Found(formula, "line")
    numbers = _NUMBER.findall(line)
    if _HEDGE.search(line):
        return None
    return Found(numbers[-1], "last number") if numbers else None


def _last_formula(line: str) -> str:
    """The formula in a line of words: between the last pair of $ or \\( \\), or the number behind the last =."""
    inner = [a or b for a, b in re.findall(r"\$([^$]+)\$|\\\((.+?)\\\)", line)]
    if inner and not _MONEY.search(inner[-1]):
        return str(inner[-1])
    bare = simplify(line)
    if value(bare) is not None or len(line.split()) <= 2 or _EITHER.search(line):
        return line
    numbers = _NUMBER.findall(line)
    if re.search(r"[A-Za-z가-힣]{2,}", re.sub(r"\\[A-Za-z]+", "", line)):
        if equals := _EQUALS.search(line):
            return equals.group(1)
        if len(set(numbers)) == 1 and not _HEDGE.search(line):
            return str(numbers[0])
    return line


def _values(text: str) -> set[Any]:
    """The value of a formula; with a percent sign at its end, with and without the sign."""
    found = value(text)
    if found is None:
        return set()
    if text.endswith("%") and (bare := value(text[:-1])) is not None:
        return {found, bare}
    return {found}


def same(reference: str, answer: str) -> tuple[bool | None, Stage]:
    """Whether two formulas are the same, and which stage could tell; None where only math-verify could."""
    if reference.strip() == answer.strip():
        return True, "exact"
    left, right = (as_interval(unnamed(simplify(text))) for text in (reference, answer))
    if left and left == right:
        return True, "normalised"
    if right in _CIRCLED:
        right = _CIRCLED[right]
    mine, theirs = _values(left), _values(right)
    if "=" in right and not theirs and "," not in right:
        theirs = _values(right.rpartition("=")[2])  # 3+9=12
    if mine and theirs:
        return any(close(a, b) for a in mine for b in theirs), "numeric"
    if _WORDS.match(left) and _WORDS.match(right) and len(left) > 1 and len(right) > 1:
        return left.casefold() == right.casefold(), "normalised"
    return same_parts(left, right, lambda a, b: same(a, b)[0]), "parts"


@dataclass(frozen=True)
class Maths:
    """Reference: a formula as text. `integer` is for contests whose answers are whole numbers."""

    integer: bool = False
    workers: Workers = WORKERS

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Right or wrong with the stage that told; grader_failed where none could."""
        found = find_answer(answer)
        if found is None:
            return None
        wanted = str(reference)
        if self.integer:
            number = _whole(found.text)
            if number is None:
                return None
            return verdict(number == Fraction(wanted), f"exact: {number}, expected {wanted}")
        told, stage = same(wanted, found.text)
        if told is None:
            try:
                told, _ = self.workers.ask(f"${wanted.strip('$ ')}$", f"${found.text.strip('$ ')}$")
            except VerifyFailed as failure:
                return Grade(0.0, "grader_failed", f"{failure}; {found.text[:80]!r} against {wanted[:80]!r}")
            stage = "math-verify"
            if told is None:
                return None
        return verdict(told, f"{stage}: {found.text[:120]} ({found.where}), expected {wanted[:120]}")


def _whole(text: str) -> int | None:
    """The one whole number that a formula is; fractions and other values give None only where there is none."""
    found = value(unnamed(simplify(text)))
    if found is None and "=" in text:
        found = value(simplify(text.rpartition("=")[2]))
    if found is None:
        numbers = {int(n.replace(",", "").split(".")[0]) for n in _NUMBER.findall(text)}
        return numbers.pop() if len(numbers) == 1 else None
    return int(found) if found == int(found) else -(10**9)  # a value, and not a whole one: wrong
