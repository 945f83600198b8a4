"""Before the paths: who asks, bodies too large or too slow, and a line in the log for every request of the API."""

from __future__ import annotations

import asyncio
import logging

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dokja.serve.api.errors import ApiError, error_response, of_exception
from dokja.serve.api.state import Server
from dokja.serve.ledger import Grant
from dokja.serve.logs import Note

OPEN = ("/", "/health", "/health/live", "/health/ready")
"""Paths that ask for no key."""
_EVERYBODY = Grant("", frozenset(("generate", "metrics")))


class Gate:
    """ASGI middleware; reads nothing ahead, so that a body beyond the limit is never in memory.

    It leaves a `Note` and a `Grant` in the scope, under "dokja.note" and "dokja.grant".
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note = scope["dokja.note"] = Note(scope["path"], scope["method"])
        limits, whole, read = self._server.limits, False, 0

        async def limited() -> Message:
            nonlocal whole, read
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(limits.body_seconds):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "The body did not come in time. Send it faster.") from None
            read += len(message.get("body", b""))
            if read > limits.body_bytes:
                raise HTTPException(413, _too_large(limits.body_bytes))
            whole = not message.get("more_body", False)
            return message

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                note.status = message["status"]
                path = getattr(scope.get("route"), "path", "other")
                self._server.metrics.requests.labels(path, str(note.status)).inc()
            await send(message)

        try:
            scope["dokja.grant"] = await self._grant(scope)
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > limits.body_bytes:
                raise ApiError(413, _too_large(limits.body_bytes))
            await self._app(scope, limited, counted)
        except Exception as error:
            if note.status:
                raise  # too late to say anything else
            await error_response(of_exception(error))(scope, receive, counted)
        finally:
            # A page loads dozens of files, and a watchdog asks for health all day: nobody would find the rest.
            quiet = note.status < 500 and (scope["path"] in OPEN or scope["path"].startswith(self._server.doors))
            note.write(logging.DEBUG if quiet else logging.INFO)

    async def _grant(self, scope: Scope) -> Grant:
        """What the request may do. Raises ApiError for one without a key, or with one that may not do this."""
        keys = self._server.keys
        if keys is None or scope["path"] in OPEN or scope["path"].startswith(self._server.doors):
            return _EVERYBODY
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        kind, _, secret = header.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise ApiError(401, "A key is needed: Authorization: Bearer KEY.", code="invalid_api_key")
        grant = await keys.grant(secret.strip())
        if grant is None:
            raise ApiError(401, "This key is not known here. Ask whoever runs the server.", code="invalid_api_key")
        scope["dokja.note"].key = grant.name
        wanted = "metrics" if scope["path"] == "/metrics" else "generate"
        if wanted not in grant.scopes:
            raise ApiError(403, f"This key may not use {scope['path']}: it lacks the scope {wanted!r}.")
        return grant


def _too_large(most: int) -> str:
    return f"The body has more than {most:,} bytes. Send less."
