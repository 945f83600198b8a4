"""What the paths share: models, limits, figures, and whether the server is stopping."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request

from dokja.serve.limits import Limits
from dokja.serve.metrics import Metrics
from dokja.serve.models import Models
from dokja.serve.reading import Usage


@dataclass
class Server:
    """One server."""

    models: Models
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False

    def account(self, model: str, usage: Usage) -> None:
        """Notes what a request took, finished or not."""
        m = self.metrics
        m.prompt_tokens.labels(model).inc(usage.prompt)
        m.cached_tokens.labels(model).inc(usage.cached)
        m.written_tokens.labels(model).inc(usage.completion)
        m.thought_tokens.labels(model).inc(usage.reasoning)


def server_of(request: Request) -> Server:
    """The server that a request came to (a dependency of the paths)."""
    server: Server = request.app.state.server
    return server
