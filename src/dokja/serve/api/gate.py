"""Before the paths: bodies that are too large or too slow, and a count of every answer."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dokja.serve.api.errors import ApiError, error_response, of_exception
from dokja.serve.api.state import Server


class Gate:
    """ASGI middleware; reads nothing ahead, so that a body beyond the limit is never in memory."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits, status, whole, read = self._server.limits, 0, False, 0

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
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                path = getattr(scope.get("route"), "path", "other")
                self._server.metrics.requests.labels(path, str(status)).inc()
            await send(message)

        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > limits.body_bytes:
                error = ApiError(413, _too_large(limits.body_bytes))
                await error_response(error)(scope, receive, counted)
                return
            await self._app(scope, limited, counted)
        except Exception as error:
            if status:
                raise  # too late to say anything else
            await error_response(of_exception(error))(scope, receive, counted)


def _too_large(most: int) -> str:
    return f"The body has more than {most:,} bytes. Send less."
