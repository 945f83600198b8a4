"""The app: its paths, and what stands before them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

import dokja
from dokja.serve.api import chat, completions, embeddings, errors, health, lists, responses
from dokja.serve.api.document import documented
from dokja.serve.api.gate import OPEN, Gate
from dokja.serve.api.state import Server

LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]", "testserver")


def make_app(server: Server, hosts: Sequence[str] | None = None) -> FastAPI:
    """The ASGI app of a server. `hosts`: the names under which it may be asked (None: any); without keys a page of
    somebody else's could otherwise reach it through a name that leads to this machine."""
    app = FastAPI(title="dokja", version=dokja.__version__, docs_url=None, redoc_url=None)
    app.state.server = server
    for module in (chat, completions, responses, lists, embeddings, health):
        app.include_router(module.router)
    app.openapi = documented(app, server, OPEN)  # type: ignore[method-assign]
    errors.install(app)
    server.metrics.watch(server.models)
    if hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Gate, server=server)
    return app
