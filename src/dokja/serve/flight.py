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
    rest_until: float = 0.0  # time of the event loop before which the reader is woken for an ending alone
    _timer: asyncio.TimerHandle | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def put(self, item: Event | Ending) -> None:
        if self.done:
            return
        self.done = isinstance(item, Ending)
        self.items.append(item)
        if self._timer is not None and not self.done:
            return
        if self.done or self._loop.time() >= self.rest_until:
            self._wake()
        else:
            self._timer = self._loop.call_at(self.rest_until, self._wake)

    def take(self, rest: float) -> list[Event | Ending]:
        """What has come; more is told after `rest` seconds at the earliest."""
        self.wake.clear()
        self.rest_until = self._loop.time() + rest
        items, self.items = self.items, []
        return items

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake.set()


def lost(sentence: str) -> Ending:
    """The end of an answer whose engine is gone."""
    return Ending("error", message=sentence, trouble="lost")
