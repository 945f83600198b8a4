"""A request on its way through an engine process, and through another one where the first is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dokja.engine.api import Event, Request
from dokja.errors import DokjaError
from dokja.serve.process import EngineProcess
from dokja.serve.wire import Ending


class EngineLost(DokjaError):
    """There is no engine to serve a request: it is stopping, or could not be started."""


@dataclass(eq=False)
class Flight:
    """A request on its way; `name` is what the engine calls it."""

    name: str
    request: Request
    replay: bool
    process: EngineProcess | None = None
    items: list[Event | Ending] = field(default_factory=list)  # not yet taken by the reader
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[int] = field(default_factory=list)  # tokens that the reader was given
    skip: int = 0  # of them, those that a replay has still to repeat
    tries: int = 0
    done: bool = False

    def put(self, item: Event | Ending) -> None:
        if not self.done:
            self.done = isinstance(item, Ending)
            self.items.append(item)
            self.wake.set()


def lost(sentence: str) -> Ending:
    """The end of an answer whose engine is gone."""
    return Ending("error", message=sentence, trouble="lost")
