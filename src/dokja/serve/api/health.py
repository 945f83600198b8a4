"""`/health/live` (replace the server?), `/health/ready` (send requests?), `/metrics`.

Alive is a server whose engines beat, or are being replaced; an engine that does not beat for long is replaced by the
server itself. Ready is one that has loaded and is not stopping.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from dokja.serve.api.errors import json_response
from dokja.serve.api.state import server_of

router = APIRouter()


@router.get("/health/live")
@router.get("/health")
async def live(request: Request) -> Response:
    """200 unless an engine could not be brought back."""
    server = server_of(request)
    states = {m.name: {"state": m.client.state, "heartbeat_age": m.client.heartbeat_age} for m in server.models}
    dead = any(m.client.state == "dead" for m in server.models)
    return json_response({"live": not dead, "models": states}, 503 if dead else 200)


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 where every model answers now."""
    server = server_of(request)
    states = {m.name: m.client.state for m in server.models}
    good = not server.draining and all(state == "ready" for state in states.values())
    return json_response({"ready": good, "models": states}, 200 if good else 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    server = server_of(request)
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
