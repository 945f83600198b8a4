"""A model that another process serves (`serve.remote`), behind the same API as those of our own engine.

Requests are checked here as for our own engine, and passed on in words that the other one knows. What it does with them
(chat template, sampling defaults, grammar) is its own affair.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dokja.engine.effort import Effort
from dokja.serve.asking import Ask, Refusal
from dokja.serve.calls import tool_names
from dokja.serve.limits import Limits
from dokja.serve.models import Said, Served
from dokja.serve.reading import Part, Usage
from dokja.serve.remote import Dialect, Late, Remote
from dokja.serve.remote_reading import RemoteReader, Words
from dokja.serve.turn import Done
from dokja.serve.wire import Ending

_LETTERS = 4  # of a token, as a guess
_SLOTS = 64  # answers that it is believed to write at once


@dataclass(frozen=True)
class RemoteJob:
    """One answer to be had from it."""

    ask: Ask
    path: str
    body: Mapping[str, Any]
    prompt: object
    size: int


class RemoteModel(Served):
    """A model behind another process."""

    client: Remote

    def __init__(self, name: str, client: Remote, limits: Limits) -> None:
        super().__init__(name, limits)
        self.client = client

    @property
    def slots(self) -> int:
        """A guess, from which the wait of a queue is guessed."""
        return _SLOTS

    def told(self) -> dict[str, Any]:
        """The context, where it tells it."""
        context = self.client.info.get("context")
        return {"max_model_len": context} if context else {}

    def spelling(self) -> Words:
        """Tokens have no ids here."""
        return Words()

    def chat(self, ask: Ask, name: str, most: int | None, said: Said) -> RemoteJob:
        """The conversation as it came. Raises Refusal for a tool_choice that names no tool."""
        if ask.choice not in ("auto", "none"):
            if not ask.tools:
                raise Refusal("A tool_choice needs tools. Declare them, or leave it out.", "tool_choice")
            if ask.choice != "required" and ask.choice not in tool_names(ask.tools):
                raise Refusal(f"tool_choice names {ask.choice!r}, which is none of the tools.", "tool_choice")
        body = in_words(said(), ask, self.client.dialect)
        return self._job(ask, "/chat/completions", body, body["messages"], most)

    def plain(self, ask: Ask, name: str, prompt: str | list[int], most: int | None, said: Said) -> RemoteJob:
        """The text as it came."""
        body = {**in_words(said(), ask, self.client.dialect), "prompt": prompt}
        return self._job(ask, "/completions", body, prompt, most)

    def _job(self, ask: Ask, path: str, body: dict[str, Any], prompt: Any, most: int | None) -> RemoteJob:
        body |= {"model": self.client.model, "stream": True, "stream_options": {"include_usage": True}}
        if limits := [n for n in (ask.max_tokens, most) if n is not None]:
            body["max_tokens"] = min(limits)
        ids = isinstance(prompt, list) and all(isinstance(i, int) for i in prompt)
        size = len(prompt) if ids else len(json.dumps(prompt, ensure_ascii=False)) // _LETTERS
        return RemoteJob(ask, path, body, prompt, size)

    def several(self, job: RemoteJob, n: int) -> Sequence[RemoteJob]:
        """As many requests: some engines write one answer to each."""
        seed = job.ask.seed
        seeds = [{} if seed is None else {"seed": seed + i} for i in range(n)]
        return [replace(job, body={**job.body, **more}) for more in seeds]

    async def answer(
        self, job: RemoteJob, spelling: Words, until: float | None, usage: Usage
    ) -> AsyncGenerator[list[Part] | Done, None]:
        """Parts of its stream, as they come."""
        reader = RemoteReader(spelling, usage, scores=job.ask.top_logprobs is not None)
        ending = Ending("stop")
        try:
            async with contextlib.aclosing(self.client.events(job.path, job.body, until)) as events:
                async for event in events:
                    if parts := reader.feed(event):
                        yield parts
        except Late:
            ending = Ending("error", message="The answer took longer than this server allows.", trouble="late")
        if parts := reader.end():
            yield parts
        yield Done("error" if ending.trouble else reader.finish or "stop", usage, ending)

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the other engine answers."""
        return await self.client.embed({**body, "model": self.client.model}) | {"model": self.name}

    def text(self, job: RemoteJob) -> str:
        """What was sent, as JSON."""
        return json.dumps(job.prompt, ensure_ascii=False)


def in_words(said: dict[str, Any], ask: Ask, dialect: Dialect) -> dict[str, Any]:
    """A request in the words of an engine."""
    body = {**said, **ask.draws}
    if ask.choice not in ("auto", "none", "required") and not dialect.named_choice:
        tools = [tool for tool in ask.tools if tool_names([tool]) == {ask.choice}]
        body |= {"tools": tools, "tool_choice": "required"}
    if not dialect.effort and ask.effort is not None:
        body |= _effort(ask.effort, body)
    return {dialect.names.get(key, key): value for key, value in body.items()}


def _effort(effort: Effort, body: dict[str, Any]) -> dict[str, Any]:
    """ "none" as chat templates know it; the others under the three names that everybody knows."""
    if effort != "none":
        return {"reasoning_effort": effort}
    body.pop("reasoning_effort", None)
    kwargs = body.get("chat_template_kwargs") or {}
    return {"chat_template_kwargs": {**kwargs, "enable_thinking": False}}
