"""`/v1/responses`, without memory: everything that a response builds on is sent with the request."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from dokja.serve.api.answering import Answers, model_of, prepared, respond
from dokja.serve.api.body import EFFORT, Count, Drawn, EffortName, Loose, Seed
from dokja.serve.api.errors import ApiError, json_response, of_ending
from dokja.serve.api.options import TemplateKwargs
from dokja.serve.api.responses_input import conversation, turns_of
from dokja.serve.api.responses_output import Output
from dokja.serve.api.state import server_of
from dokja.serve.api.stream import event
from dokja.serve.api.tools import Name, tool_choice
from dokja.serve.asking import Ask
from dokja.serve.limits import Limits
from dokja.serve.models import Job
from dokja.serve.turn import Done

router = APIRouter()


class FlatTool(Loose):
    """A function as this API declares it."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def plain(self) -> dict[str, Any]:
        """The declaration as a template shows it."""
        body = self.model_dump(exclude_none=True, include={"name", "description", "parameters"})
        return {"type": "function", "function": body}


class Format(Loose):
    """Of `text`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class Text(Loose):
    """How the answer's text has to look."""

    format: Format = Field(default_factory=Format)

    def schema_of(self) -> dict[str, Any] | None:
        """The JSON schema that binds the answer; None for text."""
        if self.format.type == "text":
            return None
        if self.format.type == "json_schema" and self.format.schema_ is None:
            raise ApiError(400, "A json_schema format needs a schema.", param="text.format")
        return self.format.schema_ or {"type": "object"}


class Reasoning(Loose):
    """How long to think."""

    effort: EffortName | None = None


class ResponsesBody(Drawn):
    """The body of a request for a response."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[FlatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: Count | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    include: list[str] | None = None
    store: bool | None = None
    truncation: Literal["disabled", "auto"] | None = None
    background: Literal[False] | None = None
    previous_response_id: str | None = None
    chat_template_kwargs: TemplateKwargs | None = None

    def ask(self, limits: Limits) -> Ask:
        """What is asked for. Raises DokjaError for what cannot be."""
        template = self.chat_template_kwargs or TemplateKwargs()
        effort = self.reasoning.effort if self.reasoning else None
        return Ask(
            conversation(self.input, self.instructions, limits),
            self.draws(),
            tools=[tool.plain() for tool in self.tools or ()],
            choice=tool_choice(self.tool_choice),
            parallel=self.parallel_tool_calls is not False,
            thinking=template.enable_thinking,
            effort=EFFORT[effort] if effort else None,
            preserve_thinking=template.preserve_thinking,
            max_tokens=self.max_output_tokens,
            seed=self.seed,
            top_logprobs=self.top_logprobs if self.scored() else None,
            schema=self.text.schema_of() if self.text else None,
        )

    def said(self) -> dict[str, Any]:
        """See `models.Said`: as a chat, which more engines know."""
        body = self.model_dump(include=_SAID, exclude_unset=True, exclude_none=True, by_alias=True)
        body["messages"] = turns_of(self.input, self.instructions)
        if self.tools:
            body["tools"] = [tool.plain() for tool in self.tools]
        if self.tool_choice is not None:
            choice = tool_choice(self.tool_choice)
            plain = choice in ("auto", "none", "required")
            body["tool_choice"] = choice if plain else {"type": "function", "function": {"name": choice}}
        if self.reasoning and self.reasoning.effort:
            body["reasoning_effort"] = self.reasoning.effort
        if self.scored():
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        if self.text and self.text.format.type != "text":
            schema = {"name": "answer", "schema": self.text.schema_of(), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def scored(self) -> bool:
        """Whether logprobs are wanted."""
        return bool(self.top_logprobs) or "message.output_text.logprobs" in (self.include or ())

    def echoed(self) -> dict[str, Any]:
        """What of the request a response repeats."""
        said = self.model_dump(by_alias=True, exclude_unset=True)
        keys = ("instructions", "max_output_tokens", "metadata", "reasoning", "temperature", "text", "top_p", "user")
        return {
            **{key: said.get(key) for key in keys},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "tool_choice": self.tool_choice or "auto",
            "tools": said.get("tools") or [],
            "truncation": "disabled",
            "store": False,
            "background": False,
            "previous_response_id": None,
        }


_SAID = {"seed", "parallel_tool_calls", "chat_template_kwargs"}


@router.post("/v1/responses")
async def responses(body: ResponsesBody, request: Request) -> Response:
    """A response, whole or as a stream."""
    server = server_of(request)
    if body.previous_response_id is not None:
        raise ApiError(
            400,
            "This server keeps no responses. Send the whole conversation as input.",
            param="previous_response_id",
        )
    model, name = model_of(server, body.model), f"resp_{secrets.token_hex(12)}"

    def make() -> list[Job]:
        return [model.chat(body.ask(server.limits), name, server.limits.max_tokens, body.said)]

    answers = await prepared(request, model, 1, make)
    head = {"id": name, "object": "response", "created_at": int(time.time()), "model": body.model, **body.echoed()}
    output = Output(answers.spelling, head)
    return await respond(
        request,
        answers,
        whole=lambda: _whole(answers, output),
        events=(lambda: _events(answers, output)) if body.stream else None,
    )


async def _whole(answers: Answers, output: Output) -> Response:
    async for _, item in answers:
        if not isinstance(item, Done):
            output.add(item)
        elif item.finish == "error":
            raise of_ending(item.ending)
        else:
            output.end(item.finish)
    return json_response(output.response(answers.total()))


async def _events(answers: Answers, output: Output) -> AsyncGenerator[bytes, None]:
    number = 0

    def numbered(told: dict[str, Any]) -> bytes:
        nonlocal number
        number += 1
        return event({**told, "sequence_number": number - 1}, told["type"])

    for kind in ("response.created", "response.in_progress"):
        yield numbered({"type": kind, "response": output.response(None)})
    done: Done | None = None
    async for _, item in answers:
        if isinstance(item, Done):
            done = item
            continue
        for told in output.add(item):
            yield numbered(told)
    assert done is not None
    if done.finish == "error":
        output.failed = {"code": "server_error", "message": str(of_ending(done.ending))}
        yield numbered({"type": "response.failed", "response": output.response(answers.total())})
        return
    for told in output.end(done.finish):
        yield numbered(told)
    kind = "response.incomplete" if done.finish == "length" else "response.completed"
    yield numbered({"type": kind, "response": output.response(answers.total())})
