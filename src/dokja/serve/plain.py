"""Answers without a chat format, in the place of a style's parser: every text is content, markers are left out."""

from __future__ import annotations

from collections.abc import Callable

from dokja.text.chat import Message, Segment
from dokja.text.parse import Delta
from dokja.text.stream import Piece


class Plain:
    """See `text.style.Parser`."""

    leaked = False
    ended = False
    closed = True
    malformed_tool_calls = 0
    open_call: str | None = None

    def __init__(self) -> None:
        self.keeps: Callable[[str], bool] | None = None
        self.thoughts: list[str] = []
        self._texts: list[str] = []

    def feed(self, piece: Piece | Segment) -> list[Delta]:
        """The text of the piece."""
        if piece.special or not piece.text:
            return []
        self._texts.append(piece.text)
        return [Delta("content", piece.text)]

    def flush(self) -> list[Delta]:
        """Nothing is ever held back."""
        return []

    def finish(self) -> Message:
        """All of it."""
        return Message("assistant", "".join(self._texts))
