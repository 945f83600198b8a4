"""A server that speaks OpenAI's API by a script: it delays, refuses, limits, drops connections, talks rubbish, and
counts what it is asked. Nothing but the standard library; it lives in a thread of the test."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What to send. `pieces` make a stream, with `gap` seconds between them; `drop` closes the connection instead."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    pieces: tuple[bytes, ...] = ()
    gap: float = 0.0


Script = Callable[[Mapping[str, Any], int], Answer]
"""(body of the request, how often these very messages came before) -> what to send."""


def says(content: Any, *, delay: float = 0.0, usage: Any = None, finish: Any = "stop", **message: Any) -> Answer:
    """A completion that says `content`."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5} if usage is None else usage
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return Answer(body=json.dumps({"choices": [choice], "usage": usage}).encode(), delay=delay)


def streams(
    *deltas: Mapping[str, Any], gap: float = 0.0, delay: float = 0.0, tokens: int = 8, done: bool = True
) -> Answer:
    """The same as a stream of deltas."""
    events: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if done:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events.append({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 8}})
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    return Answer(pieces=tuple(lines + [b"data: [DONE]\n\n"] * done), gap=gap, delay=delay)


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI spells it."""
    error = {"error": {"message": message, "code": code}}
    return Answer(status, json.dumps(error).encode(), {k.replace("_", "-"): v for k, v in headers.items()})


class Served:
    """What a test sees of the server."""

    def __init__(self, script: Script, models: list[Mapping[str, Any]] | None) -> None:
        self.script, self.models = script, models
        self.url = ""
        self.asked: list[Mapping[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.at: list[float] = []
        self.seen: Counter[str] = Counter()
        self.answered = self.connections = self.at_once = self.most_at_once = 0

    def model(self, name: str = "m") -> str:
        """Its address as a person types it."""
        return f"{self.url}#{name}"

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                data = await reader.readexactly(int(headers.get("content-length", 0)))
                if head[0].startswith("GET"):
                    found = Answer(404) if self.models is None else _listed(self.models)
                else:
                    found = self._answer(json.loads(data), headers)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    await _send(found, writer)
                finally:
                    self.at_once -= 1
                self.answered += not head[0].startswith("GET")
                if found.drop:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    def _answer(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        words = json.dumps(body["messages"], sort_keys=True)
        number = self.seen[words]
        self.seen[words] += 1
        self.asked.append(body)
        self.headers.append(headers)
        self.at.append(asyncio.get_running_loop().time())
        return self.script(body, number)


def _listed(models: list[Mapping[str, Any]]) -> Answer:
    return Answer(body=json.dumps({"object": "list", "data": models}).encode())


async def _send(answer: Answer, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(answer.delay)
    if answer.drop:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        await writer.drain()
        return
    kind = "text/event-stream" if answer.pieces else "application/json"
    length = {} if answer.pieces else {"content-length": str(len(answer.body))}
    more = {"transfer-encoding": "chunked"} if answer.pieces else {}
    headers = {"content-type": kind, **length, **more, **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body)
    for piece in answer.pieces:
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(answer.gap)
    if answer.pieces:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


@contextmanager
def serving(script: Script, models: list[Mapping[str, Any]] | None = None) -> Iterator[Served]:
    """The server at work; `models` is what /models lists, None answers 404 there."""
    served, loops, ready = Served(script, models), list[asyncio.AbstractEventLoop](), threading.Event()
    over = asyncio.Event()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        server = await asyncio.start_server(served.connection, "127.0.0.1", 0)
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield served
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()


def words(body: Mapping[str, Any]) -> str:
    """The last message of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]
