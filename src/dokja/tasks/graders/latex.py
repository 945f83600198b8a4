"""Formulas as text: one way of writing them, and their value where they have one.

`simplify` removes what does not change a meaning; `value` reads a closed expression without running anything: numbers,
+ - * / ^ !, fractions, roots, π, percent. Exact (`Fraction`) as long as everything is rational.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_DIGITS = 60  # of a number, and of powers and factorials: more is no answer to a problem
_DROPPED = re.compile(
    r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle|textstyle|limits|mathrm|mathbf|mathit|mathsf|textbf|textit|bf|rm|it)"
    r"(?![A-Za-z])|\\[!,;:> ]|\\quad|\\qquad|~|\$|\\\(|\\\)|\\\[|\\\]"
)
_TEXT = re.compile(r"\\(?:text|mbox|textrm|operatorname)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\\circ\}|°)|\\degree|°|℃|℉")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)")
_UNIT_EN = (
    r"(?:dollars?|cents?|degrees?|units?|inch(?:es)?|feet|foot|ft|miles?|hours?|minutes?|seconds?|days?|weeks?|months?|"
    r"years?|people|students?|ways?|points?|apples?|cm|mm|km|kg|mph|square\s+\w+|cubic\s+\w+|meters?|grams?|pounds?|"
    r"m\s*/\s*s|km\s*/\s*h|m|g|s|h|L|ml)"
)
_UNIT_KO = (
    r"(?:개월|가지|사람|시간|달러|마리|킬로미터|센티미터|미터|그램|킬로그램|리터|개|명|원|권|장|번|살|세|일|분|초|주|년|점|도|쪽|배|회|대|송이|자루|병|"
    r"그루|조각|등분|평|층|줄|칸|단계|퍼센트|cm|mm|km|kg|g|m|L)"
)
_UNIT = re.compile(rf"(?<=[\d)}}])\s*(?:\\?[ ]?)(?:{_UNIT_EN}(?:\s*\^?\s*\{{?[23²³]\}}?)?|{_UNIT_KO})\s*$")
_ENDING = re.compile(r"\s*(?:입니다|이에요|예요|이다|임|이므로|이 된다|가 된다|이 됩니다|가 됩니다)[.!]*$")
_MONEY = re.compile(r"^\s*(?:\\?\$|US\$|₩|€|£|\\text\{\$\})\s*(?=[\d.-])")
_NAMES = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\cdot": "*", r"\times": "*", r"\div": "/",
    r"\le ": r"\leq ", r"\ge ": r"\geq ", r"\ne ": r"\neq ", r"\infinity": r"\infty", "∞": r"\infty", "π": r"\pi",
    "−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "√": r"\sqrt", "≤": r"\leq", "≥": r"\geq", "²": "^2",
    "³": "^3", "½": r"\frac12", "％": "%", r"\%": "%", r"\{": "⟨", r"\}": "⟩", r"\lbrace": "⟨", r"\rbrace": "⟩",
}  # fmt: skip


def boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...} or \\fbox{...}, its braces counted; None where there is none."""
    found = list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))
    if not found:
        short = re.findall(r"\\boxed\s+(\S+)", text)
        return short[-1].rstrip("$.") if short else None
    depth, start = 1, found[-1].end()
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return text[start:]


def simplify(text: str) -> str:
    """One way of writing: no spacing, sizes, text marks, thousands marks, units or endings."""
    text = text.strip().rstrip(".。").strip()
    text = _MONEY.sub("", text)
    for old, new in _NAMES.items():
        text = text.replace(old, new)
    text = _THOUSANDS.sub(lambda m: re.sub(r"[^\d]", "", m.group()), text)
    text = _DEGREES.sub("", _DROPPED.sub("", _TEXT.sub(r" \1", text)))
    text = _MONEY.sub("", text)
    text = _ENDING.sub("", text.strip())
    text = _UNIT.sub("", text.strip())
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\s*\{(\w)\}", r"^\1", text)
    return re.sub(r"\s+", "", text).strip(".,;:")


class _NoValueError(ValueError):
    """The text is no closed expression."""


Number = Fraction | float


class _Reader:
    """Recursive descent over a simplified formula."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def need(self, token: str) -> None:
        if not self.take(token):
            raise _NoValueError

    def total(self) -> Number:
        value = self.product()
        while self.at < len(self.text) and self.text[self.at] in "+-":
            sign = self.text[self.at]
            self.at += 1
            other = self.product()
            value = value + other if sign == "+" else value - other
        return value

    def product(self) -> Number:
        value = self.signed()
        while True:
            if self.take("*"):
                value = value * self.signed()
            elif self.take("/"):
                value = _divide(value, self.signed())
            elif self.at < len(self.text) and (self.text[self.at] in "(\\" or self.text.startswith("{", self.at)):
                mixed = self.text.startswith("\\frac", self.at) and self.text[self.at - 1].isdigit()
                other = self.power()
                value = value + other if mixed else value * other  # 3\frac12 is a mixed number
            else:
                return value

    def signed(self) -> Number:
        if self.take("-"):
            return -self.signed()
        if self.take("+"):
            return self.signed()
        return self.power()

    def power(self) -> Number:
        base = self.atom()
        while self.take("!"):
            if not isinstance(base, Fraction) or base.denominator != 1 or not 0 <= base <= 40:
                raise _NoValueError
            base = Fraction(math.factorial(int(base)))
        if self.take("^"):
            exponent = self.group() if self.text.startswith("{", self.at) else self.signed()
            base = _power(base, exponent)
        while self.take("%"):
            base = base / 100
        return base

    def group(self) -> Number:
        self.need("{")
        value = self.total()
        self.need("}")
        return value

    def argument(self) -> Number:
        if self.text.startswith("{", self.at):
            return self.group()
        if self.at < len(self.text) and self.text[self.at].isdigit():
            self.at += 1
            return Fraction(self.text[self.at - 1])
        raise _NoValueError

    def atom(self) -> Number:
        for opening, closing in ("()", "[]", "{}"):
            if self.take(opening):
                value = self.total()
                self.need(closing)
                return value
        if self.take("\\frac"):
            above = self.argument()
            return _divide(above, self.argument())
        if self.take("\\sqrt"):
            degree: Number = Fraction(2)
            if self.take("["):
                degree = self.total()
                self.need("]")
            return _root(self.argument(), degree)
        if self.take("\\pi"):
            return math.pi
        number = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII).match(self.text, self.at)
        if number is None or len(number.group()) > _DIGITS:
            raise _NoValueError
        self.at = number.end()
        return Fraction(number.group().rstrip(".") or "0")


def _divide(a: Number, b: Number) -> Number:
    if b == 0:
        raise _NoValueError
    return a / b


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        size = max(len(str(base.numerator)), len(str(base.denominator)))
        if abs(exponent) * size > 10 * _DIGITS or (base == 0 and exponent < 0):
            raise _NoValueError
        return base ** int(exponent)
    if base < 0:
        raise _NoValueError
    if isinstance(exponent, Fraction) and isinstance(base, Fraction) and exponent > 0:
        return _power(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
    return float(base) ** float(exponent)


def _root(value: Number, degree: Number) -> Number:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 1 <= degree <= 9:
        raise _NoValueError
    n = int(degree)
    if value < 0:
        if n % 2 == 0:
            raise _NoValueError
        return -_root(-value, degree)
    if isinstance(value, Fraction):
        exact = [round(part ** (1 / n)) for part in (value.numerator, value.denominator)]
        if exact[0] ** n == value.numerator and exact[1] ** n == value.denominator:
            return Fraction(exact[0], exact[1])
    return float(value) ** (1 / n)


def value(text: str) -> Number | None:
    """The value of a simplified closed expression, exact where it is rational; None for anything else."""
    if not text or len(text) > 400:
        return None
    reader = _Reader(text)
    try:
        found = reader.total()
    except (_NoValueError, OverflowError, ZeroDivisionError, RecursionError, ValueError):
        return None
    if reader.at != len(text) or isinstance(found, complex) or (isinstance(found, float) and not math.isfinite(found)):
        return None
    return found


TOLERANCE = 1e-6
"""Relative; for values of which at least one is not exact."""


def close(a: Number, b: Number) -> bool:
    """Equal; where one of the two is a float or a rounded decimal of the other's non-integer, within TOLERANCE."""
    if a == b:
        return True
    if isinstance(a, Fraction) and isinstance(b, Fraction) and (a.denominator == 1 or b.denominator == 1):
        return False
    return math.isclose(float(a), float(b), rel_tol=TOLERANCE, abs_tol=1e-12)
