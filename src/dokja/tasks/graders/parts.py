"""Answers of several parts: tuples, sets, intervals, equations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_OPEN, _CLOSE = "([{⟨", ")]}⟩"
_NAMED = re.compile(r"^[A-Za-z](?:_\{?\w\}?)?(?:\([a-z]\))?=(?!=)")
_MEMBER = re.compile(r"^[a-z]\\in(?![a-z])")
_BOUND = re.compile(r"^[a-z](<|>|\\leq|\\geq)([^<>=]+)$")
_BETWEEN = re.compile(r"^([^<>=]+?)(<|\\leq)[a-z](<|\\leq)([^<>=]+)$")
_OR = re.compile(r"\\(?:text\{)?or\}?|\bor\b|또는|그리고|,?and(?![a-z])")


def split_top(text: str, separators: str = ",;") -> list[str]:
    """Cut at separators that stand outside all brackets."""
    depth, parts, start = 0, [], 0
    for at, char in enumerate(text):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0 and char in separators:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def unnamed(text: str) -> str:
    """Without the name before it: `x=5`, `f(x)=...`, `x\\in(...)`."""
    text = _MEMBER.sub("", text)
    named = _NAMED.match(text)
    return text[named.end() :] if named and "=" not in text[named.end() :] else text


def as_interval(text: str) -> str:
    """An inequality for one letter as the interval it means: `x\\leq3` is `(-\\infty,3]`; other text as it is."""
    if both := _BETWEEN.match(text):
        low, first, second, high = both.groups()
        return f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"
    if not (one := _BOUND.match(text)):
        return text
    sign, bound = one.groups()
    if sign in ("<", "\\leq"):
        return f"(-\\infty,{bound}{')' if sign == '<' else ']'}"
    return f"{'(' if sign == '>' else '['}{bound},\\infty)"


def brackets(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) where one pair encloses everything."""
    if len(text) < 2 or text[0] not in _OPEN or text[-1] not in _CLOSE:
        return None
    depth = 0
    for at, char in enumerate(text):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0 and at < len(text) - 1:
            return None
    return text[0], text[1:-1], text[-1]


def same_parts(reference: str, answer: str, same: Callable[[str, str], bool | None]) -> bool | None:
    """Compare part by part with `same`; None where the two are not of several parts, or a part cannot be told.

    In parentheses and brackets the order counts, in set braces and in bare lists it does not.
    """
    left, right = brackets(reference), brackets(answer)
    inside = [_OR.sub(",", pair[1] if pair else text) for pair, text in ((left, reference), (right, answer))]
    parts = [[unnamed(p) for p in split_top(text) if p] for text in inside]
    if len(parts[0]) < 2 and len(parts[1]) < 2 and not (left and right and left[0] == "⟨"):
        return None
    if len(parts[0]) != len(parts[1]):
        return False
    ordered = [pair is not None and pair[0] in "([" for pair in (left, right)]
    if all(ordered):
        assert left and right
        if (left[0], left[2]) != (right[0], right[2]):
            return False
        return _all([same(a, b) for a, b in zip(*parts, strict=True)])
    if any(ordered) and {(left or "x")[0], (right or "x")[0]} & {"⟨"}:
        return False  # a tuple is no set
    return _matching(parts[0], parts[1], same)


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _matching(left: Sequence[str], right: Sequence[str], same: Callable[[str, str], bool | None]) -> bool | None:
    """Whether the parts can be paired; greedy, which suffices where sameness is an equivalence."""
    rest, unsure = list(right), False
    for part in left:
        verdicts = [same(part, other) for other in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True
