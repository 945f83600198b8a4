"""Strings: whole answers, and strings that must stand in an answer."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from dokja.tasks.extract import tidy
from dokja.tasks.graders.base import verdict
from dokja.tasks.problem import Grade

_MARKER = re.compile(r"(?:answer|정답|답변|답)[*_\s]*(?:[:：=]|\bis\b|은|는)[*_\s]*", re.IGNORECASE)
_ENDING = re.compile(r"(?:입니다|이에요|예요|이다)[.!]*$")
_AROUND = " \t.,!?;:'\"`*_$()[]{}<>“”‘’「」『』。"


def plain(text: str) -> str:
    """Case, spaces and width aside."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True)
class Contains:
    """Reference: a list of strings. RULER's two counts: the share of them that stand in the answer, or any of them.

    Hsieh et al., arXiv:2404.06654, string_match_all and string_match_part. Numbers stand only as numbers of their own.
    """

    match: Literal["all", "any"] = "all"

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Right where all (or one) are there; the score is the share for `all`."""
        if not answer.strip():
            return None
        there = [_stands(wanted, answer) for wanted in reference]
        score = sum(there) / len(there) if self.match == "all" else float(any(there))
        missing = [wanted for wanted, found in zip(reference, there, strict=True) if not found]
        detail = f"{sum(there)} of {len(there)} found" + (f"; missing {', '.join(missing)}" if missing else "")
        return Grade(score, "right" if score == 1.0 else "wrong", detail[:300])


def _stands(wanted: str, answer: str) -> bool:
    """Whether a string stands in an answer; a number only as a number of its own, thousands marked or not."""
    if not wanted.isdigit():
        return plain(wanted) in plain(answer)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", unicodedata.normalize("NFKC", answer))
    return re.search(rf"(?<![\d.]){wanted}(?!\d|\.\d)", text) is not None


@dataclass(frozen=True)
class Exact:
    """Reference: a string, or a list of strings of which any is right. The final part of an answer must be it."""

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Equal but for case, spaces, and marks and Korean endings around it."""
        text = tidy(answer)
        marks = list(_MARKER.finditer(text))
        rest = text[marks[-1].end() :].strip().split("\n", 1)[0] if marks else text.rsplit("\n", 1)[-1]
        said = _forms(rest.strip())
        if not said:
            return None
        allowed = [reference] if isinstance(reference, str) else list(reference)
        return verdict(any(_forms(a) & said for a in allowed), f"{rest.strip()[:100]!r}, expected {allowed[0]!r}")


def _forms(text: str) -> set[str]:
    """A text as it stands, without the marks around it, and without a Korean ending; empty ones left out."""
    bare = text.strip(_AROUND)
    return {plain(form) for form in (text.strip("*_`$. "), bare, _ENDING.sub("", bare))} - {""}
