"""Problems as they lie in the corpus files, back as objects."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dokja.errors import DataError
from dokja.tasks.problem import Problem
from dokja.tasks.registry import TASKS
from dokja.tasks.splits import image_sha256
from dokja.text.chat import Message

KEYS = ("id", "task", "level", "language", "prompt", "reference", "trace")


def row_of(problem: Problem) -> dict[str, Any]:
    """A problem as one line of corpus/<source>.jsonl.zst; of its images the hashes, since its id draws them again."""
    row = {key: getattr(problem, key) for key in KEYS}
    return {**row, "images": [image_sha256(i) for i in problem.images]} if problem.images else row


def problem_from(row: dict[str, Any]) -> Problem:
    """The Problem behind one line of corpus/<source>.jsonl.zst, without its images."""
    return Problem(
        id=row["id"],
        task=row["task"],
        level=row["level"],
        language=row["language"],
        messages=(Message("user", row["prompt"]),),
        reference=row["reference"],
        trace=row["trace"],
    )


def question(row: dict[str, Any]) -> Message:
    """What the user asks in a line of the corpus, its images drawn again from the problem's id.

    Raises DataError where they come out otherwise than the corpus has them.
    """
    if "images" not in row:
        return Message("user", row["prompt"])
    problem = TASKS[row["task"]].problem(int(row["id"].rsplit("/", 1)[1]), row["level"], row["language"])
    if [image_sha256(i) for i in problem.images] != row["images"]:
        raise DataError(
            f"The images of {row['id']} come out otherwise than when the corpus was written. Install the Pillow of "
            "then (it is in corpus/manifest.json), or build the corpus again with --rebuild."
        )
    return problem.messages[-1]


def conversation(row: dict[str, Any], thinking: bool, before: Sequence[dict[str, Any]] = ()) -> list[Message]:
    """One exchange after the exchanges `before` it: the prompt and its answer, with the worked solution as the thought
    when `thinking`."""
    answer = Message("assistant", row["reference"], reasoning=row["trace"] if thinking else None)
    earlier = [m for old in before for m in conversation(old, thinking=False)]
    return [*earlier, question(row), answer]


def conversations(
    rows: Iterable[dict[str, Any]], think_share: float, history_share: float, rng: random.Random
) -> Iterator[tuple[list[Message], bool]]:
    """(messages, thinking) for every problem: `think_share` of them think, `history_share` follow one or two others."""
    last: deque[dict[str, Any]] = deque(maxlen=2)
    for row in rows:
        thinking, follows, one = rng.random() < think_share, rng.random() < history_share, rng.random() < 0.5
        before = list(last)[-1:] if one else list(last)
        yield conversation(row, thinking, before if follows else ()), thinking
        last.append(row)
