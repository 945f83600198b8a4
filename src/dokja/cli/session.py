"""A conversation with an engine: history, mode, and the answer as a stream of deltas. Knows no terminal."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dokja.engine.api import Event, Request
from dokja.errors import DokjaError
from dokja.text.chat import END, THINK_END, Message, render
from dokja.text.parse import Delta, StreamParser
from dokja.text.tokenizer import Tokenizer


class Engine(Protocol):
    """The part of the engine a chat uses."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Tokens as they are sampled."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. `max_tokens` bounds an answer, thought included."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    budget: int | None = None


class Session:
    """`for delta in session.ask("안녕?")`; afterwards the answer is part of the history.

    context: the longest prompt plus answer, in tokens; older turns are left out when the conversation outgrows it.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        context: int,
        sampling: Sampling | None = None,
        thinking: bool = True,
        system: str | None = None,
    ) -> None:
        self.engine, self.tokenizer, self.context = engine, tokenizer, context
        self.sampling, self.thinking = sampling or Sampling(), thinking
        self._system = (Message("system", system),) if system else ()
        self.reset()

    def reset(self) -> None:
        """Forget the conversation; mode and system prompt stay."""
        self.messages: list[Message] = []
        self.forgot = False
        self._clear()

    def _clear(self) -> None:
        self.thought_tokens = self.tokens = 0
        self.thought_seconds = 0.0
        self.thought_closed, self.finish = True, ""

    def ask(self, text: str) -> Iterator[Delta]:
        """Deltas of the answer. Closing the generator early (Ctrl-C) keeps what was said so far in the history."""
        self._clear()
        turns = [*self.messages, Message("user", text)]
        prompt, self.messages = self._fit(turns)
        parser = StreamParser(self.thinking)
        stream = self.tokenizer.stream()
        began = time.perf_counter()
        events = self.engine.generate([self._request(prompt)])
        try:
            for event in events:
                self.tokens += 1
                for piece in stream.feed(event.token):
                    yield from parser.feed(piece)
                if not parser.closed or not self.thought_seconds:
                    self.thought_seconds = time.perf_counter() - began
                    self.thought_tokens += not parser.closed
                self.finish = event.finish or self.finish
            for piece in stream.flush():
                yield from parser.feed(piece)
            yield from parser.flush()
        finally:
            _close(events)
            self.thought_closed = parser.closed
            self.messages.append(parser.finish())

    def _request(self, prompt: Sequence[int]) -> Request:
        sampling = self.sampling
        more: dict[str, Any] = {}
        if self.thinking and sampling.budget is not None:
            more = {"think_budget": sampling.budget, "think_close": (self.tokenizer.special_id(THINK_END),)}
        return Request(
            id=f"chat-{len(self.messages)}",
            prompt=list(prompt),
            max_tokens=min(sampling.max_tokens, self.context - len(prompt)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed + len(self.messages),
            stop=(self.tokenizer.special_id(END),),
            **more,
        )

    def _fit(self, turns: list[Message]) -> tuple[list[int], list[Message]]:
        """The prompt's ids and the turns that are in it: the oldest exchanges give way to room for an answer."""
        room = min(self.sampling.max_tokens, self.context // 2)
        self.forgot = False
        while True:
            segments = render([*self._system, *turns], thinking=self.thinking, add_generation_prompt=True)
            prompt = self.tokenizer.encode_segments(segments)[0]
            if len(prompt) + room <= self.context or (len(turns) == 1 and len(prompt) < self.context):
                return prompt, turns
            if len(turns) == 1:
                raise DokjaError(
                    f"This message takes {len(prompt)} tokens and the model reads {self.context}. Shorten it."
                )
            # A user message and its answer go together, so that what is left begins with a user message.
            turns, self.forgot = turns[2:], True


def _close(events: Iterator[Event]) -> None:
    """Tell a generator that nobody listens any more, so that the engine drops the request."""
    close = getattr(events, "close", None)
    if close is not None:
        close()
