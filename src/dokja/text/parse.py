"""From model output to a message, piece by piece. No reasoning ever reaches `content`, in either mode.

| the model writes                       | becomes                                                              |
|----------------------------------------|----------------------------------------------------------------------|
| thinking, thought never closed         | reasoning; content empty, `closed` False                             |
| a thought where none belongs           | reasoning, `leaked` True (at once, or after the answer had begun)    |
| `</think>` without an open thought     | dropped; `leaked` True when text stood before it                     |
| a tool call that is no JSON call       | content, markers included; counted in `malformed_tool_calls`         |
| a call marker inside a thought         | text of the thought                                                  |
| `<|pad|>` or `<|image|>`               | dropped                                                              |
| `<|end|>`, `<|bos|>` or a role marker  | the end of the answer; whatever follows is ignored                   |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from dokja.text.chat import CALL, CALL_END, IMAGE, PAD, THINK, THINK_END, Message, Segment, ToolCall
from dokja.text.stream import MarkerSplitter, Piece

Kind = Literal["reasoning", "content", "tool_call"]


@dataclass(frozen=True, slots=True)
class Delta:
    """What became certain: text of the thought or of the answer, or one whole tool call (its JSON).

    `raw` is a call as it was written; `text` is empty where it was kept though it cannot be read."""

    kind: Kind
    text: str
    raw: str = field(default="", compare=False)


class StreamParser:
    """Reads what follows the generation prompt of `thinking`'s mode; `finish` gives the message.

    Joined deltas equal the message however the pieces are cut. A tool call is held until it is whole, because until
    then it may still turn out to be content. `read_call` reads what stands between the markers of a call.
    """

    def __init__(self, thinking: bool, read_call: Callable[[str], ToolCall | None] | None = None) -> None:
        self.thinking = thinking
        self.leaked = False
        self.ended = False
        self.malformed_tool_calls = 0
        self.keeps: Callable[[str], bool] | None = None
        """Whether what stands in a call that cannot be read makes it a call all the same, not content: for whoever
        passes calls on while they are written. Once it says yes of a beginning, it says yes of all that goes on so."""
        self.thoughts: list[str] = []  # the markers of thoughts in the order written
        self._read_call = read_call or read_tool_call
        self._in_thought = thinking
        self._answered = False  # whether something visible has been said
        self._call: list[str] | None = None  # text of the open call, None outside calls
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._calls: list[ToolCall] = []

    @property
    def closed(self) -> bool:
        """Whether no thought is open."""
        return not self._in_thought

    @property
    def open_call(self) -> str | None:
        """What stands so far in the call that is being written; None outside calls."""
        return None if self._call is None else "".join(self._call)

    def feed(self, piece: Piece | Segment) -> list[Delta]:
        """Take the next piece; returns what became certain by it."""
        if piece.special and piece.text in (THINK, THINK_END):
            self.thoughts.append(piece.text)
        if self.ended or not piece.text:
            return []
        return self._marker(piece.text) if piece.special else self._text(piece.text)

    def flush(self) -> list[Delta]:
        """The output is over: a call that was never closed becomes content. Returns these last deltas."""
        self.ended = True
        return self._end_call(whole=False)

    def finish(self) -> Message:
        """The message of everything fed (flushes first)."""
        self.flush()
        return Message("assistant", "".join(self._content), "".join(self._reasoning) or None, tuple(self._calls))

    def _text(self, text: str) -> list[Delta]:
        if self._call is not None:
            self._call.append(text)
            return []
        if not self._in_thought:
            self._content.append(text)
            self._answered = self._answered or not text.isspace()
            return [Delta("content", text)]
        if (self._answered or not self.thinking) and not text.isspace():
            self.leaked = True
        self._reasoning.append(text)
        return [Delta("reasoning", text)]

    def _marker(self, marker: str) -> list[Delta]:
        if marker in (PAD, IMAGE):
            return []
        if marker == THINK:
            out = self._end_call(whole=False)
            self._in_thought = True
            return out
        if marker == THINK_END:
            out = self._end_call(whole=False)
            if self._answered and not self._in_thought:
                self.leaked = True
            self._in_thought = False
            return out
        if marker in (CALL, CALL_END):
            if self._in_thought:
                return self._text(marker)
            if marker == CALL:
                out = self._end_call(whole=False)
                self._call = []
                return out
            if self._call is not None:
                return self._end_call(whole=True)
            self.malformed_tool_calls += 1
            return self._text(marker)
        return self.flush()

    def _end_call(self, *, whole: bool) -> list[Delta]:
        """Close the open call, if any: a call when `whole` and well formed, content otherwise."""
        if self._call is None:
            return []
        text, self._call = "".join(self._call), None
        call = self._read_call(text) if whole else None
        if call is not None:
            self._calls.append(call)
            self._answered = True
            return [Delta("tool_call", call.json(), text)]
        self.malformed_tool_calls += 1
        if self.keeps is not None and self.keeps(text):
            self._answered = True
            return [Delta("tool_call", "", text)]
        return self._text(CALL + text + (CALL_END if whole else ""))


def read_tool_call(text: str) -> ToolCall | None:
    """The call that `text` spells, or None: strict JSON, an object with a name and an object of arguments, no more."""
    try:
        raw = json.loads(text, parse_constant=_no_constant)
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode("utf-8")  # 1e999 and lone surrogates end here
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or raw.keys() != {"name", "arguments"}:
        return None
    name, arguments = raw["name"], raw["arguments"]
    return ToolCall(name, arguments) if isinstance(name, str) and name and isinstance(arguments, dict) else None


def parse(pieces: Iterable[Piece | Segment], thinking: bool) -> Message:
    """The message that `pieces` (what follows the generation prompt) spell."""
    parser = StreamParser(thinking)
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def parse_text(text: str, thinking: bool) -> Message:
    """`parse` for endpoints which return plain text; markers in it are taken at their word."""
    splitter = MarkerSplitter()
    return parse([*splitter.feed(text), *splitter.flush()], thinking)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
