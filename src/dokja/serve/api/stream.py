"""Server-sent events: one response that notices a client who leaves, keeps idle connections alive, and ends once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dokja.errors import DokjaError
from dokja.serve.api.errors import dumps, of_exception

PING = 15.0
"""Seconds of silence after which a comment is sent, so that nothing between us and the client gives up."""
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def event(data: Any, name: str | None = None) -> bytes:
    """One event; `data` is made JSON unless it is bytes."""
    body = data if isinstance(data, bytes) else dumps(data)
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + body + b"\n\n"


class EventStream(Response):
    """Sends what `events` yields; `close` is awaited when it is over, also when the client left."""

    def __init__(self, events: AsyncGenerator[bytes, None], close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events, self._close_answers = events, close
        self._sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tasks = [asyncio.create_task(work) for work in (self._write(send), self._listen(receive), self._ping(send))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._events.aclose()
            await self._close_answers()
        if not tasks[0].cancelled() and (error := tasks[0].exception()) is not None:
            raise error

    async def _write(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for chunk in self._events:
                self._sent = loop.time()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except DokjaError as error:  # too late for a status
            chunk = event(of_exception(error).body())
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _listen(self, receive: Receive) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while (await receive())["type"] != "http.disconnect":
                pass

    async def _ping(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        while True:
            await asyncio.sleep(PING)
            if loop.time() - self._sent >= PING:
                await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
