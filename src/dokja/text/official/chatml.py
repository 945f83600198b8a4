"""ChatML as Qwen2.5 and Qwen2.5-Coder have it.

    <|im_start|>system\\nS<|im_end|>\\n<|im_start|>user\\nU<|im_end|>\\n<|im_start|>assistant\\nA<|im_end|>\\n

| what                    | format                                                                             |
|-------------------------|------------------------------------------------------------------------------------|
| no system message first | the family's own sentence stands in its place                                      |
| thinking                | none                                                                               |
| tools                   | a block under `# Tools` at the end of the first system turn, JSON in `<tools>`; in |
|                         | its example of a call the braces are double in Coder's template, which is kept     |
| calls                   | `<tool_call>\\n{"name": .., "arguments": {..}}\\n</tool_call>`, each on a new line   |
| results                 | `\\n<tool_response>\\n` text `\\n</tool_response>` each, those in a row in a user turn |
| images                  | none                                                                               |

Many families write ChatML and differ in all of this: `text.probe` sees to it that a template is this one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from dokja.text.chat import CALL, CALL_END, END, Message, Segment, ToolCall, to_json
from dokja.text.official.frame import joined, last_user, marker, text
from dokja.text.official.parser import OfficialParser
from dokja.text.parse import Delta
from dokja.text.stream import Piece
from dokja.text.style import Parser, Style, Tools

TURN, TURN_END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
DEFAULT_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_NAMES = {**dict.fromkeys([TURN, TURN_END, TEXT_END], END), CALL: CALL, CALL_END: CALL_END}
# The sentences are part of the format: the models saw exactly these.
_HEAD = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
)
_EXAMPLE = '{"name": <function-name>, "arguments": <args-json-object>}'
_MARKER = re.compile(f"({CALL}|{CALL_END})")


def _layout(
    messages: Sequence[Message],
    tools: Tools,
    thinking: bool,
    add_generation_prompt: bool,
    preserve_thinking: bool,
    *,
    example: str = _EXAMPLE,
) -> list[Segment]:
    """There are no thoughts, so nothing of them is kept. `example`: of a call, in the block of tools."""
    last, first = last_user(messages), bool(messages) and messages[0].role == "system"

    def parts() -> Iterator[Segment]:
        system = [text(messages[0].content if first else DEFAULT_SYSTEM)]
        if tools:
            declared = "".join("\n" + to_json(tool) for tool in tools)
            system.append(text(_HEAD + declared))
            said = f"{_TAIL}{example}\n{CALL_END}"
            system += [Segment(part, part in (CALL, CALL_END)) for part in _MARKER.split(said) if part]
        yield from _turn("system", system)
        for i, message in enumerate(messages):
            if message.role == "assistant":
                yield from _assistant(message, i > last)
            elif message.role == "tool":
                yield from _result(messages, i)
            elif i or not first:
                yield from _turn(message.role, [text(message.content)])
        if add_generation_prompt:
            yield from _opening("assistant")

    return joined(parts())


def _opening(role: str) -> list[Segment]:
    return [marker(TURN), text(role + "\n")]


def _turn(role: str, body: Sequence[Segment]) -> Iterator[Segment]:
    yield from (*_opening(role), *body, marker(TURN_END), text("\n"))


def _assistant(message: Message, loss: bool) -> Iterator[Segment]:
    yield from (*_opening("assistant"), text(message.content, loss))
    for i, call in enumerate(message.tool_calls):
        yield text("\n" if message.content or i else "", loss)
        yield from (marker(CALL, loss), text(_json(call), loss), marker(CALL_END, loss))
    yield from (marker(TURN_END, loss), text("\n"))


def _json(call: ToolCall) -> str:
    """The template writes names as they are."""
    return f'\n{{"name": "{call.name}", "arguments": {to_json(call.arguments)}}}\n'


def _result(messages: Sequence[Message], i: int) -> Iterator[Segment]:
    """Message i, a tool's result, in the turn that it shares with the results beside it."""
    if i == 0 or messages[i - 1].role != "tool":
        yield from (marker(TURN), text("user"))
    yield text(f"\n<tool_response>\n{messages[i].content}\n</tool_response>")
    if i + 1 == len(messages) or messages[i + 1].role != "tool":
        yield from (marker(TURN_END), text("\n"))


class _Answer(OfficialParser):
    """The space of an answer is its own (code may begin with it), but for the line end before a call."""

    def __init__(self, spelled: Collection[str]) -> None:
        super().__init__(False, names=_NAMES, spelled=spelled, strips=False)
        self._held = ""  # a line end that a call may follow

    def flush(self) -> list[Delta]:
        """The output is over; returns the last deltas."""
        rest = self._feed(self._splitter.flush()) if self._splitter else []
        held, self._held = self._held, ""
        return rest + (super()._feed([Piece(held, False)]) if held else []) + super().flush()

    def _feed(self, pieces: list[Piece]) -> list[Delta]:
        out: list[Piece] = []
        for piece in pieces:
            whole = self._held + ("" if piece.special else piece.text)
            self._held = ""
            if piece.special:
                out += [Piece(whole, False)] if whole and piece.text != CALL else []
                out.append(piece)
            else:
                self._held = "\n" if whole.endswith("\n") else ""
                out.append(Piece(whole.removesuffix("\n"), False))
        return super()._feed(out)


def _reading(thinking: bool, spelled: Collection[str], tools: Tools) -> Parser:
    return _Answer(spelled)


QWEN2_5 = Style(
    name="qwen2.5",
    markers=(TEXT_END, TURN, TURN_END, CALL, CALL_END),
    stops=(TURN_END, TEXT_END),
    thought=None,
    modes=("direct",),
    tools=True,
    image=None,
    closing=(),
    layout=_layout,
    reading=_reading,
)
QWEN2_5_CODER = replace(QWEN2_5, name="qwen2.5-coder", layout=partial(_layout, example=f"{{{_EXAMPLE}}}"))
ALL = (QWEN2_5, QWEN2_5_CODER)
