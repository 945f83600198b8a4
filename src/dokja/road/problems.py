"""Problems as they lie in the corpus files, back as objects."""

from __future__ import annotations

from typing import Any

from dokja.tasks.problem import Problem
from dokja.text.chat import Message


def problem_from(row: dict[str, Any]) -> Problem:
    """The Problem behind one line of corpus/<source>.jsonl.zst."""
    return Problem(
        id=row["id"],
        task=row["task"],
        level=row["level"],
        language=row["language"],
        messages=(Message("user", row["prompt"]),),
        reference=row["reference"],
        trace=row["trace"],
    )


def conversation(row: dict[str, Any], thinking: bool) -> list[Message]:
    """One exchange: the prompt and its answer, with the worked solution as the thought when `thinking`."""
    answer = Message("assistant", row["reference"], reasoning=row["trace"] if thinking else None)
    return [Message("user", row["prompt"]), answer]
