"""What a grader is, and what becomes of an answer in which it finds nothing."""

from __future__ import annotations

import re
from typing import Any, Protocol

from dokja.tasks.extract import is_refusal
from dokja.tasks.problem import Grade

_CLOSED_THOUGHT = re.compile(r"^.*</(?:think|thought)>", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"<(?:think|thought)>")
_LONG = 400  # characters; a refusal says little else
_SHOWN = 120


class Grader(Protocol):
    """Compares an answer with a reference of its own form."""

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """A verdict (right, wrong or grader_failed), or None where the answer says nothing of the kind."""
        ...


def without_thoughts(answer: str) -> tuple[str, bool]:
    """What follows the last closed thought, and whether a thought was left open after it."""
    rest = _CLOSED_THOUGHT.sub("", answer)
    return rest, _OPEN_THOUGHT.search(rest) is not None


def grade(grader: Grader, reference: Any, answer: str, truncated: bool = False) -> Grade:
    """Judge an answer; reasons that are no verdict are told apart. Never raises.

    | the answer | reason |
    |---|---|
    | was cut off, or its thought never closed | truncated, whatever stands in it |
    | holds nothing to compare and declines | refused |
    | holds nothing to compare | unparseable |
    """
    try:
        content, left_open = without_thoughts(answer)
        if truncated or left_open:
            return Grade(0.0, "truncated", "its thought was not closed" if left_open else "cut off by the length limit")
        found = grader.compare(reference, content)
        if found is not None:
            return found
        if len(content) <= _LONG and is_refusal(content):
            return Grade(0.0, "refused", "declined to answer")
        return Grade(0.0, "unparseable", f"no single answer found in {content[-_SHOWN:]!r}")
    except Exception as error:  # an answer is hostile input: whatever breaks must not stop a run of thousands
        return Grade(0.0, "grader_failed", f"{type(error).__name__}: {error}"[:300])


def verdict(right: bool, detail: str) -> Grade:
    """Right or wrong, with what was compared."""
    return Grade(float(right), "right" if right else "wrong", detail)
