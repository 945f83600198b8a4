"""The server's side of an engine process: requests in, their tokens out, whatever happens to the process.

    stream(request) ──► submit ──► events ... Ending        exactly one Ending for every request, always the last item
         └─ closed early ──► abort: the engine frees its pages within one step

A process that dies or is stuck is replaced, and what it was writing is asked for again: with the same seed the same
tokens come, and those already passed on are compared and skipped. `swap` starts a second process with other weights
beside the first; new requests go there and the first ends when its last answer is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Literal

from dokja.engine.api import Event, Request
from dokja.serve.flight import EngineLost, Flight, lost
from dokja.serve.process import EngineProcess
from dokja.serve.wire import Ending, ending_from_wire, event_from_wire, request_to_wire

State = Literal["loading", "ready", "draining", "dead"]
_TRIES = 3  # times that one request is started: it may itself be what kills the engine
_LIVES = 5  # processes that may die one after another without finishing a request
_OTHER = "The engine was replaced and does not write the same answer again. Ask again."
_REST = (0.02, 0.1)  # least and most seconds between two batches of an answer: nobody reads faster, and each costs
_BATCHES = 2000  # as much as a dozen tokens; so many a second are told of all answers together
_PAUSE = 0.5  # seconds before a process is started in place of one that could not be loaded


class EngineClient:
    """One model's engine. `load` as in `serve.worker.load`.

    stuck_seconds: the longest step that is believed (a prompt of thousands of tokens takes long on a small machine).
    """

    def __init__(self, load: Mapping[str, Any], *, stuck_seconds: float = 60.0, load_seconds: float = 900.0) -> None:
        self.info: dict[str, Any] = {}  # what the engine told of its model
        self.restarts = 0
        self.replays = 0
        self._load, self._limits = dict(load), {"stuck_seconds": stuck_seconds, "load_seconds": load_seconds}
        self._flights: dict[str, Flight] = {}
        self._names = map(str, itertools.count())
        self._current: EngineProcess | None = None
        self._coming: EngineProcess | None = None  # of a swap
        self._leaving: list[EngineProcess] = []
        self._loaded: asyncio.Event = asyncio.Event()  # current or coming: loaded, or failed for good
        self._barren = 0  # processes since the last finished request
        self._draining = False
        self._dead: str | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- its state ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What a health check should know."""
        if self._dead is not None:
            return "dead"
        if self._draining:
            return "draining"
        return "ready" if self._current is not None and self._current.ready else "loading"

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the engine was last heard of."""
        return self._current.beat_age if self._current else 0.0

    @property
    def pid(self) -> int:
        """Of the process that new requests go to."""
        return self._current.pid if self._current else 0

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return len(self._flights)

    def stats(self) -> dict[str, Any]:
        """The engine's own figures as last told, and restarts, replays, in_flight."""
        told = self._current.stats if self._current else {}
        return {**told, "restarts": self.restarts, "replays": self.replays, "in_flight": self.in_flight}

    # --- its life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the process and waits until it is loaded. Raises EngineLost with the sentence of what failed."""
        self._current = await self._spawn(self._load)
        await self._loaded.wait()
        if self._dead is not None:
            raise EngineLost(self._dead)

    async def stop(self, deadline: float = 0.0) -> None:
        """Takes no more requests, lets the running ones finish for `deadline` seconds, ends the process."""
        self._draining = True
        until = time.monotonic() + deadline
        while self._flights and self._dead is None and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self._lose(list(self._flights.values()), "The server is stopping. Ask again later.")
        for task in self._tasks:
            task.cancel()
        processes = [p for p in (self._current, self._coming, *self._leaving) if p is not None]
        await asyncio.gather(*(process.close() for process in processes))

    async def swap(self, load: Mapping[str, Any]) -> None:
        """Loads other weights beside the present ones, then sends new requests there; answers that are being written
        are finished where they are. Raises EngineLost, and changes nothing, where they cannot be loaded or have
        another tokenizer (their prompts would not fit)."""
        if self._coming is not None or self.state != "ready" or self._current is None:
            raise EngineLost(f"Weights cannot be changed while the engine is {self.state}. Try again in a while.")
        self._loaded.clear()
        self._coming = new = await self._spawn(load)
        await self._loaded.wait()
        self._coming = None
        why = None if new.ready else new.failed or f"The engine for {load.get('path')} ended before it was loaded."
        if new.ready and new.info.get("tokenizer_sha256") != self.info.get("tokenizer_sha256"):
            why = "The other weights have another tokenizer. Serve them as a model of their own."
        if why is not None:
            await new.close()
            raise EngineLost(why)
        old, self._current, self._load, self.info = self._current, new, dict(load), new.info
        if old.ready:
            self._leaving.append(old)
            self._release(old)

    async def reload(self) -> None:
        """`swap` to what lies at the same place by now, such as a run's newest checkpoint."""
        await self.swap(self._load)

    async def _spawn(self, load: Mapping[str, Any], life: int = 0) -> EngineProcess:
        process = EngineProcess(
            load,
            life,
            on_message=self._hear,
            on_exit=self._left,
            busy=lambda p: any(f.process is p for f in self._flights.values()),
            **self._limits,
        )
        await process.start()
        return process

    def _hear(self, process: EngineProcess, message: dict[str, Any]) -> None:
        if "ready" in message:
            if process is not self._coming:
                self.info = process.info
                for flight in [f for f in self._flights.values() if f.process is None]:
                    self._submit(flight)
            self._loaded.set()
        for raw in message.get("events", ()):
            writing = self._flights.get(raw[0])
            if writing is not None and writing.process is process:
                self._pass_on(writing, event_from_wire(raw))
        for raw in message.get("ended", ()):
            name, ending = ending_from_wire(raw)
            ended = self._flights.get(name)
            if ended is not None and ended.process is process:
                self._barren = 0
                self._end(ended, lost(_OTHER) if ended.skip else ending)

    def _pass_on(self, flight: Flight, event: Event) -> None:
        if flight.skip:
            if flight.sent[-flight.skip] != event.token:
                self._abort(flight)
                self._end(flight, lost(_OTHER))
                return
            flight.skip -= 1
            return
        flight.sent.append(event.token)
        flight.put(Event(flight.request.id, *event[1:]))

    def _left(self, process: EngineProcess) -> None:
        """A process is gone: another takes its place, and its requests go there."""
        orphans = [f for f in self._flights.values() if f.process is process]
        for flight in orphans:
            flight.process, flight.skip = None, len(flight.sent)
        self._lose(
            [f for f in orphans if f.tries >= _TRIES or not (f.replay or not f.sent)],
            "The engine failed while it wrote this answer. Ask again.",
        )
        if process in self._leaving:
            self._leaving.remove(process)
        if process is self._coming:
            self._loaded.set()
        elif process is self._current:
            self._barren += 1
            if self._barren > _LIVES or not self.info:  # a first process that cannot load will not load again
                self._die(
                    process.failed or "The engine process ends without an answer. Look at its messages on stderr."
                )
                return
            self.restarts += 1
            self._later(self._restart(process))
            return
        for flight in orphans:  # of a process that was leaving: the current one takes over
            if not flight.done:
                self._submit(flight)

    async def _restart(self, gone: EngineProcess) -> None:
        if gone.failed is not None:
            await asyncio.sleep(_PAUSE)
        if not self._draining or self._flights:
            self._current = await self._spawn(self._load, gone.life + 1)

    def _die(self, sentence: str) -> None:
        self._dead = sentence
        self._lose(list(self._flights.values()), sentence)
        self._loaded.set()

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- requests -----------------------------------------------------------------------------------------------

    async def stream(
        self, request: Request, *, replay: bool = True, until: float | None = None
    ) -> AsyncGenerator[Event | Ending, None]:
        """The tokens of an answer and its one Ending; see `batches`."""
        async with contextlib.aclosing(self.batches(request, replay=replay, until=until)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def batches(
        self, request: Request, *, replay: bool = True, until: float | None = None
    ) -> AsyncGenerator[list[Event | Ending], None]:
        """The same, as many items at once as have come since the last ones were taken. Close it to abort.

        The first token comes at once, the next ones a fiftieth of a second apart where they are written faster (less
        often where many answers are), the end at once again.

        `replay`: the seed was chosen, or no matter, so that the answer may be written again where an engine is lost;
        without it that is done only before its first token. `until`: the time of the event loop at which it ends in any
        case. Raises EngineLost where nothing is served any more.
        """
        if self._dead is not None:
            raise EngineLost(self._dead)
        if self._draining:
            raise EngineLost("The server is stopping and takes no more requests. Ask again later.")
        name = next(self._names)
        self._flights[name] = flight = Flight(name, request, replay)
        timer = asyncio.get_running_loop().call_at(until, self._expire, flight) if until is not None else None
        try:
            self._submit(flight)
            while True:
                await flight.wake.wait()
                items = flight.take(min(max(_REST[0], len(self._flights) / _BATCHES), _REST[1]))
                yield items
                if isinstance(items[-1], Ending):
                    return
        finally:
            if timer is not None:
                timer.cancel()
            self._abort(flight)
            self._forget(flight)

    def _abort(self, flight: Flight) -> None:
        if not flight.done and flight.process is not None:
            flight.process.send({"abort": flight.name})

    def _expire(self, flight: Flight) -> None:
        self._abort(flight)
        self._end(flight, Ending("error", message="The answer took longer than this server allows.", trouble="late"))

    def _submit(self, flight: Flight) -> None:
        """Sends a request to the current process, or leaves it for the next one where there is none."""
        if self._current is None or not self._current.ready:
            return
        self.replays += flight.tries > 0
        flight.process, flight.tries = self._current, flight.tries + 1
        self._current.send({"submit": request_to_wire(replace(flight.request, id=flight.name))})

    def _end(self, flight: Flight, ending: Ending) -> None:
        flight.put(ending)
        self._forget(flight)

    def _forget(self, flight: Flight) -> None:
        self._flights.pop(flight.name, None)
        if flight.process is not None:
            self._release(flight.process)

    def _lose(self, flights: list[Flight], sentence: str) -> None:
        for flight in flights:
            self._end(flight, lost(sentence))

    def _release(self, process: EngineProcess) -> None:
        """A process that is leaving goes when its last answer is written."""
        if process in self._leaving and not any(f.process is process for f in self._flights.values()):
            self._leaving.remove(process)
            self._later(process.close())
