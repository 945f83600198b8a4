"""Figures for Prometheus, under names like those of other servers of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dokja.serve.models import Models

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_GAUGES = {
    "running": "Answers that are being written",
    "waiting": "Requests in the engine's queue",
    "slots": "Answers that can be written at once",
    "tokens_per_second": "Tokens written per second of the engine's work",
    "acceptance": "Share of drafted tokens that were accepted",
    "restarts": "Engine processes that were replaced",
    "replays": "Requests that were written again in another process",
    "in_flight": "Requests that have not ended",
}


class Metrics:
    """Counts and times; `text` is what `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("model",)
        self.requests = Counter("dokja_requests", "HTTP requests", ("path", "status"), registry=self.registry)
        self.prompt_tokens = Counter("dokja_prompt_tokens", "Tokens read", labels, registry=self.registry)
        self.cached_tokens = Counter("dokja_cached_tokens", "Tokens known already", labels, registry=self.registry)
        self.written_tokens = Counter("dokja_generation_tokens", "Tokens written", labels, registry=self.registry)
        self.thought_tokens = Counter("dokja_reasoning_tokens", "Of them, thoughts", labels, registry=self.registry)
        self.first = Histogram(
            "dokja_time_to_first_token_seconds", "From request to first part", labels, buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.whole = Histogram(
            "dokja_request_seconds", "From request to the end of its answers", labels, buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip

    def watch(self, models: Models) -> None:
        """Shows the engines' own figures as well."""
        self.registry.register(_Engines(models))

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _Engines:
    """Asks the engines for their figures when somebody looks."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        for key, text in _GAUGES.items():
            family = GaugeMetricFamily(f"dokja_engine_{key}", text, labels=("model",))
            for model in self._models:
                if key in (stats := model.client.stats()):
                    family.add_metric((model.name,), float(stats[key]))
            yield family
        ages = GaugeMetricFamily("dokja_engine_heartbeat_age_seconds", "Since the last beat", labels=("model",))
        for model in self._models:
            ages.add_metric((model.name,), model.client.heartbeat_age)
        yield ages
