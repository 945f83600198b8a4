"""What the paths share: models, limits, keys, figures, and whether the server is stopping."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request

from dokja.serve.keys import Keys
from dokja.serve.ledger import Grant, Outcome
from dokja.serve.limits import Busy, Limits
from dokja.serve.metrics import Metrics
from dokja.serve.models import Models
from dokja.serve.reading import Usage

TELL = 2.0
"""Seconds between two notes of what runs."""
log = logging.getLogger("dokja.serve")


@dataclass
class Server:
    """One server. `keys` None lets everybody in: for loopback alone."""

    models: Models
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    keys: Keys | None = None
    log_text: bool = False
    draining: bool = False
    doors: tuple[str, ...] = ()
    """Beginnings of paths that ask for keys in their own way, as pages do."""
    running: dict[int, Callable[[], Usage]] = field(default_factory=dict)
    """What requests at work have taken so far, by the numbers of their rows in the ledger."""

    async def check_quota(self, grant: Grant) -> None:
        """Raises Busy where the key has used what it may."""
        if self.keys is not None and self.keys.ledger is not None and grant.limited:
            wait, quota = await asyncio.to_thread(self.keys.ledger.wait, grant)
            if wait:
                raise Busy(wait, f"This key has used its quota of {quota}.")

    async def begin(self, grant: Grant, model: str, prompt: int) -> int | None:
        """Notes an admitted request -> the number of its row, where there is a ledger."""
        if self.keys is None or self.keys.ledger is None:
            return None
        return await asyncio.to_thread(self.keys.ledger.begin, grant.name, model, prompt)

    async def end(self, number: int | None, model: str, usage: Usage, outcome: Outcome) -> None:
        """Notes what a request took and how it ended."""
        m = self.metrics
        m.prompt_tokens.labels(model).inc(usage.prompt)
        m.cached_tokens.labels(model).inc(usage.cached)
        m.written_tokens.labels(model).inc(usage.completion)
        m.thought_tokens.labels(model).inc(usage.reasoning)
        if number is not None and self.keys is not None and self.keys.ledger is not None:
            self.running.pop(number, None)
            # shielded: a client that leaves cancels what serves it, and its row has to be written all the same
            await asyncio.shield(asyncio.to_thread(self.keys.ledger.end, number, usage, outcome))

    async def tell_running(self) -> None:
        """Notes what requests have taken so far, every few seconds: a killed server has charged all but those."""
        while self.keys is not None and self.keys.ledger is not None:
            await asyncio.sleep(TELL)
            if usage := {number: used() for number, used in self.running.items()}:
                try:
                    await asyncio.to_thread(self.keys.ledger.tell, usage)
                except Exception:  # a database that is busy now is asked again
                    log.warning("The usage of running requests could not be written.", exc_info=True)


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    server: Server = request.app.state.server
    return server
