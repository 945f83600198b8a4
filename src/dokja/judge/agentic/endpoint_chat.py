"""An endpoint as one that answers conversations with tools."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dokja.errors import ConfigError
from dokja.judge.endpoint.client import Client, Failed
from dokja.judge.records import Sampling
from dokja.tasks.agentic.dialogue import Reply
from dokja.text.chat import Message, Mode, ToolCall

_MORE = ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Sent only where they do something, because not everybody knows the fields."""
_PLAIN = Sampling(0.0, 1.0, 1, None)
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>\s*", re.DOTALL)


class EndpointChat:
    """A `tasks.agentic.dialogue.Chat` over a client that is open."""

    def __init__(self, client: Client, mode: Mode, sampling: Sampling) -> None:
        """Raises ConfigError for a mode or a budget that the endpoint cannot be asked for."""
        e = client.endpoint
        if mode not in e.modes:
            raise ConfigError(
                f"The endpoint {e.name} can be asked in the mode {' and '.join(e.modes)}, not {mode}. "
                "Say in its row of --endpoints what turns its thoughts on and off."
            )
        if mode == "think" and sampling.budget is not None and e.budget is None:
            raise ConfigError(
                f"The endpoint {e.name} is not known to close a thought at a budget. Name the field that does as "
                "`budget` in its row of --endpoints, or leave --budget out."
            )
        self._client, self._mode, self._sampling = client, mode, sampling

    async def __call__(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, key: str, seed: int
    ) -> Reply:
        """The next message; cut short ("length") where the conversation has outgrown the context. Raises the client's
        Failed and Stopped for other trouble."""
        body, rng = self._body(messages, tools, seed), random.Random(key)
        try:
            said, times = await self._client.chat(body, rng)
        except Failed as failure:
            if not failure.context:
                raise
            try:  # an answer may take what the context leaves
                del body[self._client.endpoint.length]
                said, times = await self._client.chat(body, rng)
            except Failed as again:
                if not again.context:
                    raise
                return Reply(Message("assistant"), "length")
        return Reply(
            read_message(said.content, said.reasoning),
            "length" if said.finish == "length" else "stop",
            said.usage.prompt_tokens,
            said.usage.completion_tokens,
            said.usage.reasoning_tokens,
            times.seconds,
            said.raw,
        )

    def _body(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
        endpoint, how = self._client.endpoint, self._sampling
        body: dict[str, Any] = {
            "model": endpoint.model,
            "messages": wire(messages),
            "temperature": how.temperature,
            "top_p": how.top_p,
            "seed": seed % 2**31,
            endpoint.length: how.max_tokens,
        }
        body |= {key: getattr(how, key) for key in _MORE if getattr(how, key) != getattr(_PLAIN, key)}
        if tools:
            body["tools"] = list(tools)
        thinking = self._mode == "think"
        body |= endpoint.switch(thinking)
        if thinking and how.budget is not None and endpoint.budget is not None:
            body[endpoint.budget] = how.budget
        return body


def wire(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as OpenAI's API has them: calls have names of their own, their arguments are text, and each answer of a
    tool names its call. Answers stand in the order of their calls."""
    out: list[dict[str, Any]] = []
    open_calls: list[str] = []
    number = 0
    for message in messages:
        said = message.to_dict()
        if message.tool_calls:
            open_calls = []
            for call, told in zip(message.tool_calls, said["tool_calls"], strict=True):
                number += 1
                open_calls.append(f"call_{number}")
                told["id"] = open_calls[-1]
                told["function"]["arguments"] = json.dumps(call.arguments, ensure_ascii=False)
            said["content"] = message.content or None
        if message.role == "tool" and open_calls:
            said["tool_call_id"] = open_calls.pop(0)
        out.append(said)
    return out


def read_message(content: str, reasoning: str) -> Message:
    """A message from what the client read, which has calls written out behind the words. One call that cannot be read
    makes the whole message empty: it cannot be carried out, and is no word to the customer."""
    calls = []
    for written in _CALL.findall(content):
        try:
            call = json.loads(written)
            name, arguments = call["name"], call["arguments"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return Message("assistant", "", reasoning or None)
        if arguments is None or arguments == "":
            arguments = {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return Message("assistant", "", reasoning or None)
        calls.append(ToolCall(name, arguments))
    return Message("assistant", _CALL.sub("", content).strip(), reasoning or None, tuple(calls))
