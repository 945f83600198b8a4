"""What a task is to the other rooms: it makes problems from seeds and grades answers. The grader is also the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dokja.text.chat import Message

Reason = Literal["right", "wrong", "unparseable", "truncated", "refused", "grader_failed"]


@dataclass(frozen=True)
class Problem:
    """One question with its answer and a worked solution."""

    id: str
    """`task/level/language/seed`: enough to make the problem again."""
    task: str
    level: int
    """Difficulty, counted from 1 in every family."""
    language: str
    """`ko` or `en`."""
    messages: tuple[Message, ...]
    reference: str
    """The right answer, as a model should write it."""
    trace: str
    """A worked solution in compact symbols, the same in both languages; it ends in the answer."""
    tags: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The text of the (last) user message."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")

    @property
    def images(self) -> tuple[Any, ...]:
        """The images of all messages in their order, uint8 arrays [height, width, 3]."""
        return tuple(image for m in self.messages for image in m.images)


@dataclass(frozen=True)
class Grade:
    """A verdict: `score` in [0, 1], the reason for it, and what was compared."""

    score: float
    reason: Reason
    detail: str = ""


class Task(Protocol):
    """A family of problems."""

    @property
    def name(self) -> str:
        """What records and tables call it."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """Its difficulties, counted from 1."""
        ...

    @property
    def needs_steps(self) -> bool:
        """Whether a small model is expected to fail when it answers at once."""
        ...

    @property
    def needs_images(self) -> bool:
        """Whether its questions are about images."""
        ...

    def problem(self, seed: int, level: int, language: str) -> Problem:
        """The problem of this seed: the same arguments give the same problem on any machine."""
        ...

    def grade(self, problem: Problem, answer: str, truncated: bool = False) -> Grade:
        """Judge `answer` (without its thoughts). Never raises, whatever the answer is."""
        ...
