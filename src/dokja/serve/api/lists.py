"""`/v1/models`: what is served here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from dokja.serve.api.answering import model_of
from dokja.serve.api.errors import json_response
from dokja.serve.api.state import server_of
from dokja.serve.models import Served

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """All models."""
    server = server_of(request)
    return json_response({"object": "list", "data": [_told(model) for model in server.models]})


@router.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> Response:
    """One model."""
    server = server_of(request)
    return json_response(_told(model_of(server, name)))


def _told(model: Served) -> dict[str, Any]:
    told: dict[str, Any] = {"id": model.name, "object": "model", "created": model.created, "owned_by": "dokja"}
    return told | model.told() if model.client.info else told
