"""`/v1/chat/completions`."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field, WithJsonSchema

from dokja.serve.api.answering import Answers, model_of, prepared, respond
from dokja.serve.api.body import EFFORT, Bias, Count, Drawn, EffortName, Seed, Stop, bias, stops
from dokja.serve.api.chat_parts import Choice, chunks, usage_of
from dokja.serve.api.errors import json_response, of_ending
from dokja.serve.api.messages import MESSAGES, read_messages
from dokja.serve.api.options import ResponseFormat, StreamOptions, TemplateKwargs
from dokja.serve.api.state import server_of
from dokja.serve.api.stream import event
from dokja.serve.api.tools import Tool, tool_choice
from dokja.serve.asking import Ask
from dokja.serve.limits import Limits
from dokja.serve.models import Job
from dokja.serve.turn import Done

router = APIRouter()


class ChatBody(Drawn):
    """The body of a chat completion."""

    messages: Annotated[list[dict[str, Any]], WithJsonSchema(MESSAGES)]
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    logit_bias: Bias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: EffortName | None = None
    thinking_budget: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    """Tokens that a thought may have; ours."""
    chat_template_kwargs: TemplateKwargs | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: str | None = None
    store: bool | None = None

    def ask(self, limits: Limits) -> Ask:
        """What is asked for. Raises DokjaError for what cannot be."""
        template = self.chat_template_kwargs or TemplateKwargs()
        return Ask(
            read_messages(self.messages, limits),
            self.draws(),
            tools=[tool.plain() for tool in self.tools or ()],
            choice=tool_choice(self.tool_choice),
            parallel=self.parallel_tool_calls is not False,
            thinking=template.enable_thinking,
            effort=EFFORT[self.reasoning_effort] if self.reasoning_effort else None,
            budget=self.thinking_budget,
            preserve_thinking=template.preserve_thinking,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            seed=self.seed,
            stop=stops(self.stop),
            logit_bias=bias(self.logit_bias),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            schema=self.response_format.schema_of() if self.response_format else None,
        )

    def said(self) -> dict[str, Any]:
        """See `models.Said`."""
        return self.model_dump(include=_SAID, exclude_unset=True, exclude_none=True, by_alias=True)


_SAID = {
    "messages", "seed", "stop", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
    "parallel_tool_calls", "reasoning_effort", "thinking_budget", "chat_template_kwargs",
}  # fmt: skip


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatBody, request: Request) -> Response:
    """A chat completion, whole or as a stream."""
    server = server_of(request)
    model, name = model_of(server, body.model), f"chatcmpl-{secrets.token_hex(12)}"

    def make() -> list[Job]:
        return [model.chat(body.ask(server.limits), name, server.limits.max_tokens, body.said)]

    answers = await prepared(request, model, body.n or 1, make)
    choices = [Choice(i, answers.spelling) for i in range(len(answers.plans))]
    head = {"id": name, "created": int(time.time()), "model": body.model}
    include = body.stream_options is not None and body.stream_options.include_usage
    return await respond(
        request,
        answers,
        whole=lambda: _whole(answers, choices, head),
        events=(lambda: _events(answers, choices, head, include)) if body.stream else None,
    )


async def _whole(answers: Answers, choices: list[Choice], head: Mapping[str, Any]) -> Response:
    """The response in one piece."""
    async for i, item in answers:
        if not isinstance(item, Done):
            choices[i].add(item)
        elif item.finish == "error":
            raise of_ending(item.ending)
        else:
            choices[i].finish = item.finish
    whole = [choice.whole() for choice in choices]
    return json_response({**head, "object": "chat.completion", "choices": whole, "usage": usage_of(answers.total())})


async def _events(
    answers: Answers, choices: list[Choice], head: Mapping[str, Any], include: bool
) -> AsyncGenerator[bytes, None]:
    """The response as it is written."""
    head = {**head, "object": "chat.completion.chunk"}
    more = {"usage": None} if include else {}
    async for i, item in answers:
        if isinstance(item, Done) and item.finish == "error":
            yield event(of_ending(item.ending).body())
            return
        if found := b"".join(event({**head, "choices": [chunk], **more}) for chunk in chunks(choices[i], item)):
            yield found
    last = event({**head, "choices": [], "usage": usage_of(answers.total())}) if include else b""
    yield last + event(b"[DONE]")
