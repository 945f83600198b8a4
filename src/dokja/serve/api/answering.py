"""What every path does that lets a model write: find it, be admitted, plan, follow all choices, notice who leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response

from dokja.serve.api.errors import ApiError, of_ending
from dokja.serve.api.state import Server, server_of
from dokja.serve.api.stream import EventStream
from dokja.serve.ledger import Outcome
from dokja.serve.limits import Ticket
from dokja.serve.logs import Note
from dokja.serve.models import Job, Served, Spelling
from dokja.serve.reading import Part, Usage
from dokja.serve.turn import Done

T = TypeVar("T")
Item = tuple[int, list[Part] | Done]
GONE = Response(status_code=499)
"""For a client that does not hear it any more."""
INLINE_BYTES = 4096
"""Bodies up to here are rendered and tokenised at once: a thread takes longer to answer than that takes."""


@dataclass
class Answers:
    """The answers to one HTTP request: iterate for (choice, parts or Done). Close it, whatever happens."""

    server: Server
    model: Served
    plans: Sequence[Job]
    ticket: Ticket
    note: Note
    row: int | None = None
    """Of the ledger."""
    spelling: Spelling = field(init=False)
    """Of the tokens in the parts."""
    usage: list[Usage] = field(default_factory=list)
    """Of every choice, also while it is being written."""
    _first: Item | None = None
    _failed: bool = False
    _settled: bool = False
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        until = asyncio.get_running_loop().time() + self.server.limits.seconds
        self.spelling = spelling = self.model.spelling()
        self.usage = [Usage(job.size) for job in self.plans]
        if self.row is not None:
            self.server.running[self.row] = self.total
        self._items = _merged(
            [self.model.answer(job, spelling, until, usage) for job, usage in zip(self.plans, self.usage, strict=True)]
        )

    async def begin(self) -> None:
        """Waits for the first item: what cannot be served at all is still an HTTP error then."""
        self._first = await anext(self._items)
        self._look(self._first)
        what = self._first[1]
        if isinstance(what, Done) and what.finish == "error":
            raise of_ending(what.ending)

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        metrics, name = self.server.metrics, self.model.name
        if self._first is None:
            self._first = await anext(self._items)
        metrics.first.labels(name).observe(time.monotonic() - self._began)
        self._look(self._first)
        yield self._first
        async for item in self._items:
            self._look(item)
            yield item
        metrics.whole.labels(name).observe(time.monotonic() - self._began)
        self.ticket.leave(finished=True)
        await self._settle("failed" if self._failed else "finished")

    async def close(self) -> None:
        """Aborts what is still being written, gives the place back and notes what it took. Once."""
        if self.ticket.closed:
            return
        self.ticket.closed = True
        await self._items.aclose()
        self.ticket.leave()
        await self._settle("failed" if self._failed else "left")

    def _look(self, item: Item) -> None:
        self._failed = self._failed or (isinstance(item[1], Done) and item[1].finish == "error")

    async def _settle(self, outcome: Outcome) -> None:
        """Notes what it took, before the client is told that it is whole. Once."""
        if self._settled:
            return
        self._settled, total = True, self.total()
        self.note.facts |= {"model": self.model.name, "choices": len(self.plans), **asdict(total)}
        if self.server.log_text:
            self.note.facts["prompt_text"] = [self.model.text(job) for job in self.plans[:1]]
        await self.server.end(self.row, self.model.name, total, outcome)

    def total(self) -> Usage:
        """Tokens of all answers; a prompt with several answers is counted once, as OpenAI does."""
        of_prompt = {id(job.prompt): usage for job, usage in zip(self.plans, self.usage, strict=True)}
        return Usage(
            sum(u.prompt for u in of_prompt.values()),
            sum(u.completion for u in self.usage),
            sum(u.reasoning for u in self.usage),
            sum(u.cached for u in of_prompt.values()),
        )


def model_of(server: Server, name: str) -> Served:
    """The model of this name. Raises ApiError where there is none, or it is not there yet."""
    model = server.models.get(name)
    if model is None:
        known = ", ".join(m.name for m in server.models)
        raise ApiError(
            404, f"There is no model {name!r} here. There are: {known}.", param="model", code="model_not_found"
        )
    if server.draining:
        raise ApiError(503, "The server is stopping and takes no more requests. Ask again later.", retry_after=5)
    if not model.client.info:
        raise ApiError(503, f"The model {name!r} is being loaded. Ask again in a while.", retry_after=5)
    return model


async def prepared(
    request: Request, model: Served, n: int, make: Callable[[], Sequence[Job]], prompts: int = 1
) -> Answers:
    """Admits answers: n to each of the prompts that `make` plans, in a thread where the body is not short. Raises Busy
    or DokjaError."""
    server, grant, note = server_of(request), request.scope["dokja.grant"], request.scope["dokja.note"]
    if n > server.limits.choices:
        raise ApiError(400, f"n is {n}, and this server writes {server.limits.choices} answers at most.", param="n")
    await server.check_quota(grant)
    ticket = model.admission.enter(n * prompts, model.slots)
    try:
        length = request.headers.get("content-length", "")
        short = length.isdigit() and int(length) <= INLINE_BYTES
        made = make() if short else await asyncio.to_thread(make)
        size = sum(job.size for job in made)
        ticket.add_tokens(size)
        plans = [one for job in made for one in model.several(job, n)]
        row = await server.begin(grant, model.name, size)
        return Answers(server, model, plans, ticket, note, row)
    except BaseException:
        ticket.leave()
        raise


async def respond(
    request: Request,
    answers: Answers,
    *,
    whole: Callable[[], Awaitable[Response]],
    events: Callable[[], AsyncGenerator[bytes, None]] | None,
) -> Response:
    """The response in one piece, or as a stream of `events` where there are any."""

    async def one_piece() -> Response:
        try:
            return await whole()
        finally:
            await answers.close()

    async def stream(events: Callable[[], AsyncGenerator[bytes, None]]) -> Response:
        try:
            await answers.begin()
        except BaseException:
            await answers.close()
            raise
        return EventStream(events(), answers.close)

    return await unless_gone(request, stream(events) if events else one_piece()) or GONE


async def unless_gone(request: Request, work: Awaitable[T]) -> T | None:
    """The work's result; None where the client went before, which cancels the work."""
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        watch.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _merged(choices: Sequence[AsyncGenerator[list[Part] | Done, None]]) -> AsyncGenerator[Item, None]:
    """Items of all choices as they come."""
    if len(choices) == 1:
        async with contextlib.aclosing(choices[0]) as only:
            async for item in only:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

    async def pump(i: int) -> None:
        try:
            async with contextlib.aclosing(choices[i]) as items:
                async for item in items:
                    queue.put_nowait((i, item))
        except Exception as error:
            queue.put_nowait((i, error))

    tasks = [asyncio.create_task(pump(i)) for i in range(len(choices))]
    left = len(tasks)
    try:
        while left:
            i, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            left -= isinstance(item, Done)
            yield i, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
