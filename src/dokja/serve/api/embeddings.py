"""`/v1/embeddings`: said clearly, until an engine gives hidden states."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from dokja.serve.api.answering import model_of
from dokja.serve.api.body import Body
from dokja.serve.api.errors import ApiError
from dokja.serve.api.state import server_of

router = APIRouter()


class EmbeddingsBody(Body):
    """The body of a request for embeddings."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, request: Request) -> Response:
    """An error that says what to do: these models were trained to write, and their engine gives no hidden states."""
    server = server_of(request)
    model = model_of(server, body.model)
    raise ApiError(
        400,
        f"The model {model.name!r} writes text and gives no embeddings. Use a model that was trained for them.",
        param="model",
        code="unsupported_model",
    )
