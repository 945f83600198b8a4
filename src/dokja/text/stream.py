"""From tokens to text as they come: pieces that never cut a character, markers kept apart from ordinary text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dokja.text.chat import SPECIALS


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of model output: ordinary text, or one marker (`special`)."""

    text: str
    special: bool = False


class StreamDecoder:
    """Turns ids into pieces one by one, holding back an unfinished character (a Hangul syllable has three bytes).

    Bytes that can never become a character turn into U+FFFD as soon as that is certain. Joined, the texts between two
    markers equal `bytes.decode("utf-8", "replace")` of the bytes between them.
    """

    def __init__(self, token_bytes: Sequence[bytes], markers: Mapping[int, str]) -> None:
        """`markers` names the ids that are markers. Ids beyond `token_bytes` (a padded vocabulary) mean nothing."""
        self._bytes, self._markers = token_bytes, markers
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> list[Piece]:
        """The pieces that this token completes: none, one, or (a marker after a torn character) two."""
        if token in self._markers:
            return [*self.flush(), Piece(self._markers[token], True)]
        text = self._utf8.decode(self._bytes[token]) if token < len(self._bytes) else ""
        return [Piece(text)] if text else []

    def flush(self) -> list[Piece]:
        """End of the stream: what was held back can no longer be completed."""
        text = self._utf8.decode(b"", True)
        self._utf8.reset()
        return [Piece(text)] if text else []


class MarkerSplitter:
    """Finds markers in plain text (of an endpoint which returns no tokens), however the text is cut.

    Here a marker that somebody merely quotes cannot be told from a real one: use tokens where there are tokens.
    """

    def __init__(self, markers: Sequence[str] = SPECIALS) -> None:
        self._markers = re.compile("|".join(map(re.escape, markers)))
        self._starts = frozenset(marker[:n] for marker in markers for n in range(1, len(marker)))
        self._longest = max(map(len, markers))
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain so far; the tail that may still become a marker is held back."""
        text, out, at = self._held + text, [], 0
        for match in self._markers.finditer(text):
            if match.start() > at:
                out.append(Piece(text[at : match.start()]))
            out.append(Piece(match.group(), True))
            at = match.end()
        keep = next((n for n in range(min(self._longest - 1, len(text) - at), 0, -1) if text[-n:] in self._starts), 0)
        if len(text) - keep > at:
            out.append(Piece(text[at : len(text) - keep]))
        self._held = text[len(text) - keep :]
        return out

    def flush(self) -> list[Piece]:
        """End of the text: a marker that was only begun is ordinary text."""
        held, self._held = self._held, ""
        return [Piece(held)] if held else []
