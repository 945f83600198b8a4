"""An engine whose tokens, pace and faults are written down beforehand: what stands above engines is tested with it.

It has `submit`, `step`, `abort` and `stats` of `engine.engine.Engine`. A request of seed s gets the answer number
s mod their count, so that it gets the same one again from the next life of the process.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dokja.engine.api import Completion, Event, Finish, PromptScore, Request
from dokja.engine.stops import Watch
from dokja.errors import DokjaError
from dokja.text.tokenizer import Tokenizer

LOGPROB = -0.5
"""Of every token; the others of `top_logprobs` come after it, 1 below each time."""


@dataclass(frozen=True)
class Fault:
    """At its `step`-th step in its `life`-th life (both from 0) the process exits, hangs or raises."""

    kind: Literal["exit", "hang", "raise"]
    step: int
    life: int = 0


@dataclass(frozen=True)
class Script:
    """What the engine will do. `answers` are tokens, stop tokens included; `info` is what a loaded model tells."""

    answers: Sequence[Sequence[int]]
    info: Mapping[str, Any] = field(default_factory=dict)
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    compile_seconds: float = 0.0
    """Of every grammar."""
    slots: int = 8
    context: int = 4096
    faults: Sequence[Fault] = ()
    tokenizer: str | None = None
    """Folder of the tokenizer that reads stop strings."""

    @classmethod
    def from_wire(cls, raw: Mapping[str, Any]) -> Script:
        """The script behind plain data."""
        return cls(**{**raw, "faults": [Fault(**f) for f in raw.get("faults", ())]})


@dataclass
class _Answer:
    request: Request
    tokens: deque[int]
    written: list[int] = field(default_factory=list)
    watch: Watch | None = None


class ScriptedEngine:
    """Gives every running answer its next token each step."""

    def __init__(self, script: Script, life: int = 0) -> None:
        self.script, self._life, self._steps, self._tokens = script, life, 0, 0
        self._waiting: deque[_Answer] = deque()
        self._running: list[_Answer] = []
        self._tokenizer = Tokenizer.load(script.tokenizer, imported=True) if script.tokenizer else None
        time.sleep(script.load_seconds)

    def prepare(self, request: Request) -> None:
        """Takes as long as the script says."""
        time.sleep(self.script.compile_seconds)

    def submit(self, request: Request) -> str:
        """Puts a request into the queue. Raises DokjaError for a prompt beyond the context."""
        if len(request.prompt) >= self.script.context:
            raise DokjaError(
                f"The prompt has {len(request.prompt)} tokens and the context {self.script.context}. Shorten it."
            )
        tokens = self.script.answers[request.seed % len(self.script.answers)]
        watch = Watch(self._tokenizer, request.stop_text) if request.stop_text and self._tokenizer else None
        self._waiting.append(_Answer(request, deque(tokens), watch=watch))
        return request.id

    def step(self, done: list[Completion] | None = None) -> list[Event]:
        """One token for each running answer; what ended goes into `done`."""
        for fault in self.script.faults:
            if (fault.step, fault.life) == (self._steps, self._life):
                _happen(fault)
        self._steps += 1
        time.sleep(self.script.step_seconds)
        while self._waiting and len(self._running) < self.script.slots:
            self._running.append(self._waiting.popleft())
        events = []
        for answer in list(self._running):
            event = self._advance(answer)
            events.append(event)
            if event.finish is not None:
                self._running.remove(answer)
                if done is not None:
                    done.append(_completion(answer, event.finish))
        return events

    def _advance(self, answer: _Answer) -> Event:
        request, token = answer.request, answer.tokens.popleft()
        answer.written.append(token)
        self._tokens += 1
        stopped = answer.watch is not None and answer.watch.feed(token) is not None
        finish: Finish | None = None
        if token in request.stop or stopped:
            finish = "stop"
        elif not answer.tokens or len(answer.written) >= request.max_tokens:
            finish = "length"
        top = tuple((token + i, LOGPROB - i) for i in range(request.top_logprobs))
        prompt: tuple[PromptScore, ...] = ()
        if request.prompt_logprobs is not None and len(answer.written) == 1:
            best = request.prompt_logprobs
            prompt = tuple((LOGPROB, tuple((t + i, LOGPROB - i) for i in range(best))) for t in request.prompt[1:])
        return Event(request.id, token, LOGPROB, finish, top, prompt)

    def abort(self, name: str) -> Completion | None:
        """Forgets a request."""
        for queue in (self._waiting, self._running):
            for answer in list(queue):
                if answer.request.id == name:
                    queue.remove(answer)
                    return _completion(answer, "abort")
        return None

    def stats(self) -> dict[str, Any]:
        """As many of `Engine.stats` as mean something here."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "slots": self.script.slots,
            "tokens": self._tokens,
            "steps": self._steps,
        }


def _completion(answer: _Answer, finish: Finish) -> Completion:
    written = answer.written
    logprobs = [LOGPROB] * len(written)
    return Completion(answer.request.id, written, logprobs, finish, False, len(answer.request.prompt))


def _happen(fault: Fault) -> None:
    if fault.kind == "exit":
        os._exit(9)
    if fault.kind == "hang":
        time.sleep(1e6)
    raise RuntimeError("a fault of the script")
