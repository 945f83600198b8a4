"""Our own engine as one that answers conversations: many at once, batched by the engine as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dokja.engine.answers import closing_ids, encode_rendered, stop_ids
from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.judge.records import Sampling
from dokja.tasks.agentic.dialogue import Reply
from dokja.text.chat import Message, Mode
from dokja.text.style import Style
from dokja.text.tokenizer import Tokenizer


class EngineChat:
    """A `tasks.agentic.dialogue.Chat`. The engine steps in a thread of its own while anybody waits for an answer."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, style: Style, mode: Mode, sampling: Sampling, context: int
    ) -> None:
        self._engine, self._tokenizer, self._style, self._mode = engine, tokenizer, style, mode
        self._sampling, self._context = sampling, context
        self._waiting: dict[str, asyncio.Future[Completion]] = {}
        self._new: list[Request] = []
        self._pump: asyncio.Task[None] | None = None

    async def __call__(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, key: str, seed: int
    ) -> Reply:
        """The next message; cut short ("length") where the conversation has outgrown the context."""
        began, thinking = time.perf_counter(), self._mode == "think"
        segments = self._style.render(messages, tools=tools, thinking=thinking, add_generation_prompt=True)
        prompt, _ = encode_rendered(segments, messages, self._tokenizer, None, self._style)
        if len(prompt) >= self._context:
            return Reply(Message("assistant"), "length", len(prompt))
        completion = await self._answer(self._request(key, prompt, seed))
        message, raw, thought = self._read(completion, tools)
        return Reply(
            message,
            "stop" if completion.finish == "stop" else "length",
            completion.prompt_tokens,
            len(completion.tokens),
            thought,
            time.perf_counter() - began,
            raw,
        )

    def _request(self, key: str, prompt: list[int], seed: int) -> Request:
        how = self._sampling
        budget = how.budget if self._mode == "think" else None
        return Request(
            id=key,
            prompt=prompt,
            **how.draws(),
            seed=seed,
            stop=stop_ids(self._style, self._tokenizer),
            think_budget=budget,
            think_close=closing_ids(self._style, self._tokenizer) if budget else (),
        )

    async def _answer(self, request: Request) -> Completion:
        future = self._waiting[request.id] = asyncio.get_running_loop().create_future()
        self._new.append(request)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        """Steps until nobody waits. What the engine raises reaches everybody who does."""
        done: list[Completion] = []
        try:
            while self._waiting:
                while self._new:
                    self._engine.submit(self._new.pop(0))
                done.clear()
                await asyncio.to_thread(self._engine.step, done)
                for completion in done:
                    self._waiting.pop(completion.id).set_result(completion)
                await asyncio.sleep(0)  # who got an answer may ask for the next one before this step
        except Exception as error:
            for name, future in self._waiting.items():
                self._engine.abort(name)
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()
            self._new.clear()

    def _read(self, completion: Completion, tools: Sequence[Mapping[str, Any]]) -> tuple[Message, str, int]:
        """The message with its calls, everything as written, and the tokens before the thought was closed."""
        spelled = self._style.spelled_by(self._tokenizer.specials)
        parser = self._style.parser(self._mode == "think", spelled=spelled, tools=tools)
        stream, raw, thought, stops = self._tokenizer.stream(), "", 0, stop_ids(self._style, self._tokenizer)
        thinking = self._mode == "think"
        for token in completion.tokens:
            for piece in stream.feed(token):
                raw += piece.text
                parser.feed(piece)
            thinking = thinking and not parser.closed
            thought += thinking and token not in stops
        for piece in stream.flush():
            raw += piece.text
            parser.feed(piece)
        return parser.finish(), raw, thought
