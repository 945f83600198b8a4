"""What is asked of a model and what comes back, whoever answers: our engine or an endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dokja.judge.records import Key, Sampling, Times, Usage
from dokja.tasks.problem import Problem
from dokja.text.chat import Mode


@dataclass(frozen=True)
class Item:
    """One answer to ask for."""

    problem: Problem
    mode: Mode
    repeat: int
    sampling: Sampling

    @property
    def key(self) -> Key:
        """Identity of its record."""
        return Key(self.problem.task, self.problem.id, self.mode, self.repeat)


def request_seed(seed: int, key: Key) -> int:
    """63 bits out of what is asked; the same question gets the same randomness in any order, after any restart."""
    text = "\t".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Origin:
    """Who answers, as all records of one run have it; `endpoint` is the name of one, empty for our engine."""

    model: str
    model_sha256: str
    template_sha256: str
    grader_version: str
    endpoint: str = ""


@dataclass(frozen=True)
class Said:
    """What came back. `raw` is all that the model wrote, `answer` what a user sees, `prompt_sha256` of what it read.

    `finish`: stop, length, abort or content_filter. `truncated`: it never came to its end.
    """

    raw: str
    reasoning: str
    answer: str
    finish: str
    truncated: bool
    wrong_mode: bool
    usage: Usage
    prompt_sha256: str
    forced: bool = False
    times: Times | None = None


Keep = Callable[[Item, Said], None]
"""Grades an answer and writes its record; once it returns, a kill does not lose it. May be called from any thread."""


class Answerer(Protocol):
    """Gets answers to items."""

    @property
    def origin(self) -> Origin:
        """What its records say of it."""
        ...

    def check(self, items: Sequence[Item]) -> None:
        """Raises ConfigError for what it cannot be asked, before anything is."""
        ...

    def answer(self, items: Sequence[Item], seed: int, keep: Keep) -> str | None:
        """Asks all items in whatever order suits it and hands each answer to `keep`.

        Returns why some were not answered, in words that go behind "are not: ", or None.
        """
        ...
