"""What an endpoint said, taken apart: thought, answer, why it ended, tokens. It may be anything at all.

| it comes as | it becomes |
|---|---|
| `reasoning_content` or `reasoning` beside the content | the thought |
| `<think>…</think>A` or `…</think>A` in the content | the thought and A |
| `<think>…` without an end | a thought left open, and no answer |
| content as a list of parts | texts joined; parts of kind `thinking` or `reasoning` are the thought |
| calls of tools beside the content | the calls as a model writes them, behind the content |
| thoughts without a count of their tokens | their share of the letters, of the tokens written |
| anything else | `Broken`, with what is wrong: no answer, never a wrong one |
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dokja.judge.endpoint.description import Reasoning
from dokja.judge.records import Usage
from dokja.text.styles import STYLES

MARKS = sorted({style.thought for style in STYLES.values() if style.thought is not None})
"""Pairs of markers around thoughts."""
_FINISH = {
    None: "stop", "stop": "stop", "eos": "stop", "end_turn": "stop", "tool_calls": "stop", "function_call": "stop",
    "stop_sequence": "stop", "length": "length", "max_tokens": "length", "model_length": "length",
    "content_filter": "content_filter", "safety": "content_filter",
}  # fmt: skip
_SHOWN = 160


class Broken(Exception):
    """What came back is no answer; says why."""


@dataclass(frozen=True)
class Reply:
    """One answer. `finish` is stop, length or content_filter; `left_open`: it ended inside its thought."""

    raw: str
    reasoning: str
    content: str
    finish: str
    usage: Usage
    left_open: bool = False


def read_json(data: bytes) -> Any:
    """The body of a response. Raises Broken where it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Broken(f"it sent no JSON, but {data[:_SHOWN]!r}") from error


def read_reply(body: Any, reasoning: Reasoning = "auto") -> Reply:
    """A chat completion, taken apart as the table says. Raises Broken."""
    if not isinstance(body, Mapping):
        raise Broken(f"it sent {_kind(body)} in place of a completion")
    if body.get("error"):
        raise Broken(f"it sent an error: {message_of(body)[:_SHOWN] or 'without words'}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Broken("its completion has no choices")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise Broken("its choice has no message")
    told = choice.get("finish_reason")
    if told is not None and (not isinstance(told, str) or told.lower() not in _FINISH):
        raise Broken(f"its answer ended for a reason that is none: {str(told)[:_SHOWN]!r}")
    finish = _FINISH[told.lower() if isinstance(told, str) else None]
    content, thought = _texts(message.get("content"))
    for key in ("reasoning_content", "reasoning"):
        apart = message.get(key)
        if reasoning in ("auto", key) and isinstance(apart, str) and apart:
            thought = apart
            break
    calls = _calls(message.get("tool_calls"))
    refusal = message.get("refusal")
    if content is None and isinstance(refusal, str):
        content = refusal
    if content is None and not (thought or calls or finish != "stop"):
        raise Broken("its message has no content")
    return _split((content or "") + calls, thought, finish, _usage(body.get("usage")), reasoning)


def split_thought(text: str) -> tuple[str, str, bool]:
    """(thought, answer, whether the thought was left open) of a content that may hold a thought; blank lines beside
    the markers are the format's."""
    begun = text.lstrip()
    for opening, closing in MARKS:
        if begun.startswith(opening):
            thought, mark, answer = begun[len(opening) :].partition(closing)
            return thought.strip("\n"), answer.lstrip("\n"), not mark
    found = [(at, closing) for _, closing in MARKS if (at := text.find(closing)) >= 0]
    if not found:
        return "", text, False
    at, closing = min(found)
    return text[:at].strip("\n"), text[at + len(closing) :].lstrip("\n"), False


def message_of(body: Any) -> str:
    """The sentence in an error's body, whoever spells it."""
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and body.get(key):
            body = body[key]
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False) if body else ""


def _split(content: str, thought: str, finish: str, usage: Usage, reasoning: Reasoning) -> Reply:
    # half of a surrogate pair is no letter, and no file could hold it
    content, thought = (text.encode("utf-8", "replace").decode() for text in (content, thought))
    if thought:
        raw, left_open = f"<think>{thought}</think>{content}", finish == "length" and not content
    else:
        raw, left_open = content, False
        if reasoning in ("auto", "inline"):
            thought, content, left_open = split_thought(content)
    told = usage.reasoning_tokens
    if not told and thought:
        letters = len(thought) + len(content)
        told = round(usage.completion_tokens * len(thought) / letters)
    counted = Usage(
        usage.prompt_tokens, usage.completion_tokens, min(told, usage.completion_tokens), usage.cached_tokens
    )
    return Reply(raw, thought, content, finish, counted, left_open)


def _texts(content: Any) -> tuple[str | None, str]:
    """(content, thought) of a message's content: a text, or a list of parts."""
    if isinstance(content, str | None):
        return content, ""
    if not isinstance(content, list):
        raise Broken(f"its content is {_kind(content)}")
    said: list[str] = []
    thought: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else "text" if isinstance(part, str) else None
        text: Any = part
        if isinstance(part, Mapping):
            text = next((part[k] for k in ("text", "thinking", "reasoning") if part.get(k) is not None), None)
        if isinstance(text, list):  # a thought that is a list of parts itself
            text = "".join(p.get("text", "") for p in text if isinstance(p, Mapping) and isinstance(p.get("text"), str))
        if not isinstance(text, str):
            raise Broken(f"its content holds {_kind(part)} of kind {str(kind)[:40]!r}")
        (thought if kind in ("thinking", "reasoning") else said).append(text)
    return "".join(said), "".join(thought)


def _calls(calls: Any) -> str:
    if not calls:
        return ""
    written = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Broken("it calls a tool that has no name")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError, RecursionError):  # else what the model wrote, for the grader to see
                arguments = json.loads(arguments)
        said = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
        written.append(f"<tool_call>{said}</tool_call>")
    return "\n".join(written)


def _usage(told: Any) -> Usage:
    details = {k: told.get(k) if isinstance(told, Mapping) else None for k in _DETAILS}
    return Usage(
        prompt_tokens=_number(told, "prompt_tokens"),
        completion_tokens=_number(told, "completion_tokens"),
        reasoning_tokens=_number(details["completion_tokens_details"], "reasoning_tokens")
        or _number(told, "reasoning_tokens"),
        cached_tokens=_number(details["prompt_tokens_details"], "cached_tokens"),
    )


_DETAILS = ("completion_tokens_details", "prompt_tokens_details")


def _number(told: Any, key: str) -> int:
    value = told.get(key) if isinstance(told, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
