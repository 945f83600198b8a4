"""Answers of the official formats, piece by piece: `text.parse.StreamParser` behind three translations.

| step    | does                                                                                             |
|---------|--------------------------------------------------------------------------------------------------|
| spelled | markers that the tokenizer has no token for are found in the letters, however they are cut       |
| names   | the family's markers become ours; role markers end the answer; other special tokens are dropped  |
| strip   | the line ends between thought, answer and calls are the format's, not the message's              |

The prompt opened the thought, so `<think>` need not appear in the output: the mode of the request decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from dokja.text.chat import PAD, Message, Segment, ToolCall
from dokja.text.parse import Delta, StreamParser, read_tool_call
from dokja.text.stream import MarkerSplitter, Piece


class OfficialParser:
    """See the table above; the interface is StreamParser's."""

    def __init__(
        self,
        thinking: bool,
        *,
        names: Mapping[str, str],
        spelled: Collection[str] = (),
        read_call: Callable[[str], ToolCall | None] = read_tool_call,
        strips: bool = True,
    ) -> None:
        self._inner = StreamParser(thinking, read_call)
        self._names, self._strips = names, strips
        self._splitter = MarkerSplitter(sorted(spelled)) if spelled else None
        self._space = {"reasoning": _Strip(), "content": _Strip()}

    @property
    def leaked(self) -> bool:
        """Whether a thought stood where none belongs."""
        return self._inner.leaked

    @property
    def ended(self) -> bool:
        """Whether the answer is over."""
        return self._inner.ended

    @property
    def closed(self) -> bool:
        """Whether no thought is open."""
        return self._inner.closed

    @property
    def malformed_tool_calls(self) -> int:
        """Calls that could not be read and stayed text."""
        return self._inner.malformed_tool_calls

    @property
    def thoughts(self) -> list[str]:
        """The markers of thoughts that were seen, under our names."""
        return self._inner.thoughts

    @property
    def open_call(self) -> str | None:
        """What stands so far in the call that is being written; None outside calls."""
        return self._inner.open_call

    @property
    def keeps(self) -> Callable[[str], bool] | None:
        """See StreamParser."""
        return self._inner.keeps

    @keeps.setter
    def keeps(self, keeps: Callable[[str], bool] | None) -> None:
        self._inner.keeps = keeps

    def feed(self, piece: Piece | Segment) -> list[Delta]:
        """Take the next piece; returns what became certain by it."""
        if self._splitter is None:
            return self._feed([Piece(piece.text, piece.special)])
        if piece.special:
            return self._feed([*self._splitter.flush(), Piece(piece.text, True)])
        return self._feed(self._splitter.feed(piece.text))

    def flush(self) -> list[Delta]:
        """The output is over: a call that was never closed becomes content. Returns these last deltas."""
        deltas = self._feed(self._splitter.flush()) if self._splitter else []
        return deltas + self._stripped(self._inner.flush())

    def finish(self) -> Message:
        """The message of everything fed (flushes first)."""
        self.flush()
        message = self._inner.finish()
        if not self._strips:
            return message
        return replace(message, content=message.content.strip(), reasoning=(message.reasoning or "").strip())

    def _feed(self, pieces: list[Piece]) -> list[Delta]:
        out: list[Delta] = []
        for piece in pieces:
            known = Piece(self._names.get(piece.text, PAD), True) if piece.special else piece
            out += self._inner.feed(known)
        return self._stripped(out)

    def _stripped(self, deltas: list[Delta]) -> list[Delta]:
        if not self._strips:
            return deltas
        cut = [d if d.kind == "tool_call" else Delta(d.kind, self._space[d.kind].feed(d.text)) for d in deltas]
        return [d for d in cut if d.text]


class _Strip:
    """`str.strip` of a text that comes in pieces: space is held back until something follows it."""

    def __init__(self) -> None:
        self._begun, self._held = False, ""

    def feed(self, text: str) -> str:
        text = text if self._begun else text.lstrip()
        body = text.rstrip()
        if not body:
            self._held += text
            return ""
        held, self._held, self._begun = self._held, text[len(body) :], True
        return held + body
