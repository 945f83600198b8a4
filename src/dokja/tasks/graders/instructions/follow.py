"""The grader of instructions: strict or loose, all of a prompt's at once or the share that was followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dokja.errors import DataError
from dokja.tasks.graders.base import verdict
from dokja.tasks.graders.instructions import counts, ifeval, korean, shapes, tasks, words
from dokja.tasks.graders.instructions.ifeval import Check, arguments
from dokja.tasks.problem import Grade

CHECKS: dict[str, Check] = ifeval.CHECKS | counts.CHECKS | words.CHECKS | shapes.CHECKS | tasks.CHECKS | korean.CHECKS
"""Every instruction by its id."""


def loosened(text: str) -> list[str]:
    """The eight readings of the loose score: with and without first and last line, with and without stars."""
    lines = text.split("\n")
    cut = [text, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return [*cut, *(t.replace("*", "") for t in cut)]


def followed(text: str, name: str, given: dict[str, Any], loose: bool = False) -> bool:
    """Whether a response follows one instruction; an empty one follows none. DataError for an unknown instruction."""
    if name not in CHECKS:
        raise DataError(f"There is no check for the instruction {name!r}. It stands in none of our lists.")
    check, known = CHECKS[name], arguments(given)
    return any(t.strip() and check(t, **known) for t in (loosened(text) if loose else [text]))


@dataclass(frozen=True)
class Follow:
    """Reference: `{"instructions": [[id, arguments], ...]}`.

    `score` "prompt" gives 1 where all are followed, "instruction" the share that is. The detail tells strict and loose
    verdicts of each instruction, so that all four official figures can be read from records.
    """

    mode: Literal["strict", "loose"] = "strict"
    score: Literal["prompt", "instruction"] = "prompt"

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Right where every instruction is followed."""
        if not answer.strip():
            return None
        asked = [(name, given) for name, given in reference["instructions"]]
        strict = [followed(answer, name, given) for name, given in asked]
        loose = [s or followed(answer, name, given, loose=True) for s, (name, given) in zip(strict, asked, strict=True)]
        told = strict if self.mode == "strict" else loose
        detail = "; ".join(
            f"{name} {'followed' if s else 'loosely' if n else 'broken'}"
            for s, n, (name, _) in zip(strict, loose, asked, strict=True)
        )
        found = verdict(all(told), detail)
        return found if self.score == "prompt" else Grade(sum(told) / len(told), found.reason, detail)
