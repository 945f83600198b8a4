"""How fast an endpoint may be asked: its limits per minute, and the pauses that it asks for.

Requests are spread evenly; tokens fill a bucket of one minute that empties steadily. A request's tokens are guessed
when it starts and put right when its answer is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime


class Pace:
    """`await start(tokens)` before a request, `end` after it; `pause` when the endpoint wants one. One event loop."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._rate = tokens_per_minute / 60.0 if tokens_per_minute else None
        self._clock, self._sleep = clock, sleep
        self._next = self._resume = self._seen = clock()
        self._level = 0.0  # tokens in the bucket; it holds a minute's

    async def start(self, tokens: float) -> None:
        """Waits until one more request of about so many tokens may be sent."""
        while (wait := self._wait(tokens)) > 0:
            await self._sleep(wait)
        self._next = max(self._next, self._clock()) + self._gap
        if self._rate is not None:
            self._level += tokens

    def end(self, guessed: float, tokens: float) -> None:
        """The request took `tokens`, not what was guessed."""
        if self._rate is not None:
            self._level += tokens - guessed

    def pause(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._resume = max(self._resume, self._clock() + seconds)

    def _wait(self, tokens: float) -> float:
        now = self._clock()
        wait = max(self._resume, self._next if self._gap else now) - now
        if self._rate is not None:
            self._level = max(0.0, self._level - (now - self._seen) * self._rate)
            self._seen = now
            full = 60 * self._rate
            over = (
                self._level + min(tokens, full) - full
            )  # one that is larger than a minute's waits for an empty bucket
            wait = max(wait, over / self._rate)
        return wait if wait > 1e-6 else 0.0


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, from its number or its date; None where it says nothing."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, IndexError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
