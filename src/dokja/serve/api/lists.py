"""`/v1/models`: what is served here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from dokja.serve.api.answering import model_of
from dokja.serve.api.errors import json_response
from dokja.serve.api.state import Server, server_of
from dokja.serve.models import Served

router = APIRouter()


@router.get("/v1/models")
async def models(server: Annotated[Server, Depends(server_of)]) -> Response:
    """All models."""
    return json_response({"object": "list", "data": [_told(model) for model in server.models]})


@router.get("/v1/models/{name:path}")
async def model(name: str, server: Annotated[Server, Depends(server_of)]) -> Response:
    """One model."""
    return json_response(_told(model_of(server, name)))


def _told(model: Served) -> dict[str, Any]:
    told: dict[str, Any] = {"id": model.name, "object": "model", "created": model.created, "owned_by": "dokja"}
    return told | model.told() if model.client.info else told
