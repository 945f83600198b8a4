"""What a run may spend, and what it has spent. What is under way when a limit is met is still paid for and kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dokja.errors import ConfigError
from dokja.judge.endpoint.description import Prices
from dokja.judge.records import Usage


@dataclass(frozen=True)
class Limits:
    """None: no limit. Cost and tokens are of the whole suite, earlier sittings included; seconds of this sitting."""

    cost: float | None = None
    tokens: int | None = None
    seconds: float | None = None


class Spending:
    """Adds up what answers took; safe to use from several threads."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock, self._began = limits, clock, clock()
        self.cost, self.tokens, self.currency = 0.0, 0, ""
        self._lock = threading.Lock()

    def priced_in(self, prices: Prices | None, who: str) -> None:
        """Raises ConfigError where a limit of cost cannot be kept: without prices, or with two currencies."""
        if prices is None:
            if self.limits.cost is not None:
                raise ConfigError(f"--max-cost needs the prices of {who}. Put them into its row of --endpoints.")
        elif self.limits.cost is not None and self.currency not in ("", prices.currency):
            raise ConfigError(
                f"{who} costs {prices.currency} and the other endpoint {self.currency}, which --max-cost cannot add up."
            )
        else:
            self.currency = prices.currency

    def add(self, usage: Usage, prices: Prices | None) -> None:
        """One more answer."""
        spent = prices.of(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) if prices else 0.0
        with self._lock:
            self.cost += spent
            self.tokens += usage.prompt_tokens + usage.completion_tokens

    def over(self) -> str | None:
        """Which limit is met, in words, or None."""
        limits = self.limits
        if limits.cost is not None and self.cost >= limits.cost:
            return f"--max-cost {limits.cost:g} is reached ({self.cost:.4g} {self.currency} so far), so raise it"
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return f"--max-total-tokens {limits.tokens} is reached ({self.tokens} so far), so raise it"
        if limits.seconds is not None and self._clock() - self._began >= limits.seconds:
            return f"--max-seconds {limits.seconds:g} are over"
        return None
