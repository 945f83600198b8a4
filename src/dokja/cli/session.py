"""A conversation with an engine: history, mode, and the answer as a stream of deltas. Knows no terminal."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dokja.engine.answers import encode_prompt, stop_ids, thought_fields
from dokja.engine.api import Event, Request
from dokja.engine.effort import Effort, thought
from dokja.errors import DokjaError
from dokja.text.chat import Message
from dokja.text.images import ImageConfig, Patches
from dokja.text.parse import Delta
from dokja.text.style import Style
from dokja.text.styles import DOKJA
from dokja.text.tokenizer import Tokenizer


class Engine(Protocol):
    """The part of the engine a chat uses."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Tokens as they are sampled."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn, in the names of `engine.api.Request`. `max_tokens` bounds an answer, thought included;
    `budget`, else `effort`, the thought."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    budget: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    effort: Effort | None = None


class Session:
    """`for delta in session.ask("안녕?")`; afterwards the answer is part of the history.

    context: the longest prompt plus answer, in tokens; older turns are left out when the conversation outgrows it.
    images: the image config of a vision model, which sees what lies in `pending` with the next message. style: the
    chat format of the model; thinking: None takes its default.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        context: int,
        sampling: Sampling | None = None,
        thinking: bool | None = None,
        system: str | None = None,
        images: ImageConfig | None = None,
        style: Style = DOKJA,
    ) -> None:
        self.engine, self.tokenizer, self.context = engine, tokenizer, context
        self.sampling, self.style = sampling or Sampling(), style
        self.thinking = style.thinking if thinking is None else thinking
        self.images = images
        self._system = (Message("system", system),) if system else ()
        self.reset()

    def reset(self) -> None:
        """Forget the conversation; mode and system prompt stay."""
        self.messages: list[Message] = []
        self.pending: list[np.ndarray] = []
        self.forgot = False
        self._clear()

    def _clear(self) -> None:
        self.thought_tokens = self.tokens = 0
        self.thought_seconds = 0.0
        self.thought_closed, self.finish = True, ""

    def ask(self, text: str) -> Iterator[Delta]:
        """Deltas of the answer. Closing the generator early (Ctrl-C) keeps what was said so far in the history."""
        self._clear()
        shown, self.pending = tuple(self.pending), []
        turns = [*self.messages, Message("user", text, images=shown)]
        prompt, images, self.messages = self._fit(turns)
        parser = self.style.parser(self.thinking, spelled=self.style.spelled_by(self.tokenizer.specials))
        stream = self.tokenizer.stream()
        began = time.perf_counter()
        events = self.engine.generate([self._request(prompt, images)])
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

    def _request(self, prompt: Sequence[int], images: tuple[Patches, ...]) -> Request:
        sampling, room = self.sampling, self.context - len(prompt)
        return Request(
            id=f"chat-{len(self.messages)}",
            prompt=list(prompt),
            max_tokens=min(sampling.max_tokens, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed + len(self.messages),
            stop=stop_ids(self.style, self.tokenizer),
            images=images,
            **(self._thought(room) if self.thinking else {}),
        )

    def _thought(self, room: int) -> dict[str, Any]:
        sampling, budget = self.sampling, self.sampling.budget
        if budget is None and sampling.effort is not None:
            budget = thought(sampling.effort, sampling.max_tokens, room, modes=self.style.modes).budget
        return thought_fields(self.style, self.tokenizer, budget)

    def _fit(self, turns: list[Message]) -> tuple[list[int], tuple[Patches, ...], list[Message]]:
        """The prompt's ids and images, and the turns in it: the oldest exchanges give way to room for an answer."""
        room = min(self.sampling.max_tokens, self.context // 2)
        self.forgot = False
        while True:
            prompt, images = encode_prompt(
                [*self._system, *turns], self.tokenizer, self.images, self.thinking, self.style
            )
            if len(prompt) + room <= self.context or (len(turns) == 1 and len(prompt) < self.context):
                return prompt, images, turns
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
