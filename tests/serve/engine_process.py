"""Scripted engine processes for the tests of what stands above them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from dokja.engine.api import Request
from dokja.serve.client import EngineClient
from dokja.serve.wire import Ending

END = 2
LONG = [*range(100, 160), END]
"""Tokens of a scripted answer that takes a while."""


def scripted(answers: list[list[int]] = [LONG], **script: Any) -> dict[str, Any]:  # noqa: B006 - never changed
    """What `EngineClient` is to load."""
    return {"kind": "scripted", "script": {"answers": answers, "info": {"tokenizer_sha256": "t"}, **script}}


def request(seed: int = 0, **changes: Any) -> Request:
    return Request(**{"id": f"r{seed}", "prompt": [1, 5], "max_tokens": 200, "seed": seed, "stop": (END,), **changes})


@contextlib.asynccontextmanager
async def engine(load: dict[str, Any], **limits: float) -> AsyncIterator[EngineClient]:
    client = EngineClient(load, **limits)
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


async def collect(client: EngineClient, wanted: Request, **how: Any) -> tuple[list[int], list[Ending]]:
    """(tokens, endings) of a request."""
    tokens, endings = [], []
    async for item in client.stream(wanted, **how):
        if isinstance(item, Ending):
            endings.append(item)
        else:
            assert item.id == wanted.id
            assert not endings, "an event behind the ending"
            tokens.append(item.token)
    return tokens, endings


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for something that must come about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Callable[[], Awaitable[None]], seconds: float = 30.0) -> None:
    """Runs an async test; nothing may hang."""

    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await test()

    asyncio.run(limited())
