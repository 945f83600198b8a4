"""What the paths answer, for the OpenAPI document; tests hold the answers against it. Nothing is built from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Finish = Literal["stop", "length", "tool_calls"]


class Shape(BaseModel):
    """A JSON object of these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Shape):
    """What went wrong."""

    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
    ]
    param: str | None
    code: str | None


class Error(Shape):
    """Every answer that is no success."""

    error: ErrorBody


class CachedTokens(Shape):
    """Of a prompt."""

    cached_tokens: Count


class ReasoningTokens(Shape):
    """Of an answer."""

    reasoning_tokens: Count


class TokenUsage(Shape):
    """Tokens of a request."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class TopToken(Shape):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int]


class ScoredToken(TopToken):
    """A token of the content."""

    top_logprobs: list[TopToken]


class ChatLogprobs(Shape):
    """Of the content alone."""

    content: list[ScoredToken]
    refusal: None


class CalledFunction(Shape):
    """Its arguments are text that should be JSON: check them."""

    name: str
    arguments: str


class Call(Shape):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Shape):
    """The answer; without a thought there is no `reasoning_content`, without calls no `tool_calls`."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None


class ChatChoice(Shape):
    """One of `n`."""

    index: Count
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(Shape):
    """An answer in one piece."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage


class TextLogprobs(Shape):
    """By token; the first of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[Count]


class TextChoice(Shape):
    """One of `n` for each prompt."""

    index: Count
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


class TextCompletion(Shape):
    """A text in one piece."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class ResponseUsage(Shape):
    """Tokens of a response."""

    input_tokens: Count
    input_tokens_details: CachedTokens
    output_tokens: Count
    output_tokens_details: ReasoningTokens
    total_tokens: Count


class OutputItem(BaseModel):
    """`reasoning`, `message` or `function_call`, with what belongs to it."""

    id: str
    type: Literal["reasoning", "message", "function_call"]
    status: Literal["completed", "incomplete"]


class ResponseObject(BaseModel):
    """A response in one piece, beside what it repeats of the request."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["completed", "incomplete"]
    incomplete_details: dict[str, str] | None
    error: dict[str, str] | None
    output: list[OutputItem]
    usage: ResponseUsage


class ModelCard(BaseModel):
    """A model; once it is loaded, also its context, modes and what it can."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None = None
    modes: list[Literal["direct", "think"]] | None = None
    vision: bool | None = None
    tools: bool | None = None
    sha256: str | None = None


class ModelList(Shape):
    """All models."""

    object: Literal["list"]
    data: list[ModelCard]


class Embeddings(BaseModel):
    """What the engine behind this server answered."""

    object: str
    data: list[dict[str, Any]]
    model: str


class Live(Shape):
    """By model: its state, and the seconds since its engine was heard."""

    live: bool
    models: dict[str, dict[str, Any]]


class Ready(Shape):
    """By model: its state."""

    ready: bool
    models: dict[str, str]
