"""`/v1/models`: what is served here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from dokja.serve.api.answering import model_of
from dokja.serve.api.errors import json_response
from dokja.serve.api.state import Server, server_of
from dokja.serve.models import Model

router = APIRouter()


@router.get("/v1/models")
async def models(server: Annotated[Server, Depends(server_of)]) -> Response:
    """All models."""
    return json_response({"object": "list", "data": [_told(model) for model in server.models]})


@router.get("/v1/models/{name:path}")
async def model(name: str, server: Annotated[Server, Depends(server_of)]) -> Response:
    """One model."""
    return json_response(_told(model_of(server, name)))


def _told(model: Model) -> dict[str, Any]:
    told: dict[str, Any] = {"id": model.name, "object": "model", "created": model.created, "owned_by": "dokja"}
    if model.client.info:
        facts = model.facts
        told |= {"max_model_len": facts.context, "modes": facts.style.modes, "vision": facts.images is not None}
        told |= {"tools": facts.style.tools, "sha256": facts.sha256}
    return told
