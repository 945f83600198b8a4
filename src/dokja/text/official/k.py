"""EXAONE 4.5 and K-EXAONE, in the frame of `frame.py`.

| what                 | format                                                                                    |
|----------------------|-------------------------------------------------------------------------------------------|
| roles                | `<|system|>` `<|user|>` `<|assistant|>` `<|tool|>`, each with a newline; `<|endofturn|>\\n` |
| thinking             | on unless asked not to                                                                    |
| thoughts in history  | kept after the last user message (a tool loop sees its own), emptied before it            |
| tools                | first of all, a turn of their own: `<|tool_declare|>\\n# Tools\\n<tool>{json}</tool>\\n..`  |
| calls                | `<tool_call>{"name": .., "arguments": {..}}</tool_call>`, one a line                      |
| results              | `<tool_result>` raw text `</tool_result>`                                                 |
| images (4.5)         | `<vision><|image_pad|></vision>\\n` each, before the text of a user's turn                 |

An answer at once bears no thought, so asking for one empties the thoughts of a tool loop as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from dokja.errors import DokjaError
from dokja.text.chat import CALL, CALL_END, END, THINK, THINK_END, Message, Segment
from dokja.text.official import frame
from dokja.text.official.frame import Frame, joined, marker, text
from dokja.text.official.parser import OfficialParser
from dokja.text.style import Parser, Style, Tools

TURN_END, DECLARE = "<|endofturn|>", "<|tool_declare|>"
ROLES = {role: f"<|{role}|>" for role in ("system", "user", "assistant", "tool")}
VISION, VISION_END, IMAGE_PAD = "<vision>", "</vision>", "<|image_pad|>"
NAMES = {
    **dict.fromkeys([*ROLES.values(), TURN_END, DECLARE, "[BOS]"], END),
    **{name: name for name in (THINK, THINK_END, CALL, CALL_END)},
}
"""Markers of an answer under our names."""
FRAME = Frame(
    roles=ROLES,
    end=TURN_END,
    call=frame.json_call,
    result=str,
    strips=True,
    picture=(marker(VISION), marker(IMAGE_PAD), marker(VISION_END), text("\n")),
)


def layout(
    shape: Frame,
    messages: Sequence[Message],
    tools: Tools,
    thinking: bool,
    add_generation_prompt: bool,
    preserve_thinking: bool,
    *,
    sort_keys: bool = False,
) -> list[Segment]:
    """The layout above; 2.0 has its own frame and sorted tools."""
    last = frame.last_user(messages)
    if any(m.role == "tool" and m.images for m in messages):
        raise DokjaError("This format shows images in user messages only. Move the images of the tool results there.")

    def shown(i: int) -> bool:
        return (thinking and i > last) or (preserve_thinking and bool(messages[i].reasoning))

    def learnt(i: int) -> bool:  # a thought that is only kept is nothing that the model would write in this mode
        return i > last and shown(i) == thinking

    def parts() -> Iterator[Segment]:
        if tools:
            yield from (marker(DECLARE), text("\n# Tools\n"))
            yield from (*frame.declared(tools, sort_keys=sort_keys), marker(TURN_END), text("\n"))
        yield from frame.turns(shape, messages, shown, learnt)
        if add_generation_prompt:
            yield from frame.opening(shape, thinking)

    return joined(parts())


def _layout(
    messages: Sequence[Message], tools: Tools, thinking: bool, add_generation_prompt: bool, preserve_thinking: bool
) -> list[Segment]:
    """Past thoughts are never kept before the last user message: `preserve_thinking` came with 2.0."""
    return layout(FRAME, messages, tools, thinking, add_generation_prompt, False)


def _reading(thinking: bool, spelled: Collection[str], tools: Tools) -> Parser:
    return OfficialParser(thinking, names=NAMES, spelled=spelled)


K = Style(
    name="k",
    markers=("[BOS]", *ROLES.values(), DECLARE, TURN_END, *frame.MARKERS, VISION, VISION_END, IMAGE_PAD),
    stops=(TURN_END,),
    thought=(THINK, THINK_END),
    modes=("think", "direct"),
    tools=True,
    image=IMAGE_PAD,
    closing=(text("\n"), marker(THINK_END)),
    layout=_layout,
    reading=_reading,
    lead="\n\n",
)
