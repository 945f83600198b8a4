"""A streamed answer put together again, with the times that speed is measured by."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from dokja.judge.endpoint.reply import Broken, message_of

MOST_BYTES = 64 << 20
"""Of one answer; what is longer is no answer."""


@dataclass
class Streamed:
    """What a stream adds up to. Times are seconds since the request was sent; NaN-free: None until something came."""

    body: dict[str, Any]
    first: float | None = None
    """when the first part with a letter came, of a thought where it is shown"""
    last: float | None = None
    first_letters: int = 0
    letters: int = 0


@dataclass
class _Parts:
    content: list[str] = field(default_factory=list)
    reasoning_content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[Any, dict[str, Any]] = field(default_factory=dict)


async def read_stream(chunks: AsyncIterator[bytes], began: float) -> Streamed:
    """Server-sent events to one completion. Raises Broken for events that are none, and for a stream cut short."""
    parts, said = _Parts(), Streamed({})
    finish: Any = None
    usage: Any = None
    ended = False
    async for line in _lines(chunks):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            ended = True
            break
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Broken(f"its stream holds no JSON, but {data[:160]!r}") from error
        if not isinstance(event, dict):
            raise Broken("its stream holds what is no event")
        if event.get("error"):
            raise Broken(f"its stream ended in an error: {message_of(event)[:160]}")
        usage = event.get("usage") or usage
        choices = event.get("choices") or ()
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta")
        if isinstance(delta, dict) and (letters := _add(delta, parts)):
            said.last = time.perf_counter() - began
            if said.first is None:
                said.first, said.first_letters = said.last, letters
            said.letters += letters
    if finish is None and not ended:
        raise Broken("its stream broke off in the middle of an answer")
    message: dict[str, Any] = {"content": "".join(parts.content) if parts.content else None}
    for key in ("reasoning_content", "reasoning"):
        if pieces := getattr(parts, key):
            message[key] = "".join(pieces)
    if parts.calls:
        message["tool_calls"] = list(parts.calls.values())
    said.body = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    return said


def _add(delta: dict[str, Any], parts: _Parts) -> int:
    """Letters that a delta adds."""
    letters = 0
    for key in ("content", "reasoning_content", "reasoning"):
        piece = delta.get(key)
        if isinstance(piece, str) and (piece or key == "content"):
            getattr(parts, key).append(piece)
            letters += len(piece)
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Broken("its stream calls a tool that has no name")
        known = parts.calls.setdefault(call.get("index", call.get("id")), {"function": {"arguments": ""}})["function"]
        known["name"] = function.get("name") or known.get("name")
        if isinstance(piece := function.get("arguments"), str):
            known["arguments"] += piece
            letters += len(piece)
    return letters


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held, size = b"", 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MOST_BYTES:
            raise Broken(f"its answer is longer than {MOST_BYTES >> 20} MiB")
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield line
    if held:
        yield held
