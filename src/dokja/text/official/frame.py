"""What the formats of EXAONE 4.0, 4.5, K-EXAONE and K-EXAONE 2.0 share.

    ROLE\\n text END\\n                                  a system or user turn
    ASSISTANT\\n <think>\\n R \\n</think>\\n\\n A \\n calls END\\n      calls one a line
    TOOL\\n <tool_result>..</tool_result>\\n... END\\n      results that follow one another share a turn
    ASSISTANT\\n <think>\\n                              the prompt for an answer with a thought
    ASSISTANT\\n <think>\\n\\n</think>\\n\\n                 the prompt for an answer at once

An emptied thought (`<think>\\n\\n</think>\\n\\n`) has the letters of the prompt for an answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dokja.text.chat import CALL, CALL_END, THINK, THINK_END, Message, Segment, ToolCall, to_json

TOOL, TOOL_END, RESULT, RESULT_END = "<tool>", "</tool>", "<tool_result>", "</tool_result>"
MARKERS = (THINK, THINK_END, CALL, CALL_END, TOOL, TOOL_END, RESULT, RESULT_END)
"""Markers of all these formats."""


@dataclass(frozen=True)
class Frame:
    """What differs between the formats: role markers, the end marker, and how things are written inside turns."""

    roles: Mapping[str, str]
    end: str
    call: Callable[[ToolCall], str]
    result: Callable[[str], str]
    strips: bool
    """Whether the space around thoughts and answers is dropped (the parser drops it always)."""
    picture: tuple[Segment, ...] = ()
    """How an image is written, before the text of its turn."""


def text(words: str, loss: bool = False) -> Segment:
    """Ordinary text."""
    return Segment(words, False, loss)


def marker(name: str, loss: bool = False) -> Segment:
    """A marker."""
    return Segment(name, True, loss)


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbouring stretches of ordinary text of the same loss become one, as a tokenizer should see them."""
    out: list[Segment] = []
    for segment in segments:
        if out and not (segment.special or out[-1].special) and segment.loss == out[-1].loss:
            out[-1] = Segment(out[-1].text + segment.text, False, segment.loss)
        elif segment.text:
            out.append(segment)
    return out


def json_call(call: ToolCall) -> str:
    """A call as the JSON between its markers."""
    return call.json()


def declared(tools: Sequence[Mapping[str, Any]], *, sort_keys: bool = False) -> Iterator[Segment]:
    """`<tool>{json}</tool>`, one a line."""
    for tool in tools:
        yield from (marker(TOOL), text(to_json(tool, sort_keys=sort_keys)), marker(TOOL_END), text("\n"))


def last_user(messages: Sequence[Message]) -> int:
    """Index of the last user message, -1 where there is none."""
    return max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)


def turn(frame: Frame, role: str, body: Iterable[Segment]) -> Iterator[Segment]:
    """A whole turn that the model only reads."""
    yield from (marker(frame.roles[role]), text("\n"), *body, marker(frame.end), text("\n"))


def opening(frame: Frame, thinking: bool) -> list[Segment]:
    """What stands before the model's first own token."""
    opened = [marker(frame.roles["assistant"]), text("\n"), marker(THINK)]
    return [*opened, text("\n")] if thinking else [*opened, text("\n\n"), marker(THINK_END), text("\n\n")]


def assistant(frame: Frame, message: Message, thinking: bool, loss: bool) -> Iterator[Segment]:
    """An assistant's turn, with its thought where `thinking`, else with an empty one. `loss`: the model learns it."""
    strip = str.strip if frame.strips else str
    yield from opening(frame, thinking)
    if thinking:
        yield from (text(strip(message.reasoning or "") + "\n", loss), marker(THINK_END, loss), text("\n\n", loss))
    content = strip(message.content)
    yield text(content, loss)
    for i, call in enumerate(message.tool_calls):
        yield text("\n" if content or i else "", loss)
        yield from (marker(CALL, loss), text(frame.call(call), loss), marker(CALL_END, loss))
    yield from (marker(frame.end, loss), text("\n"))


def results(frame: Frame, messages: Sequence[Message], i: int) -> Iterator[Segment]:
    """Message i, a tool's result, in the turn that it shares with the results beside it."""
    if i == 0 or messages[i - 1].role != "tool":
        yield from (marker(frame.roles["tool"]), text("\n"))
    yield from (marker(RESULT), text(frame.result(messages[i].content)), marker(RESULT_END))
    if i + 1 == len(messages) or messages[i + 1].role != "tool":
        yield marker(frame.end)
    yield text("\n")


def turns(
    frame: Frame,
    messages: Sequence[Message],
    shown: Callable[[int], bool],
    learnt: Callable[[int], bool],
) -> Iterator[Segment]:
    """All turns. `shown(i)`: answer i keeps its thought; `learnt(i)`: the model learns what it wrote there."""
    for i, message in enumerate(messages):
        if message.role == "assistant":
            yield from assistant(frame, message, shown(i), learnt(i))
        elif message.role == "tool":
            yield from results(frame, messages, i)
        else:
            pictures = [part for _ in message.images for part in frame.picture]
            yield from turn(frame, message.role, [*pictures, text(message.content)])
