"""Problems as they lie in the corpus files, back as objects."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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


def conversation(row: dict[str, Any], thinking: bool, before: Sequence[dict[str, Any]] = ()) -> list[Message]:
    """One exchange after the exchanges `before` it: the prompt and its answer, with the worked solution as the thought
    when `thinking`."""
    answer = Message("assistant", row["reference"], reasoning=row["trace"] if thinking else None)
    earlier = [m for old in before for m in conversation(old, thinking=False)]
    return [*earlier, Message("user", row["prompt"]), answer]


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
