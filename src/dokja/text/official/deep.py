"""EXAONE 3.0, 3.5 and Deep.

    [|system|]S[|endofturn|]\\n[|user|]U\\n[|assistant|]A[|endofturn|]\\n

| what                     | 3.0, 3.5            | Deep                                                        |
|--------------------------|---------------------|-------------------------------------------------------------|
| no system message first  | `[|system|][|endofturn|]\\n` | same                                                 |
| a user's turn            | ends with a newline, no end marker | same                                         |
| prompt for an answer     | `[|assistant|]`     | `[|assistant|]<thought>\\n`                                 |
| what the model writes    | `A[|endofturn|]`    | `R\\n</thought>\\n\\nA[|endofturn|]`                        |
| an answer in the history | `[|assistant|]A`    | A is what follows the last `</thought>`, newlines before it dropped |
| tools, images            | none                | none                                                        |

Role markers and `<thought>` are no tokens in every release of these families; the tokenizer spells them then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from dokja.text.chat import END, THINK, THINK_END, Message, Segment
from dokja.text.official.frame import joined, last_user, marker, text
from dokja.text.official.parser import OfficialParser
from dokja.text.style import Parser, Style, Tools

TURN_END = "[|endofturn|]"
ROLES = {"system": "[|system|]", "user": "[|user|]", "assistant": "[|assistant|]"}
THOUGHT, THOUGHT_END = "<thought>", "</thought>"
_NAMES = {**dict.fromkeys([*ROLES.values(), TURN_END, "[BOS]"], END), THOUGHT: THINK, THOUGHT_END: THINK_END}


def _layout(
    messages: Sequence[Message], tools: Tools, thinking: bool, add_generation_prompt: bool, preserve_thinking: bool
) -> list[Segment]:
    """`thinking` is what tells Deep from 3.5; neither reads tools or keeps past thoughts."""
    last = last_user(messages)

    def parts() -> Iterator[Segment]:
        if messages and messages[0].role != "system":
            yield from (marker(ROLES["system"]), marker(TURN_END), text("\n"))
        for i, message in enumerate(messages):
            if message.role == "assistant":
                yield from _assistant(message, thinking, new=i > last)
            else:
                yield from (marker(ROLES[message.role]), text(message.content))
                yield from (text("\n"),) if message.role == "user" else (marker(TURN_END), text("\n"))
        if add_generation_prompt:
            yield from _opening(thinking)

    return joined(parts())


def _opening(thinking: bool) -> Iterator[Segment]:
    yield marker(ROLES["assistant"])
    if thinking:
        yield from (marker(THOUGHT), text("\n"))


def _assistant(message: Message, thinking: bool, new: bool) -> Iterator[Segment]:
    """An answer; a `new` one is learnt and keeps its thought."""
    yield from _opening(thinking and new)
    content = message.content
    if thinking and new:
        thought = (message.reasoning or "").strip()
        yield from (text(thought + "\n", True), marker(THOUGHT_END, True), text("\n\n", True))
        content = content.strip()
    elif thinking and THOUGHT_END in content:
        content = content.rpartition(THOUGHT_END)[2].lstrip("\n")
    yield from (text(content, new), marker(TURN_END, new), text("\n"))


def _reading(thinking: bool, spelled: Collection[str], tools: Tools) -> Parser:
    # Space around an answer of 3.5 is its own: code may begin with it.
    return OfficialParser(thinking, names=_NAMES, spelled=spelled, strips=thinking)


EXAONE_3 = Style(
    name="exaone3.5",
    markers=("[BOS]", *ROLES.values(), TURN_END),
    stops=(TURN_END,),
    thought=None,
    modes=("direct",),
    tools=False,
    image=None,
    closing=(),
    layout=_layout,
    reading=_reading,
)
DEEP = Style(
    name="deep",
    markers=(*EXAONE_3.markers, THOUGHT, THOUGHT_END),
    stops=(TURN_END,),
    thought=(THOUGHT, THOUGHT_END),
    modes=("think",),
    tools=False,
    image=None,
    closing=(text("\n"), marker(THOUGHT_END)),
    layout=_layout,
    reading=_reading,
    lead="\n\n",
)
