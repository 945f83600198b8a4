"""`/v1/embeddings`, where the model can.

Models that write, such as all of our own engine, are refused: a mean or last hidden state of a decoder that was never
trained to find texts by it finds little, and who asks would not see why. Another engine (`--engine`) may have a model
that was trained for it, and answers for itself.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from dokja.serve.api.answering import GONE, model_of, unless_gone
from dokja.serve.api.body import Body
from dokja.serve.api.errors import ApiError, json_response
from dokja.serve.api.state import server_of
from dokja.serve.reading import Usage

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
    """Embeddings of another engine's model; of our own, an error that says what to do."""
    server, grant = server_of(request), request.scope["dokja.grant"]
    model = model_of(server, body.model)
    await server.check_quota(grant)
    ticket = model.admission.enter(1, model.slots)
    try:
        asked = model.embed(body.model_dump(exclude_unset=True, exclude_none=True))
        made = await unless_gone(request, asyncio.wait_for(asked, server.limits.seconds))
    except TimeoutError:
        raise ApiError(504, "The engine took longer than this server allows.") from None
    finally:
        ticket.leave()
    if made is None:
        return GONE
    told = made.get("usage")
    prompt = told.get("prompt_tokens") if isinstance(told, dict) else None
    usage = Usage(prompt if isinstance(prompt, int) else 0)
    await server.end(await server.begin(grant, model.name, usage.prompt), model.name, usage, "finished")
    return json_response(made)
