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
    max_tokens: Count | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    logit_bias: Bias | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None

    def ask(self) -> Ask:
        """What is asked for. Raises ApiError for what is not there."""
        if self.suffix:
            raise ApiError(400, "This model cannot fill in before a suffix. Leave it out.", param="suffix")
        if self.echo:
            raise ApiError(400, "The engine does not score prompts, so they are not echoed.", param="echo")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ApiError(400, "best_of has to be n: every answer is returned.", param="best_of")
        return Ask(
            (),
            self.draws(),
            max_tokens=self.max_tokens or 16,
            seed=self.seed,
            stop=stops(self.stop),
            logit_bias=bias(self.logit_bias),
            top_logprobs=self.logprobs,
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


_SAID = {"seed", "stop", "logit_bias", "logprobs"}


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
    choices = [_choice(i, answers.spelling, parts[i], finish[i], scored[i]) for i in range(len(parts))]
    return json_response({**head, "choices": choices, "usage": usage_of(answers.total())})


async def _events(answers: Answers, head: Mapping[str, Any], include: bool) -> AsyncGenerator[bytes, None]:
    more = {"usage": None} if include else {}
    offsets = [0] * len(answers.plans)
    async for i, item in answers:
        if isinstance(item, Done) and item.finish == "error":
            yield event(of_ending(item.ending).body())
            return
        parts, finish = ([], item.finish) if isinstance(item, Done) else (item, None)
        scored = answers.plans[i].ask.top_logprobs is not None and bool(parts)
        choice = _choice(i, answers.spelling, parts, finish, scored, offsets[i])
        offsets[i] += len(choice["text"])
        yield event({**head, "choices": [choice], **more})
    if include:
        yield event({**head, "choices": [], "usage": usage_of(answers.total())})
    yield event(b"[DONE]")


def _choice(
    index: int, tok: Spelling, parts: list[Part], finish: str | None, scored: bool, offset: int = 0
) -> dict[str, Any]:
    scores = _scores(tok, [s for part in parts for s in part.scores], offset) if scored else None
    return {"index": index, "text": "".join(p.text for p in parts), "logprobs": scores, "finish_reason": finish}


def _scores(tok: Spelling, scored: list[Scored], offset: int) -> dict[str, Any]:
    """Logprobs as this API says them; offsets count characters from the answer's beginning."""
    texts = [tok.decode([s.token], markers=True) for s in scored]
    offsets = [offset + sum(map(len, texts[:i])) for i in range(len(texts))]
    top = [{tok.decode([t], markers=True): p for t, p in s.top} for s in scored]
    return {
        "tokens": texts,
        "token_logprobs": [max(s.logprob, -9999.0) for s in scored],
        "top_logprobs": top if any(top) else None,
        "text_offset": offsets,
    }
