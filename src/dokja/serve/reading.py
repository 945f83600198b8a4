"""One answer, token by token, into what a client is shown: thought, content, tool calls, logprobs, usage.

    event ─► tokenizer's pieces ─► stop strings (behind the thought) ─► parser of the chat format ─► parts

The parts of an answer joined are the answer: whoever wants it whole joins them, so it cannot differ from the stream.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dokja.engine.api import Event, Top
from dokja.engine.stops import StopStream
from dokja.serve.calls import CallStream, begins_call
from dokja.serve.facts import Facts
from dokja.serve.plain import Plain
from dokja.serve.wire import Ending
from dokja.text.chat import CALL, CALL_END, ToolCall
from dokja.text.parse import Delta
from dokja.text.stream import Piece
from dokja.text.style import Parser, Tools

FinishReason = Literal["stop", "length", "tool_calls", "error"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A token of the content and what the model thought of it."""

    token: int
    logprob: float | None
    """None for the first token of a prompt, which nothing foretells."""
    top: Top


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an answer. `call` opens tool call number `index` by its `name`; `arguments` go on with it."""

    kind: Literal["reasoning", "content", "call", "arguments"]
    text: str = ""
    index: int = 0
    name: str = ""
    scores: tuple[Scored, ...] = ()
    """Of tokens of the content that this part or one before it ends; together those of the whole content."""


@dataclass
class Usage:
    """Tokens of one answer."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    cached: int = 0


class Reader:
    """Reads one answer. `thinking`: the prompt ended in an open thought; `tools`: those that it may call;
    `raw`: it has no chat format; `echo`: tokens of the prompt that stand before it, alone with `only_echo`."""

    def __init__(
        self,
        facts: Facts,
        *,
        thinking: bool,
        tools: Tools = (),
        stop: Sequence[str] = (),
        parallel: bool = True,
        scores: bool = False,
        usage: Usage | None = None,
        raw: bool = False,
        echo: Sequence[int] | None = None,
        only_echo: bool = False,
    ) -> None:
        style, tokenizer = facts.style, facts.tokenizer
        self.usage = usage or Usage()
        self.over = False
        """Whether the answer is whole, whatever the engine may still write."""
        self.finish: FinishReason = "stop"
        self.calls = 0
        self._echo, self._echoes, self._only_echo = echo, echo is not None, only_echo
        self._style, self._tools, self._parallel, self._wants_scores = style, tools, parallel, scores
        self._stops, self._specials = frozenset(facts.stops), frozenset(tokenizer.specials.values())
        self._pieces = tokenizer.stream()
        self._stop = StopStream([tokenizer.normal(s) for s in stop]) if stop else None
        self._parser: Parser = (
            Plain() if raw else style.parser(thinking, spelled=style.spelled_by(tokenizer.specials), tools=tools)
        )
        if tools:
            self._parser.keeps = lambda raw: begins_call(raw, style.calls, tools)
        self._call: CallStream | None = None
        self._scores: list[Scored] = []
        self._opened = False  # whether the open call has been passed on

    @property
    def thinking(self) -> bool:
        """Whether a thought is open."""
        return not self._parser.closed

    def feed(self, event: Event) -> list[Part]:
        """The next token -> what became certain by it."""
        parts = self._echoed(event) if self._echo is not None else []
        if self.over:
            return parts
        self.usage.completion += 1
        for piece in self._pieces.feed(event.token):
            parts += self.feed_piece(piece)
        if self._echoes and self._wants_scores:  # as many scores as tokens, so that they can be told apart by number
            self._scores.append(Scored(event.token, event.logprob, event.top))
        elif event.token not in self._stops:
            if self.thinking:
                self.usage.reasoning += 1
            elif self._wants_scores and event.token not in self._specials and self._parser.open_call is None:
                self._scores.append(Scored(event.token, event.logprob, event.top))
        return self._scored(parts)

    def _echoed(self, event: Event) -> list[Part]:
        """The prompt, which the answer's first event tells the scores of."""
        prompt, self._echo = self._echo or (), None
        pieces = [piece for token in prompt for piece in self._pieces.feed(token)]
        if self._only_echo:
            pieces += self._pieces.flush()
            self.over = True
        scores: tuple[Scored, ...] = ()
        if self._wants_scores:
            told = zip(prompt[1:], event.prompt, strict=True)
            scores = (Scored(prompt[0], None, ()), *(Scored(token, p, top) for token, (p, top) in told))
        return [Part("content", "".join(p.text for p in pieces if not p.special), scores=scores)]

    def feed_piece(self, piece: Piece) -> list[Part]:
        """A piece of the answer, also one that no token was written for."""
        if self._stop is None or self.thinking:
            return self._parse([piece])
        parts = self._parse(self._stop.feed(piece))
        if self._stop.matched is not None:
            self.over = True
        return parts

    def end(self, ending: Ending) -> list[Part]:
        """The engine has ended the answer -> what was held back, and every score that is left."""
        parts: list[Part] = []
        held = self._pieces.flush()
        if not self.over:
            for piece in held:
                parts += self.feed_piece(piece)
            if self._stop is not None and not self.over:
                parts += self._parse(self._stop.flush())
        parts += self._deltas(self._parser.flush())
        self.usage.cached = ending.cached_tokens
        if ending.finish == "error":
            self.finish = "error"
        elif self.calls and (self.over or ending.finish != "length"):
            self.finish = "tool_calls"
        else:
            cut = self._only_echo or (ending.finish == "length" and not self.over)
            self.finish = "length" if cut else "stop"
        if self._scores:
            parts.append(Part("content", scores=self._taken()))
        return parts

    def _parse(self, pieces: list[Piece]) -> list[Part]:
        parts: list[Part] = []
        for piece in pieces:
            if self.over:
                break
            parts += self._deltas(self._parser.feed(piece))
            if self._tools and (raw := self._parser.open_call) is not None:
                parts += self._go_on(raw)
        return parts

    def _deltas(self, deltas: list[Delta]) -> list[Part]:
        parts: list[Part] = []
        for delta in deltas:
            if delta.kind != "tool_call":
                self._call = None  # what stood in it, if anything, is content
                parts.append(Part(delta.kind, delta.text))
            elif not self._tools:  # a call that nobody offered is what the model says
                parts.append(Part("content", CALL + delta.raw + CALL_END))
            elif not self.over:
                parts += self._close(delta)
                self.over = self.over or not self._parallel
        return parts

    def _go_on(self, raw: str) -> list[Part]:
        """The open call has grown."""
        if self._call is None:
            self._call, self._opened = CallStream(self._style.calls, self._tools), False
        return self._passed(self._call.feed(raw))

    def _close(self, delta: Delta) -> list[Part]:
        call = self._call or CallStream(self._style.calls, self._tools)
        if self._call is None:
            self._call, self._opened = call, False
        body = json.loads(delta.text) if delta.text else None
        whole = ToolCall(body["name"], body["arguments"]) if body else None
        parts = self._passed(call.end(delta.raw, whole))
        self._call, self.calls = None, self.calls + 1
        return parts

    def _passed(self, arguments: str) -> list[Part]:
        call, parts = self._call, []
        if call is not None and call.name is not None and not self._opened:
            self._opened = True
            parts.append(Part("call", index=self.calls, name=call.name))
        if arguments:
            parts.append(Part("arguments", arguments, index=self.calls))
        return parts

    def _scored(self, parts: list[Part]) -> list[Part]:
        """Scores go with the content that they belong to, or with the next that comes."""
        if not self._scores:
            return parts
        for i in reversed(range(len(parts))):
            if parts[i].kind == "content":
                parts[i] = Part("content", parts[i].text, scores=parts[i].scores + self._taken())
                break
        return parts

    def _taken(self) -> tuple[Scored, ...]:
        scores, self._scores = tuple(self._scores), []
        return scores
