"""`/v1/completions`: a text that the model goes on with, without a chat format."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from dokja.serve.api.answering import Answers, model_of, prepared, respond
from dokja.serve.api.body import Bias, Count, Drawn, Seed, Stop, bias, stops
from dokja.serve.api.chat_parts import usage_of
from dokja.serve.api.errors import ApiError, json_response, of_ending
from dokja.serve.api.options import StreamOptions
from dokja.serve.api.state import server_of
from dokja.serve.api.stream import event
from dokja.serve.asking import Ask, Refusal
from dokja.serve.models import Job, Spelling
from dokja.serve.reading import Part, Scored
from dokja.serve.turn import Done

router = APIRouter()
Id = Annotated[int, Field(ge=0, lt=1 << 31)]


class CompletionBody(Drawn):
    """The body of a completion."""

    prompt: str | list[str] | list[Id] | list[list[Id]]
    n: Count | None = None
    best_of: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    logit_bias: Bias | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    """Puts the prompt before the answer, with its `logprobs` where they are asked for."""
    suffix: str | None = None

    def ask(self) -> Ask:
        """What is asked for. Raises ApiError for what is not there."""
        if self.suffix:
            raise ApiError(400, "This model cannot fill in before a suffix. Leave it out.", param="suffix")
        if self.max_tokens == 0 and not self.echo:
            raise ApiError(400, "max_tokens is 0, and without echo nothing is left. Ask for 1.", param="max_tokens")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ApiError(400, "best_of has to be n: every answer is returned.", param="best_of")
        return Ask(
            (),
            self.draws(),
            max_tokens=16 if self.max_tokens is None else self.max_tokens,
            seed=self.seed,
            stop=stops(self.stop),
            logit_bias=bias(self.logit_bias),
            top_logprobs=self.logprobs,
            echo=bool(self.echo),
        )

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or tokens. Raises Refusal for one that is empty."""
        listed: list[Any] = [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
        if listed and isinstance(listed[0], int):
            listed = [listed]
        if not listed or not all(listed):
            raise Refusal("A prompt is empty. Send some text.", "prompt")
        return listed

    def said(self) -> dict[str, Any]:
        """See `models.Said`."""
        return self.model_dump(include=_SAID, exclude_unset=True, exclude_none=True)


_SAID = {"seed", "stop", "logit_bias", "logprobs", "echo"}


@router.post("/v1/completions")
async def completions(body: CompletionBody, request: Request) -> Response:
    """A completion, whole or as a stream."""
    server = server_of(request)
    model, name = model_of(server, body.model), f"cmpl-{secrets.token_hex(12)}"
    ask, prompts, most = body.ask(), body.prompts(), server.limits.max_tokens

    def make() -> list[Job]:
        return [model.plain(ask, f"{name}-{i}", prompt, most, body.said) for i, prompt in enumerate(prompts)]

    answers = await prepared(request, model, body.n or 1, make, len(prompts))
    head = {"id": name, "object": "text_completion", "created": int(time.time()), "model": body.model}
    include = body.stream_options is not None and body.stream_options.include_usage
    return await respond(
        request,
        answers,
        whole=lambda: _whole(answers, head),
        events=(lambda: _events(answers, head, include)) if body.stream else None,
    )


async def _whole(answers: Answers, head: Mapping[str, Any]) -> Response:
    parts: list[list[Part]] = [[] for _ in answers.plans]
    finish = ["stop"] * len(parts)
    async for i, item in answers:
        if not isinstance(item, Done):
            parts[i] += item
        elif item.finish == "error":
            raise of_ending(item.ending)
        else:
            finish[i] = item.finish
    scored = [p.ask.top_logprobs is not None for p in answers.plans]
    words = [Words(answers.spelling) if wanted else None for wanted in scored]
    choices = [_choice(i, parts[i], finish[i], words[i]) for i in range(len(parts))]
    return json_response({**head, "choices": choices, "usage": usage_of(answers.total())})


async def _events(answers: Answers, head: Mapping[str, Any], include: bool) -> AsyncGenerator[bytes, None]:
    more = {"usage": None} if include else {}
    words = [Words(answers.spelling) for _ in answers.plans]
    async for i, item in answers:
        if isinstance(item, Done) and item.finish == "error":
            yield event(of_ending(item.ending).body())
            return
        parts, finish = ([], item.finish) if isinstance(item, Done) else (item, None)
        scored = answers.plans[i].ask.top_logprobs is not None and bool(parts)
        choice = _choice(i, parts, finish, words[i] if scored else None)
        yield event({**head, "choices": [choice], **more})
    if include:
        yield event({**head, "choices": [], "usage": usage_of(answers.total())})
    yield event(b"[DONE]")


class Words:
    """The tokens of one choice as this API names them, and where each begins in its text."""

    def __init__(self, spelling: Spelling) -> None:
        self._spelling, self._letters = spelling, 0

    def scores(self, scored: list[Scored]) -> dict[str, Any]:
        """`logprobs`, of the next tokens."""
        top = [self._top(s) or None for s in scored]
        return {
            "tokens": [self._name(s.token) for s in scored],
            "token_logprobs": [_least(s.logprob) for s in scored],
            "top_logprobs": top if any(top) else None,
            "text_offset": [self._place(s.token) for s in scored],
        }

    def _top(self, scored: Scored) -> dict[str, float | None]:
        """The best tokens and, where there are any, the token itself, as OpenAI does; of two with one name the better
        one."""
        top = {self._name(token): _least(logprob) for token, logprob in reversed(scored.top)}
        if top:
            top.setdefault(self._name(scored.token), _least(scored.logprob))
        return top

    def _name(self, token: int) -> str:
        """Its text; its bytes, where these alone are none; the name of a marker."""
        raw = self._spelling.decode_bytes([token])
        try:
            return raw.decode() if raw else self._spelling.decode([token], markers=True)
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def _place(self, token: int) -> int:
        """The letter of the text that a token begins in. Counts it."""
        raw = self._spelling.decode_bytes([token])
        here = self._letters - (bool(raw) and raw[0] & 0xC0 == 0x80)
        self._letters += sum(byte & 0xC0 != 0x80 for byte in raw)
        return max(0, here)


def _least(logprob: float | None) -> float | None:
    """JSON has no infinity."""
    return None if logprob is None else max(logprob, -9999.0)


def _choice(index: int, parts: list[Part], finish: str | None, words: Words | None) -> dict[str, Any]:
    scores = words.scores([s for part in parts for s in part.scores]) if words is not None else None
    return {"index": index, "text": "".join(p.text for p in parts), "logprobs": scores, "finish_reason": finish}
