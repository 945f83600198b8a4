"""How much the server takes on: requests and prompt tokens at once, time, size.

    request ──► enter: a place, and time enough? ──no──► 429 with Retry-After, at once
                         │ yes
                         ▼
                add_tokens: room for the prompt? ──► engine ──► leave: how long it took, for the next guess

A request is turned away while turning away is cheap: before its prompt is encoded, or at the latest before it is sent.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from dokja.errors import DokjaError

_MEMORY = 0.1  # weight of the newest request in the mean


class Busy(DokjaError):
    """There is too much to do, or a quota is used up; `retry_after` in whole seconds."""

    def __init__(self, retry_after: float, why: str = "The server is busy.") -> None:
        self.retry_after = max(1, math.ceil(retry_after))
        super().__init__(f"{why} Ask again in {self.retry_after} s.")


@dataclass(frozen=True)
class Limits:
    """requests: answers at work or waiting, of one model. tokens: of their prompts. seconds: of one answer."""

    requests: int = 256
    tokens: int = 1_000_000
    seconds: float = 600.0
    body_bytes: int = 32_000_000
    body_seconds: float = 30.0
    images: int = 16
    """Of one request."""
    image_bytes: int = 16_000_000
    image_pixels: int = 36_000_000
    choices: int = 16
    """The largest `n`."""
    max_tokens: int | None = None
    """Of one answer, whatever the client asks for; None: what the context leaves."""


class Admission:
    """Counts what is at work for one model and guesses how long the next request will wait."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = self.tokens = 0
        self._seconds = 0.0  # of a request, on the mean, waiting not counted; 0 before the first one has ended

    def enter(self, answers: int, slots: int) -> Ticket:
        """A place for this many answers, where `slots` are written at once. Raises Busy where there is none, or where
        they would likely not be done in time."""
        if self.requests + answers > self.limits.requests:
            raise Busy(self._wait(slots))
        if self._wait(slots) + self._seconds > self.limits.seconds:
            raise Busy(self._wait(slots) + self._seconds - self.limits.seconds)
        return Ticket(self, answers, slots)

    def _wait(self, slots: int) -> float:
        """Seconds until a slot is likely free."""
        return self._seconds * max(0, self.requests + 1 - slots) / max(1, slots)

    def learn(self, seconds: float, rounds: float) -> None:
        """An answer took `seconds`, as one of so many that each slot had `rounds` of them."""
        own = seconds / max(1.0, rounds)
        self._seconds = own if not self._seconds else (1 - _MEMORY) * self._seconds + _MEMORY * own


class Ticket:
    """The place of one HTTP request; leave it, whatever happens."""

    def __init__(self, admission: Admission, answers: int, slots: int) -> None:
        self.closed = False
        """For whoever has to clean up once."""
        self._admission, self._answers, self._tokens, self._left = admission, answers, 0, False
        admission.requests += answers
        self._rounds = admission.requests / max(1, slots)
        self._began = time.monotonic()

    def add_tokens(self, count: int) -> None:
        """The prompts have this many tokens. Raises Busy where that is too much beside what is there already."""
        a = self._admission
        if a.tokens and a.tokens + count > a.limits.tokens:
            raise Busy(1)
        self._tokens += count
        a.tokens += count

    def leave(self, finished: bool = False) -> None:
        """The place is free again; `finished`: the answer was written to its end."""
        if self._left:
            return
        self._left = True
        self._admission.requests -= self._answers
        self._admission.tokens -= self._tokens
        if finished:
            self._admission.learn(time.monotonic() - self._began, self._rounds)
