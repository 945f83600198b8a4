"""What a family's chat format is: one value per format, and everything that speaks with a model goes through it.

| field     | meaning                                                                                           |
|-----------|---------------------------------------------------------------------------------------------------|
| markers   | every marker that a rendering may hold; a tokenizer may lack some, which it then spells in letters  |
| stops     | markers that end an answer                                                                        |
| thought   | the markers that open and close a thought; None for a family that has none                        |
| modes     | the modes the family knows; the first one is its default                                          |
| tools     | whether it was taught to call tools                                                               |
| image     | the marker that keeps an image's place; None for a family that reads text alone                   |
| closing   | what is written to close a thought that has used its budget                                       |
| lead      | what stands between a thought and the answer                                                      |
| layout    | (messages, tools, thinking, add_generation_prompt, preserve_thinking) -> segments                 |
| reading   | (thinking, spelled, tools) -> parser                                                              |

`text.styles` holds the registry. The two methods below are how to use a style; they refuse what a family cannot do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from dokja.errors import DokjaError
from dokja.text.chat import CALL, CALL_END, Message, Mode, Segment, text_of
from dokja.text.parse import Delta
from dokja.text.stream import Piece

Tools = Sequence[Mapping[str, Any]]


class Parser(Protocol):
    """From an answer's pieces to its message; see `text.parse.StreamParser`."""

    keeps: Callable[[str], bool] | None

    @property
    def open_call(self) -> str | None:
        """What stands so far in the call that is being written; None outside calls."""

    @property
    def leaked(self) -> bool:
        """Whether a thought stood where none belongs."""

    @property
    def ended(self) -> bool:
        """Whether the answer is over."""

    @property
    def closed(self) -> bool:
        """Whether no thought is open."""

    @property
    def malformed_tool_calls(self) -> int:
        """Calls that could not be read and stayed text."""

    @property
    def thoughts(self) -> list[str]:
        """The markers of thoughts that were seen, in order and under our names."""

    def feed(self, piece: Piece | Segment) -> list[Delta]:
        """Take the next piece; returns what became certain by it."""

    def flush(self) -> list[Delta]:
        """The output is over; returns the last deltas."""

    def finish(self) -> Message:
        """The message of everything fed."""


@dataclass(frozen=True)
class Style:
    """See the table above."""

    name: str
    markers: tuple[str, ...]
    stops: tuple[str, ...]
    thought: tuple[str, str] | None
    modes: tuple[Mode, ...]
    tools: bool
    image: str | None
    closing: tuple[Segment, ...]
    layout: Callable[[Sequence[Message], Tools, bool, bool, bool], list[Segment]]
    reading: Callable[[bool, Collection[str], Tools], Parser]
    calls: Literal["json", "xml"] = "json"
    """What stands between the markers of a call: one JSON object, or the tags of `official.k2`."""
    lead: str = ""
    """White space between a thought and the answer, which the model writes and the parser takes away."""
    template_sha256: str | None = None
    """Hash of the Jinja template that we export for the format, where we do."""

    @property
    def thinking(self) -> bool:
        """Whether the family thinks unless it is told otherwise."""
        return self.modes[0] == "think"

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the format: `template_sha256`, else the hash of what a fixed conversation renders to."""
        if self.template_sha256:
            return self.template_sha256
        turns = [Message("system", "s"), Message("user", "u"), Message("assistant", "a")] * 2 + [Message("user", "v")]
        seen = [text_of(self.render(turns[:n], thinking=m == "think")) for m in self.modes for n in range(len(turns))]
        seen += [text_of(self.render(turns, thinking=m == "think", add_generation_prompt=True)) for m in self.modes]
        return hashlib.sha256("\0".join([self.name, *seen]).encode()).hexdigest()

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Tools = (),
        thinking: bool | None = None,
        add_generation_prompt: bool = False,
        preserve_thinking: bool = False,
    ) -> list[Segment]:
        """Lay out a conversation as segments; the loss lies on what the model itself writes, as in `chat.render`.

        `thinking` None takes the family's default. `preserve_thinking` keeps the thoughts of past turns where the
        family knows how. Raises DokjaError for what the family cannot do: a mode, tools, images.
        """
        thinking = self._mode(thinking)
        if not self.tools and (tools or any(m.role == "tool" or m.tool_calls for m in messages)):
            raise DokjaError(
                f"Models of the {self.name} format were never taught to call tools. "
                "Leave tools out of the request, or use a model of a later generation."
            )
        if self.image is None and any(m.images for m in messages):
            raise DokjaError(f"Models of the {self.name} format read text alone. Remove the images.")
        return self.layout(messages, tools, thinking, add_generation_prompt, preserve_thinking)

    def parser(self, thinking: bool | None = None, *, spelled: Collection[str] = (), tools: Tools = ()) -> Parser:
        """A parser of what follows the generation prompt of this mode.

        `spelled` are the markers that the tokenizer lacks (see `spelled_by`): they are found in ordinary text. `tools`
        are those of the request; formats that write arguments without types read the types from them.
        """
        return self.reading(self._mode(thinking), spelled, tools)

    def spelled_by(self, specials: Collection[str]) -> frozenset[str]:
        """The markers of an answer which a tokenizer with these special tokens can only spell in letters."""
        return frozenset({*self.stops, *(self.thought or ()), *((CALL, CALL_END) if self.tools else ())} - {*specials})

    def supports(self, mode: Mode) -> bool:
        """Whether the family knows the mode."""
        return mode in self.modes

    def _mode(self, thinking: bool | None) -> bool:
        thinking = self.thinking if thinking is None else thinking
        if not self.supports("think" if thinking else "direct"):
            cannot = "cannot think before they answer" if thinking else "always think before they answer"
            other = "without" if thinking else "with"
            raise DokjaError(f"Models of the {self.name} format {cannot}. Ask {other} thinking.")
        return thinking
