"""One answer from the engine, as parts: what every API of the server is made of.

    plan ──► [thought] ──► answer ──► parts ... ──► done

A tool call that has to come is written in two requests: the thought until it is closed, and then, behind the call's own
beginning, the call alone, under its grammar. The engine knows the first prompt, so the second costs little.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from dokja.serve.asking import Forced, Plan
from dokja.serve.client import EngineClient
from dokja.serve.facts import Facts
from dokja.serve.reading import FinishReason, Part, Reader, Usage
from dokja.serve.wire import Ending
from dokja.text.chat import CALL_END
from dokja.text.stream import Piece


@dataclass(frozen=True)
class Done:
    """The end of an answer."""

    finish: FinishReason
    usage: Usage
    ending: Ending


async def answer(
    client: EngineClient, facts: Facts, plan: Plan, until: float | None = None, usage: Usage | None = None
) -> AsyncGenerator[list[Part] | Done, None]:
    """Parts as they become certain, as many at once as there are, and Done at the end, once. Close it to abort; at
    `until`, a time of the event loop, it ends in any case. `usage` counts along.

    Raises EngineLost where nothing is served any more.
    """
    ask = plan.ask
    reader = Reader(
        facts,
        thinking=plan.thinking,
        tools=plan.tools,
        stop=ask.stop,
        parallel=ask.parallel and plan.forced is None,
        scores=ask.top_logprobs is not None,
        usage=usage,
        raw=plan.raw,
        echo=plan.prompt if ask.echo else None,
        only_echo=ask.max_tokens == 0,
    )
    reader.usage.prompt = len(plan.request.prompt)
    steps = _Steps(client, reader, until)
    if plan.forced is None:
        async for parts in steps.follow(plan):
            yield parts
    else:
        async for parts in _call(facts, plan, plan.forced, reader, steps):
            yield parts
    if parts := reader.end(steps.ending):
        yield parts
    yield Done(reader.finish, reader.usage, steps.ending)


class _Steps:
    """Follows requests of one answer; `ending` is the last one's."""

    def __init__(self, client: EngineClient, reader: Reader, until: float | None) -> None:
        self._client, self._reader, self._until = client, reader, until
        self.ending = Ending("stop")
        self.tokens: list[int] = []

    async def follow(self, plan: Plan, until_closed: bool = False) -> AsyncGenerator[list[Part], None]:
        """Parts of this request's answer; `until_closed`: of its thought."""
        reader = self._reader
        # every request has a seed here, chosen or drawn: it can be written again
        async with contextlib.aclosing(self._client.batches(plan.request, until=self._until)) as batches:
            async for batch in batches:
                parts: list[Part] = []
                for item in batch:
                    if isinstance(item, Ending):
                        self.ending = item
                    else:
                        self.tokens.append(item.token)
                        parts += reader.feed(item)
                if parts:
                    yield parts
                if reader.over or (until_closed and not reader.thinking):
                    return


async def _call(
    facts: Facts, plan: Plan, forced: Forced, reader: Reader, steps: _Steps
) -> AsyncGenerator[list[Part], None]:
    """A thought, where one is open, and a call behind it."""
    request = plan.request
    if plan.thinking:
        until = (*request.stop, *request.think_close[-1:])
        thought = replace(request, stop=until, stop_text=(), recover=False)
        async for parts in steps.follow(replace(plan, request=thought), until_closed=True):
            yield parts
        if reader.thinking or reader.over:  # the thought took all there was
            return
    prompt = [*request.prompt, *steps.tokens, *facts.tokenizer.encode_segments(forced.segments)[0]]
    left = min(request.max_tokens - len(steps.tokens), facts.context - len(prompt))
    if left < 1:
        steps.ending = Ending("length")
        return
    for segment in forced.segments:
        if parts := reader.feed_piece(Piece(segment.text, segment.special)):
            yield parts
    call = replace(
        request,
        prompt=prompt,
        max_tokens=left,
        stop=forced.stop,
        stop_text=forced.stop_text,
        grammar=forced.grammar,
        thinking=False,
        think_budget=None,
        think_close=(),
        recover=False,
    )
    async for parts in steps.follow(replace(plan, request=call)):
        yield parts
    if not reader.over and steps.ending.finish == "stop" and (parts := reader.feed_piece(Piece(CALL_END, True))):
        yield parts
