"""Answers of our own engine. One stream of requests, which the engine batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, Protocol

from dokja.engine.answers import closing_ids, encode_prompt, read_answer, stop_ids
from dokja.engine.api import Completion, Request
from dokja.errors import ConfigError
from dokja.judge.answering import Item, Keep, Origin, Said, request_seed
from dokja.judge.endpoint.judging import asks_a_judge
from dokja.judge.records import Usage
from dokja.ledger.manifest import code_version
from dokja.text.chat import text_of
from dokja.text.images import ImageConfig, Patches
from dokja.text.style import Style
from dokja.text.styles import DOKJA
from dokja.text.tokenizer import Tokenizer

_JUDGED = 16  # answers that a judging model may look at while the engine goes on


class Engine(Protocol):
    """The part of the engine the judge uses."""

    def complete(self, requests: Any, on_done: Any = None) -> list[Completion]:
        """Answer all requests; `on_done` hears of each completion as it is done."""


@dataclass(frozen=True)
class _Prompt:
    ids: list[int]
    images: tuple[Patches, ...]
    sha256: str
    """of the rendered text, and of the pixels where there are images"""


class EngineAnswerer:
    """`images` is the image config of a model that sees, `style` the chat format. A prompt that leaves no room in
    `context` is not asked: it counts as truncated."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        model_id: str,
        model_sha256: str,
        images: ImageConfig | None = None,
        style: Style = DOKJA,
        context: int | None = None,
    ) -> None:
        self._engine, self._tokenizer, self._images, self._style = engine, tokenizer, images, style
        self._context = context
        self.origin = Origin(model_id, model_sha256, style.sha256, code_version(["tasks"]))

    def check(self, items: Sequence[Item]) -> None:
        """Raises ConfigError for a mode that the chat format does not know."""
        style = self._style
        if lacking := [i.mode for i in items if not style.supports(i.mode)]:
            raise ConfigError(
                f"A model of the {style.name} format cannot answer in the mode {lacking[0]}. "
                f"Use {', '.join(style.modes)}."
            )

    def answer(self, items: Sequence[Item], seed: int, keep: Keep) -> str | None:
        """Asks the engine for all of them; what it leaves out is for the runner to see."""
        named = {"\t".join(map(str, item.key)): item for item in items}
        prompts = {name: self._prompt(item) for name, item in named.items()}
        with _Keeping(keep) as keeping:

            def on_done(completion: Completion) -> None:
                item, prompt = named[completion.id], prompts[completion.id]
                keeping.keep(item, self._said(item, prompt, completion))

            fits = [n for n in named if self._context is None or len(prompts[n].ids) < self._context]
            for name in named.keys() - set(fits):
                on_done(Completion(name, [], [], "length", False, len(prompts[name].ids)))
            requests = [self._request(n, named[n], prompts[n], seed) for n in fits]
            if requests:
                self._engine.complete(requests, on_done=on_done)
        return None

    def _prompt(self, item: Item) -> _Prompt:
        messages, thinking = item.problem.messages, item.mode == "think"
        ids, shown = encode_prompt(messages, self._tokenizer, self._images, thinking, self._style)
        rendered = self._style.render(messages, thinking=thinking, add_generation_prompt=True)
        digest = hashlib.sha256(text_of(rendered).encode())
        for pixels in (image for message in messages for image in message.images):
            digest.update(f"{pixels.shape}".encode() + pixels.tobytes())
        return _Prompt(ids, shown, digest.hexdigest())

    def _request(self, name: str, item: Item, prompt: _Prompt, seed: int) -> Request:
        sampling = item.sampling
        budget = sampling.budget if item.mode == "think" else None
        return Request(
            id=name,
            prompt=prompt.ids,
            images=prompt.images,
            **sampling.draws(),
            seed=request_seed(seed, item.key),
            stop=stop_ids(self._style, self._tokenizer),
            think_budget=budget,
            think_close=closing_ids(self._style, self._tokenizer) if budget else (),
        )

    def _said(self, item: Item, prompt: _Prompt, completion: Completion) -> Said:
        answer = read_answer(completion, self._tokenizer, item.mode, self._style)
        return Said(
            raw=answer.raw,
            reasoning=answer.reasoning,
            answer=answer.content,
            finish=completion.finish,
            truncated=completion.finish != "stop",
            wrong_mode=answer.wrong_mode,
            usage=Usage(len(prompt.ids), len(completion.tokens), answer.reasoning_tokens),
            prompt_sha256=prompt.sha256,
            forced=completion.forced,
        )


class _Keeping:
    """Keeps answers at once, but those that a judging model looks at beside the engine's further work."""

    def __init__(self, keep: Keep) -> None:
        self._keep, self._room, self._waiting = keep, Semaphore(_JUDGED), list[Future[None]]()
        self._pool = ThreadPoolExecutor(_JUDGED)  # starts threads only when it is used

    def keep(self, item: Item, said: Said) -> None:
        """Returns once the record is there, or will be."""
        if not asks_a_judge(item.problem.task):
            self._keep(item, said)
            return
        self._room.acquire()
        self._waiting.append(future := self._pool.submit(self._keep, item, said))
        future.add_done_callback(lambda _: self._room.release())

    def __enter__(self) -> _Keeping:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        for future in self._waiting if kind is None else ():
            future.result()
