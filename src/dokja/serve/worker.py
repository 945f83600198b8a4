"""The engine process: `python -m dokja.serve.worker FD` speaks `serve.wire` over the socket FD until it is closed.

    loop: take what the server says ─► one step of the engine ─► send tokens, endings and a beat, all at once
              └─ a grammar ─► compiled in a thread ─► submitted when that is done: nobody's tokens wait for it

It ignores SIGTERM and SIGINT: the server is who finishes what runs, and the end of the connection ends this process,
also where the server was killed. What goes wrong inside a step ends it too, because nobody knows the engine's state
after that; the server starts the next one.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Protocol

from dokja.engine.api import Completion, Event, Request
from dokja.errors import DokjaError
from dokja.serve.wire import Ending, Unpacker, ending_to_wire, event_to_wire, pack, request_from_wire

TICK = 0.25
"""Seconds between two beats of an idle engine, and between two reports of its figures."""
REST = 0.01
"""Seconds between two messages in which answers only grow: a server woken at every short step takes the engine's core.
The first token of an answer, and its end, are sent at once."""

_SMALL_BYTES = 32 << 20
"""Weights in fp32 that caches hold."""


class Steps(Protocol):
    """The part of an engine that is used here."""

    def prepare(self, request: Request) -> None: ...
    def submit(self, request: Request) -> str: ...
    def step(self, done: list[Completion] | None = None) -> list[Event]: ...
    def abort(self, name: str) -> Completion | None: ...
    def stats(self) -> dict[str, Any]: ...


class Worker:
    """One engine behind one socket."""

    def __init__(self, sock: socket.socket, engine: Steps, unpacker: Unpacker) -> None:
        self._sock, self._engine, self._unpacker = sock, engine, unpacker
        self._at_work: set[str] = set()
        self._heard: set[str] = set()  # of them, those that have sent a token
        self._events: list[list[Any]] = []  # not yet sent
        self._compiling: dict[str, tuple[Request, Future[None]]] = {}
        self._compilers = ThreadPoolExecutor(2)
        self._bell, self._ring = socket.socketpair()  # a byte for every grammar that is compiled
        self._beat = 0
        self._sent = self._told = 0.0  # when anything, and when figures were sent last

    def run(self) -> None:
        """Serves until the server closes the connection."""
        while self._listen():
            self._beat += 1
            ended, first = self._refused, False
            if self._at_work:
                done: list[Completion] = []
                for event in self._engine.step(done):
                    self._events.append(event_to_wire(event))
                    if event.id not in self._heard:
                        first = True
                        self._heard.add(event.id)
                for c in done:
                    self._forget(c.id)
                    ended.append(ending_to_wire(c.id, Ending(c.finish, c.cached_tokens, c.stopped_by, c.forced_at)))
            now = time.monotonic()
            if not (ended or first or now - self._sent >= REST):
                continue
            message: dict[str, Any] = {"beat": self._beat}
            if self._events:
                message["events"], self._events = self._events, []
            if ended:
                message["ended"] = ended
            if ended or now - self._told > TICK:
                self._told = now
                message["stats"] = self._engine.stats()
            self._sock.sendall(pack(message))
            self._sent = now

    def _listen(self) -> bool:
        """Does what the server said meanwhile -> whether it is still there. Waits a tick where there is no work."""
        self._refused: list[list[Any]] = []
        wait = 0.0 if self._at_work else TICK
        while ready := select.select([self._sock, self._bell], [], [], wait)[0]:
            if self._bell in ready:
                self._bell.recv(1 << 10)
                self._take_compiled()
            if self._sock in ready:
                data = self._sock.recv(1 << 20)
                if not data:
                    return False
                for message in self._unpacker.feed(data):
                    self._obey(message)
            wait = 0.0
        return True

    def _obey(self, message: dict[str, Any]) -> None:
        if "abort" in message:
            if (compiling := self._compiling.pop(message["abort"], None)) is not None:
                compiling[1].cancel()
            self._engine.abort(message["abort"])
            self._forget(message["abort"])
        elif "submit" in message:
            try:
                request = request_from_wire(message["submit"])
                if request.grammar is None:
                    self._submit(request)
                else:
                    self._compile(request)
            except DokjaError as error:
                self._refuse(message["submit"]["id"], error)

    def _submit(self, request: Request) -> None:
        self._engine.submit(request)
        self._at_work.add(request.id)

    def _refuse(self, name: str, error: DokjaError) -> None:
        self._refused.append(ending_to_wire(name, Ending("error", message=str(error), trouble="refused")))

    def _compile(self, request: Request) -> None:
        """Submits a request when its grammar is compiled."""
        future = self._compilers.submit(self._engine.prepare, request)
        self._compiling[request.id] = (request, future)
        future.add_done_callback(lambda _: self._ring.send(b"."))

    def _take_compiled(self) -> None:
        for name, (request, future) in list(self._compiling.items()):
            if future.done():
                del self._compiling[name]
                try:
                    future.result()
                    self._submit(request)
                except DokjaError as error:
                    self._refuse(name, error)

    def _forget(self, name: str) -> None:
        self._at_work.discard(name)
        self._heard.discard(name)


def leave_room(spec: dict[str, Any]) -> None:
    """A core for the server where the model is small. Its steps are so short that they wait for the slowest thread more
    than they work: on 2 cores and 8 answers at once, one thread serves a third more tokens than two (LOG.md)."""
    import torch

    from dokja.model.spec import ModelSpec

    if 4 * ModelSpec.from_dict(spec).params <= _SMALL_BYTES:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def load(what: dict[str, Any], life: int) -> tuple[Steps, dict[str, Any]]:
    """The engine that a load message names, and its facts as plain data (`serve.served` reads them).

    `{kind: "model", path, options}` is `engine.load.load_engine(path, **options)`, `{kind: "scripted", script}` is
    `serve.scripted`. Raises DokjaError where it cannot be loaded.
    """
    if what["kind"] == "scripted":
        from dokja.serve.scripted import Script, ScriptedEngine

        script = Script.from_wire(what["script"])
        return ScriptedEngine(script, life), {**script.info, "context": script.context}
    from dokja.engine.load import load_engine

    engine, tokenizer, info = load_engine(what["path"], **what.get("options", {}))
    facts = {key: info[key] for key in ("name", "path", "sha256", "template_sha256")}
    facts["tokenizer_sha256"] = tokenizer.sha256
    facts["context"] = info["spec"]["context"]
    leave_room(info["spec"])
    facts["style"] = info["style"].name
    facts["images"] = info["images"].to_official() if info["images"] else None
    facts["sampling"] = asdict(info["sampling"])
    return engine, facts


def main(fd: int) -> None:
    """The process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sock, unpacker = socket.socket(fileno=fd), Unpacker()
    first: dict[str, Any] | None = None
    while first is None:
        data = sock.recv(1 << 20)
        if not data:
            return
        first = next(iter(unpacker.feed(data)), None)
    try:
        try:
            engine, info = load(first["load"], first["life"])
        except DokjaError as error:
            sock.sendall(pack({"failed": str(error)}))
            return
        sock.sendall(pack({"ready": info}))
        Worker(sock, engine, unpacker).run()
    except (BrokenPipeError, ConnectionResetError):
        return  # the server is gone


if __name__ == "__main__":
    main(int(sys.argv[1]))
