"""Stop strings: finding them in tokens as they come, and never showing text that may still become part of one.

A stop string counts as soon as the text holds it whole; of several that end at one place, the one that begins first.
So what is found, and the text before it, do not depend on how the text is cut into tokens. What a token carries behind
a match goes with it.

Markers are no text: no match reaches across one. A stop string that is a marker's name is met by the marker.

    legend   text so far  ...already shown|held back: the longest tail that some stop string begins with
"""

from __future__ import annotations

from collections.abc import Iterable

from dokja.text.stream import Piece
from dokja.text.tokenizer import Tokenizer


class StopStream:
    """Pieces of an answer, up to the first stop string; see `text.stream.StreamDecoder` for what makes them."""

    def __init__(self, stops: Iterable[str]):
        self._stops = tuple(stops)
        self._most = max(map(len, self._stops), default=1) - 1  # what may have to wait
        self._held = ""
        self.matched: str | None = None
        """The stop string that was met; nothing comes after it."""

    def feed(self, piece: Piece) -> list[Piece]:
        """What of the text so far can be shown now: it is part of no stop string, whatever follows."""
        if self.matched is not None:
            return []
        if piece.special:
            before = self.flush()
            if piece.text in self._stops:
                self.matched = piece.text
                return before
            return [*before, piece]
        text = self._held + piece.text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, shown, self.matched = min(found)
            self._held = ""
        else:
            tails = range(max(0, len(text) - self._most), len(text))
            begun = (at for at in tails if any(stop.startswith(text[at:]) for stop in self._stops))
            shown = next(begun, len(text))
            self._held = text[shown:]
        return [Piece(text[:shown])] if shown else []

    def flush(self) -> list[Piece]:
        """The answer is over: what was held back became no stop string."""
        held, self._held = self._held, ""
        return [Piece(held)] if held else []


class Watch:
    """Looks for a request's stop strings in the tokens of its answer."""

    def __init__(self, tokenizer: Tokenizer, stops: Iterable[str]):
        self._names = {tokenizer.normal(stop): stop for stop in stops}
        self._text, self._stream = tokenizer.stream(), StopStream(self._names)

    def feed(self, token: int) -> str | None:
        """The stop string that this token completes."""
        for piece in self._text.feed(token):
            self._stream.feed(piece)
        return None if self._stream.matched is None else self._names[self._stream.matched]


def before_stop(text: str, stops: Iterable[str]) -> str:
    """The text before the first stop string; all of it where there is none."""
    stream = StopStream(stops)
    return "".join(piece.text for piece in (*stream.feed(Piece(text)), *stream.flush()))
