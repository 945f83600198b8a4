"""One engine process as asyncio sees it: started, spoken to, watched, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dokja
from dokja.serve.wire import Unpacker, pack

_CHECKS = 4  # looks within the time without a beat that counts as stuck
_LEAVE = 2.0  # seconds that a process has to end by itself


class EngineProcess:
    """A worker and the connection to it.

    `on_message` hears of every message, `on_exit` once of its end, whatever ended it. `stuck_seconds` without a beat,
    while `busy()` says that there is work, kill it; so do `load_seconds` without being loaded. Only the looks of an
    event loop that is not late itself count, so that a pause of the whole machine kills nobody.
    """

    def __init__(
        self,
        load: Mapping[str, Any],
        life: int,
        *,
        on_message: Callable[[EngineProcess, dict[str, Any]], None],
        on_exit: Callable[[EngineProcess], None],
        busy: Callable[[EngineProcess], bool],
        stuck_seconds: float,
        load_seconds: float,
    ) -> None:
        self.load, self.life = load, life
        self.ready = False
        self.info: dict[str, Any] = {}
        self.failed: str | None = None
        self.stats: dict[str, Any] = {}
        self._on_message, self._on_exit, self._busy = on_message, on_exit, busy
        self._stuck_seconds, self._load_seconds = stuck_seconds, load_seconds
        self._beat_at = time.monotonic()
        self._beats = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """Of the process; 0 before it is started."""
        return self._child.pid if self._child else 0

    @property
    def beat_age(self) -> float:
        """Seconds since it was last heard of."""
        return time.monotonic() - self._beat_at

    async def start(self) -> None:
        """Starts the process; `ready` becomes true later."""
        ours, theirs = socket.socketpair()
        with theirs:
            home = str(Path(dokja.__file__).parent.parent)
            path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
            self._child = subprocess.Popen(
                [sys.executable, "-m", "dokja.serve.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,  # ours is for what a person asked for
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the server, which then ends this process in its own time
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self.send({"load": dict(self.load), "life": self.life})
        self._tasks = [asyncio.create_task(self._read(reader)), asyncio.create_task(self._watch())]

    def send(self, message: Mapping[str, Any]) -> None:
        """Says something; what a dead process should have heard is lost, and `on_exit` tells."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(pack(message))

    def kill(self) -> None:
        """Ends it at once; `on_exit` follows."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()

    async def close(self) -> None:
        """Ends it without `on_exit`: by closing the connection, and by force where that is not heard."""
        self._on_exit = lambda process: None
        if self._writer is not None:
            self._writer.close()
        for task in self._tasks:
            task.cancel()
        for _ in range(int(_LEAVE / 0.02)):
            if self._child is None or self._child.poll() is not None:
                return
            await asyncio.sleep(0.02)
        self.kill()
        if self._child is not None:
            await asyncio.to_thread(self._child.wait)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        unpacker = Unpacker()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 18):
                for message in unpacker.feed(data):
                    self._hear(message)
        self.kill()
        if self._child is not None:
            await asyncio.to_thread(self._child.wait)
        self._tasks[1].cancel()
        self.ready = False
        if self._writer is not None:
            self._writer.close()
        self._on_exit(self)

    def _hear(self, message: dict[str, Any]) -> None:
        self._beat_at = time.monotonic()
        self._beats += 1
        if "ready" in message:
            self.ready, self.info = True, message["ready"]
        self.failed = message.get("failed", self.failed)
        self.stats = message.get("stats", self.stats)
        self._on_message(self, message)

    async def _watch(self) -> None:
        silent, heard, since = 0, -1, time.monotonic()
        while True:
            pause = self._stuck_seconds / _CHECKS
            late = time.monotonic()
            await asyncio.sleep(pause)
            late = time.monotonic() - late - pause
            if not self.ready:
                if time.monotonic() - since > self._load_seconds:
                    self.kill()
            elif self._beats != heard or not self._busy(self):
                silent, heard = 0, self._beats
            elif late < pause / 2:
                silent += 1
                if silent >= _CHECKS:
                    self.kill()
