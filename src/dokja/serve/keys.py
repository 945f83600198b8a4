"""Who may ask: keys given on the command line, or those of a ledger with their scopes and quotas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from dokja.serve.ledger import Grant, Ledger, digest

SCOPES = ("generate", "metrics")
"""`generate`: models and all that writes. `metrics`: Prometheus' figures."""
_KEPT = 10.0  # seconds that a key of the ledger is remembered, and so the longest that a revoked one works on


class Keys:
    """Looks keys up by the hash of their secret. `ledger` None: those of the command line alone, without quotas."""

    def __init__(self, secrets: Sequence[str] = (), ledger: Ledger | None = None) -> None:
        self.ledger = ledger
        self._given = {digest(s): Grant(f"key {i + 1}", frozenset(SCOPES)) for i, s in enumerate(secrets)}
        self._known: dict[str, tuple[float, Grant | None]] = {}

    async def grant(self, secret: str) -> Grant | None:
        """What this secret may do; None where it is not known."""
        name = digest(secret)
        if name in self._given or self.ledger is None:
            return self._given.get(name)
        at, grant = self._known.get(name, (0.0, None))
        if not at or time.monotonic() - at > _KEPT:
            grant = await asyncio.to_thread(self.ledger.grant, secret)
            if len(self._known) > 10_000:  # somebody is guessing
                self._known.clear()
            self._known[name] = (time.monotonic(), grant)
        return grant


def open_keys(secrets: Sequence[str], place: str | None) -> Keys | None:
    """The keys of a server; None lets everybody in. Raises DokjaError where the ledger cannot be opened."""
    if not secrets and place is None:
        return None
    return Keys(secrets, None if place is None else Ledger(place))
