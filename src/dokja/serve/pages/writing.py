"""Answers while they are written: tasks of the server, so that a page that is closed or reloaded finds them again.

Desk.start ─► Writing.run: chunks of the endpoint ─► answer (kept in the database every second, and at its end)
                                                       ▲
any page looks at `answer` and `version` whenever it likes; `stop` ends the request
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from dokja.serve.pages.endpoint import Endpoint, EndpointError
from dokja.serve.threads import Answer, Threads

KEPT_EVERY = 1.0
"""Seconds of writing that a kill may lose."""


class Writing:
    """One answer that is being written."""

    def __init__(self, answer: Answer, threads: Threads, now: Callable[[], float] = time.monotonic) -> None:
        self.answer, self.version = answer, 0
        self._threads, self._now = threads, now
        self.began = self._thought_since = now()
        self._task: asyncio.Task[None] | None = None

    @property
    def thinking(self) -> bool:
        """Whether it is at its thought."""
        a = self.answer
        return a.finish is None and bool(a.reasoning) and a.thought_seconds is None

    @property
    def seconds(self) -> float:
        """Since the thought began, or the answer where there is none."""
        return self._now() - (self._thought_since if self.thinking else self.began)

    async def run(self, endpoint: Endpoint, body: Mapping[str, Any]) -> None:
        """Writes to the end, whatever it is: an answer, a refusal, somebody who stops it."""
        answer, kept = self.answer, self._now()
        try:
            async with contextlib.aclosing(endpoint.stream(body)) as chunks:
                async for chunk in chunks:
                    self._take(chunk)
                    if self._now() - kept >= KEPT_EVERY:
                        kept = self._now()
                        await asyncio.to_thread(self._threads.save, answer)
            answer.finish = answer.finish or "lost"
        except asyncio.CancelledError:
            answer.finish = "stopped"
        except EndpointError as error:
            kind = {0: "away", 401: "key", 403: "key", 429: "busy", 503: "loading"}.get(error.status, "refused")
            answer.finish, answer.error = kind, str(error)
        finally:
            answer.finish = answer.finish or "lost"
            answer.seconds = self._now() - self.began
            self._end_thought()
            self.version += 1
            self._threads.save(answer)

    def stop(self) -> None:
        """Ends it; what was written stays."""
        if self._task is not None:
            self._task.cancel()

    def _take(self, chunk: Mapping[str, Any]) -> None:
        answer = self.answer
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if thought := delta.get("reasoning_content"):
                if not answer.reasoning:
                    self._thought_since = self._now()
                answer.reasoning += thought
            if content := delta.get("content"):
                self._end_thought()
                answer.content += content
            answer.finish = choice.get("finish_reason") or answer.finish
        if usage := chunk.get("usage"):
            answer.tokens = usage.get("completion_tokens")
            answer.thought_tokens = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
        self.version += 1

    def _end_thought(self) -> None:
        if self.answer.reasoning and self.answer.thought_seconds is None:
            self.answer.thought_seconds = self._now() - self._thought_since


class Desk:
    """All answers that are being written, by id."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads
        self._writings: dict[int, Writing] = {}

    def start(self, answer: Answer, endpoint: Endpoint, body: Mapping[str, Any]) -> Writing:
        """Begins to write an answer."""
        writing = self._writings[answer.id] = Writing(answer, self.threads)
        task = writing._task = asyncio.create_task(writing.run(endpoint, body))
        task.add_done_callback(lambda _: self._writings.pop(answer.id, None))
        return writing

    def get(self, answer: int) -> Writing | None:
        """The writing of this answer, while it lasts."""
        return self._writings.get(answer)

    async def close(self) -> None:
        """Stops all of them and keeps what they have."""
        tasks = [w._task for w in self._writings.values() if w._task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
