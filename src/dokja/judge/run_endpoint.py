"""The verb `judge` for an endpoint: its address in, records and a summary out. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dokja.engine.recommended import Recommended
from dokja.judge.endpoint.client import FIRST_WAIT
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.spending import Limits
from dokja.judge.outcome import Judged, folder_name, judge_items
from dokja.judge.remote import EndpointAnswerer
from dokja.judge.settings import Wishes, plan_items
from dokja.judge.suite import build_suite, pack_suite

PLACE = Path("judged")
"""Folder of the records of endpoints, which have none of their own."""


def judge_endpoint(
    endpoint: Endpoint,
    *,
    tasks: Sequence[str] = ("all",),
    languages: Sequence[str] = ("ko", "en"),
    per_cell: int = 10,
    packs: Sequence[str] = (),
    data: str | Path | None = None,
    limit: int | None = None,
    wishes: Wishes | None = None,
    seed: int = 0,
    stream: bool = False,
    limits: Limits | None = None,
    judge: Endpoint | None = None,
    out: str | Path | None = None,
    log_path: Path | None = None,
    first_wait: float = FIRST_WAIT,
) -> Judged:
    """Judge the model behind an endpoint; a killed or stopped run continues where it was, without asking again.

    `wishes` win over what a pack prescribes; without either the endpoint is asked greedily. `stream` records when first
    tokens came. `judge` judges what no rule can. `out` defaults to `judged/<name>-<suite>`. Raises DokjaError sentences
    of the suite, the endpoint and the runner.
    """
    suite = pack_suite(packs, data, limit, languages) if packs else build_suite(tasks, per_cell, languages, seed)
    items = plan_items(suite, wishes or Wishes(), endpoint.modes, Recommended(), weights="")
    folder = PLACE / f"{folder_name(endpoint.name)}-{suite.short}" if out is None else Path(out)
    prices = endpoint.prices
    settings = {
        "endpoint": endpoint.name,
        "residency": endpoint.residency,
        "reasoning": endpoint.reasoning,
        "thinking": endpoint.thinking,
        **({"input_price": prices.input, "output_price": prices.output, "currency": prices.currency} if prices else {}),
        "languages": list(languages),
        **({"packs": list(packs), "limit": limit} if packs else {"per_cell": per_cell}),
    }
    return judge_items(
        suite,
        items,
        lambda spending: EndpointAnswerer(endpoint, spending=spending, stream=stream, first_wait=first_wait),
        folder,
        seed=seed,
        settings=settings,
        limits=limits,
        prices=prices,
        judge=judge,
        log_path=log_path,
    )
