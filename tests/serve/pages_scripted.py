"""An endpoint whose chunks and delays are chosen, and pages that speak to it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from dokja.serve.pages.endpoint import EndpointError, ModelCard
from dokja.serve.pages.frame import Pages
from dokja.serve.pages.writing import Desk
from dokja.serve.threads import Threads

CARDS = [
    ModelCard("dokja-tiny"),
    ModelCard("exaone-4.5-33b", sees=True),
    ModelCard("deep-2.4b", at_once=False),
]


class Scripted:
    """Thinks `thought` and says `text`, a few characters a chunk. `bodies` holds what was asked."""

    def __init__(self, thought: str = "3 + 4", text: str = "It is **7**.", delay: float = 0.0, step: int = 4) -> None:
        self.cards, self.thought, self.text, self.delay, self.step = list(CARDS), thought, text, delay, step
        self.bodies: list[dict[str, Any]] = []
        self.closed = 0
        self.fails: EndpointError | None = None
        self.key: str | None = None

    async def models(self) -> list[ModelCard]:
        if self.key == "wrong":
            raise EndpointError(401, "no such key")
        return self.cards

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        self.bodies.append(dict(body))
        if self.fails:
            raise self.fails
        kwargs = body.get("chat_template_kwargs") or {}
        thought = self.thought if kwargs.get("enable_thinking", True) else ""
        try:
            for kind, text in (("reasoning_content", thought), ("content", self.text)):
                for at in range(0, len(text), self.step):
                    await asyncio.sleep(self.delay)
                    yield _chunk({kind: text[at : at + self.step]})
            yield _chunk({}, "stop")
            details = {"reasoning_tokens": len(thought.split())}
            usage = {
                "completion_tokens": len((thought + " " + self.text).split()),
                "completion_tokens_details": details,
            }
            yield {"choices": [], "usage": usage}
        finally:
            self.closed += 1


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}


def pages_of(folder: Path, endpoint: Scripted, base: str = "", locked: bool = False) -> Pages:
    """Pages whose every key leads to `endpoint`; their conversations and runs lie in `folder`."""
    threads = Threads(folder / "threads.db")

    def made(key: str | None) -> Scripted:
        endpoint.key = key if key or not locked else "wrong"
        return endpoint

    return Pages(made, threads, Desk(threads), folder / "runs", base, locked)
