"""EXAONE 4.0 (1.2B, 32B, 4.0.1), in the frame of `frame.py`.

| what                 | format                                                                                    |
|----------------------|-------------------------------------------------------------------------------------------|
| roles                | `[|system|]` `[|user|]` `[|assistant|]` `[|tool|]`, each with a newline; `[|endofturn|]\\n` |
| thinking             | off unless asked for                                                                      |
| thoughts in history  | emptied; only an answer that ends the conversation keeps its own, when thinking           |
| tools                | a block under `# Available Tools` in the system turn, after its text and an empty line    |
| calls                | `<tool_call>{"name": .., "arguments": {..}}</tool_call>`, one a line                      |
| results              | `<tool_result>{"result": ..}</tool_result>`, the text as a JSON string                    |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from dokja.text.chat import CALL, CALL_END, END, THINK, THINK_END, Message, Segment, to_json
from dokja.text.official import frame
from dokja.text.official.deep import ROLES as ROLES_3
from dokja.text.official.deep import TURN_END
from dokja.text.official.frame import Frame, joined, marker, text
from dokja.text.official.parser import OfficialParser
from dokja.text.style import Parser, Style, Tools

ROLES = {**ROLES_3, "tool": "[|tool|]"}
_NAMES = {
    **dict.fromkeys([*ROLES.values(), TURN_END, "[BOS]"], END),
    **{name: name for name in (THINK, THINK_END, CALL, CALL_END)},
}
FRAME = Frame(
    roles=ROLES,
    end=TURN_END,
    call=frame.json_call,
    result=lambda content: to_json({"result": content}),
    strips=False,
)
# The sentences are part of the format: the models saw exactly these. The apostrophe is U+2019.
_HEAD = (
    "# Available Tools\n"
    "You can use none, one, or multiple of the following tools by calling them as functions to help with the "
    "user\u2019s query.\n"
    "Here are the tools available to you in JSON format within <tool> and </tool> tags:\n"
)
_TAIL = (
    "\nFor each function call you want to make, return a JSON object with function name and arguments within "
    "<tool_call> and </tool_call> tags, like:\n"
    '<tool_call>{"name": function_1_name, "arguments": '
    "{argument_1_name: argument_1_value, argument_2_name: argument_2_value}}</tool_call>\n"
    '<tool_call>{"name": function_2_name, "arguments": {...}}</tool_call>\n...\n'
    "Note that if no argument name is specified for a tool, you can just print the argument value directly, "
    "without the argument name or JSON formatting."
)
_MARKER = re.compile("(" + "|".join(map(re.escape, frame.MARKERS)) + ")")


def _sentences(words: str) -> list[Segment]:
    """The format's own sentences: the markers in them are markers."""
    return [Segment(part, part in frame.MARKERS) for part in _MARKER.split(words) if part]


def _layout(
    messages: Sequence[Message], tools: Tools, thinking: bool, add_generation_prompt: bool, preserve_thinking: bool
) -> list[Segment]:
    """Past thoughts are never kept here, whatever `preserve_thinking` says: the family has no such switch."""
    last, end = frame.last_user(messages), len(messages) - 1

    def new(i: int) -> bool:
        return not add_generation_prompt and i == end if thinking else i > last

    def parts() -> Iterator[Segment]:
        rest = messages
        if tools:
            block = [*_sentences(_HEAD), *frame.declared(tools), *_sentences(_TAIL)]
            if messages and messages[0].role == "system":
                block = [text(messages[0].content + "\n\n"), *block]
                rest = messages[1:]
            yield from frame.turn(FRAME, "system", block)
        skipped = len(messages) - len(rest)
        yield from frame.turns(FRAME, rest, lambda i: thinking and new(i + skipped), lambda i: new(i + skipped))
        if add_generation_prompt:
            yield from frame.opening(FRAME, thinking)

    return joined(parts())


def _reading(thinking: bool, spelled: Collection[str], tools: Tools) -> Parser:
    return OfficialParser(thinking, names=_NAMES, spelled=spelled)


EXAONE_4 = Style(
    name="exaone4",
    markers=("[BOS]", *ROLES.values(), TURN_END, *frame.MARKERS),
    stops=(TURN_END,),
    thought=(THINK, THINK_END),
    modes=("direct", "think"),
    tools=True,
    image=None,
    closing=(text("\n"), marker(THINK_END)),
    layout=_layout,
    reading=_reading,
    lead="\n\n",
)
