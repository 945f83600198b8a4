"""Speed of an endpoint by the workloads of `judge.speed`: prompts that never repeat, answers that are streamed.

Tokens are those that the endpoint counts. Speeds of models with other tokenizers compare only as far as their tokens
hold as much text.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dokja.errors import ConfigError, DataError
from dokja.judge.endpoint.client import FIRST_WAIT, Client, Failed
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.reply import Reply
from dokja.judge.records import Times
from dokja.judge.speed import ANSWER, BLEND, WORKLOADS, Speed, Stream, blended_price, measure
from dokja.ledger.atomic import write_atomic

_WORDS = [
    "강", "돌", "등불", "시장", "겨울", "river", "stone", "lantern", "market", "winter", "harbour", "copper", "letter",
    "garden", "bridge", "window",
]  # fmt: skip
_TOKENS = 1.3  # of a word and the space before it, as a guess; what was read is counted


@dataclass(frozen=True)
class Measured:
    """One workload: what was asked for, what came, and the medians; `speed.n` answers."""

    name: str
    read: float
    """tokens of a prompt, mean"""
    written: float
    """tokens of an answer, thought included, mean"""
    speed: Speed


def measure_endpoint(
    endpoint: Endpoint,
    workloads: Sequence[str] = ("default",),
    requests: int = 8,
    concurrency: int = 1,
    seed: int | None = None,
    first_wait: float = FIRST_WAIT,
) -> list[Measured]:
    """Asks `requests` times per workload, so many at once. `seed` None asks what was never asked before. Raises
    ConfigError for a workload that there is not, DataError where requests fail."""
    if unknown := [name for name in workloads if name not in WORKLOADS]:
        raise ConfigError(f"There is no workload {unknown[0]!r}. There are: {', '.join(WORKLOADS)}.")
    rng = random.Random(seed)
    return asyncio.run(_all(endpoint, workloads, requests, concurrency, rng, first_wait))


async def _all(
    endpoint: Endpoint, workloads: Sequence[str], requests: int, concurrency: int, rng: random.Random, wait: float
) -> list[Measured]:
    async with Client(endpoint, connections=concurrency, stream=True, first_wait=wait) as client:
        await client.models()  # opens a connection: the first answer waits for no handshake
        return [await _workload(client, name, requests, concurrency, rng) for name in workloads]


async def _workload(client: Client, name: str, requests: int, concurrency: int, rng: random.Random) -> Measured:
    read, write = WORKLOADS[name]
    e, places = client.endpoint, asyncio.Semaphore(concurrency)

    async def one(prompt: str) -> tuple[Reply, Times]:
        body = {"model": e.model, "messages": [{"role": "user", "content": prompt}], e.length: write, "temperature": 0}
        async with places:
            return await client.chat(body, random.Random(prompt))

    found = await asyncio.gather(*(one(_prompt(read, write, rng)) for _ in range(requests)), return_exceptions=True)
    for error in found:
        if isinstance(error, Failed):
            raise DataError(f"The endpoint {e.name} did not serve the workload {name!r}: {error}.") from error
        if isinstance(error, BaseException):
            raise error
    answers = [pair for pair in found if not isinstance(pair, BaseException)]
    streams = [
        Stream(
            ((times.first_token, times.first_tokens), (times.last_token, usage.completion_tokens - times.first_tokens)),
            usage.reasoning_tokens,
        )
        for reply, times in answers
        if (usage := reply.usage) and times.first_token is not None and times.last_token is not None
    ]
    usages = [reply.usage for reply, _ in answers]
    return Measured(
        name, fmean(u.prompt_tokens for u in usages), fmean(u.completion_tokens for u in usages), measure(streams)
    )


def _prompt(read: int, write: int, rng: random.Random) -> str:
    """About `read` tokens of words in an order that was never there before, and a task that takes `write` to do."""
    ask = f" Tell a story of at least {write} words in which these words occur, and do not stop early: "
    count = max(1, round((read - 30) / _TOKENS))
    return f"[{rng.getrandbits(64):016x}]{ask}" + " ".join(rng.choice(_WORDS) for _ in range(count))


def report(endpoint: Endpoint, measured: Sequence[Measured]) -> dict[str, Any]:
    """Plain values: the workloads' medians, and the blended price where prices are known."""
    prices = endpoint.prices
    rows = [{"name": m.name, "read": m.read, "written": m.written, **asdict(m.speed)} for m in measured]
    out: dict[str, Any] = {"endpoint": endpoint.name, "url": endpoint.url, "answer_tokens": ANSWER}
    out["workloads"] = [{k: _finite(v) for k, v in row.items()} for row in rows]
    if prices is not None:
        out |= {
            "blend": list(BLEND),
            "blended_price": blended_price(prices.input, prices.output),
            "currency": prices.currency,
        }
    return out


def write_report(path: Path, told: dict[str, Any]) -> Path:
    """Writes it as JSON, atomically."""
    write_atomic(path, (json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode())
    return path


def print_report(told: dict[str, Any], console: Console | None = None) -> None:
    """A row per workload, and the price."""
    console = console or Console()
    table = Table(title=f"{told['url']}: medians", title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("workload")
    for name in ("answers", "read", "written", "first token s", "tokens/s", f"{told['answer_tokens']} tokens in s"):
        table.add_column(name, justify="right")
    for row in told["workloads"]:
        figures = [(row["read"], 0), (row["written"], 0), (row["first_token"], 3), (row["output_speed"], 1)]
        cells = ["–" if x is None else f"{x:,.{digits}f}" for x, digits in [*figures, (row["end_to_end"], 2)]]
        table.add_row(row["name"], str(row["n"]), *cells)
    console.print(table)
    if "blended_price" in told:
        a, b = told["blend"]
        console.print(
            f"blended price ({a} parts read, {b} written): {told['blended_price']:g} {told['currency']} per M"
        )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
