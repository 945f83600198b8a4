"""What the families share: seeds to dice, drafts to problems, verdicts to grades."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

from dokja.errors import ConfigError
from dokja.tasks.extract import is_refusal
from dokja.tasks.problem import Grade, Problem
from dokja.text.chat import Message

T = TypeVar("T")
STEP = "⓪①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
"""STEP[k] numbers the k-th step of a trace; one character each, one token after tokenizer training."""


class Draft(NamedTuple):
    """What a family draws; the base class makes the Problem of it."""

    prompt: str
    reference: str
    trace: str
    tag: str = ""
    images: tuple[Any, ...] = ()
    """uint8 arrays [height, width, 3] that the question is about"""


class Dice(random.Random):
    """`random.Random` with quick draws; int(random() * n) is several times faster than randrange."""

    def below(self, n: int) -> int:
        """A whole number in [0, n)."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[int(self.random() * len(items))]

    def distinct(self, items: Sequence[T], k: int) -> list[T]:
        """`k` different ones of `items`, in random order."""
        pool = list(items)
        for i in range(k):
            j = i + int(self.random() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]


class Family(ABC):
    """A task whose problems are drawn by `draw` and whose answers are compared by `same`."""

    name: str
    levels: tuple[int, ...]
    needs_steps: bool = True
    needs_images: bool = False
    _cells: ClassVar[dict[tuple[str, int, str], int]] = {}

    @abstractmethod
    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        """A prompt, its answer and its trace."""

    @abstractmethod
    def same(self, problem: Problem, answer: str) -> bool | None:
        """Whether `answer` says the reference; None where it says nothing of the kind."""

    def problem(self, seed: int, level: int, language: str) -> Problem:
        """The problem of this seed. ConfigError for a level or language the family does not have."""
        key = (self.name, level, language)
        cell = Family._cells.get(key)
        if cell is None:
            cell = self._cell(level, language)
        draft = self.draw(Dice(seed << 32 | cell), level, language)
        return Problem(
            id=f"{self.name}/{level}/{language}/{seed}",
            task=self.name,
            level=level,
            language=language,
            messages=(Message("user", draft.prompt, images=draft.images),),
            reference=draft.reference,
            trace=draft.trace,
            tags=(draft.tag,) if draft.tag else (),
        )

    def grade(self, problem: Problem, answer: str, truncated: bool = False) -> Grade:
        """Judge `answer`; a fault of the grader itself is reported as such and scores 0."""
        try:
            verdict = self.same(problem, answer)
            if verdict is not None:
                return Grade(float(verdict), "right" if verdict else "wrong", f"expected {problem.reference}")
            if truncated:
                return Grade(0.0, "truncated", "cut off before an answer")
            if is_refusal(answer):
                return Grade(0.0, "refused", "declined to answer")
            return Grade(0.0, "unparseable", f"no single answer found; expected {problem.reference}")
        except Exception as err:  # an answer is hostile input: whatever breaks must not stop a run of thousands
            return Grade(0.0, "grader_failed", f"{type(err).__name__}: {err}"[:200])

    def _cell(self, level: int, language: str) -> int:
        if level not in self.levels or language not in ("ko", "en"):
            levels = ", ".join(map(str, self.levels))
            raise ConfigError(f"Task {self.name!r} has levels {levels} in ko and en, not {level} in {language!r}.")
        digest = hashlib.sha256(f"{self.name}/{level}/{language}".encode()).digest()
        return Family._cells.setdefault((self.name, level, language), int.from_bytes(digest[:4], "big"))
