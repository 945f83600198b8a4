"""The server as a process: loads the models while it already answers health checks, and stops without cutting answers.

SIGTERM or Ctrl-C ─► 503 for what is new ─► what runs finishes (deadline) ─► the engines end ─► exit
a second one      ─► at once
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from dokja.errors import ConfigError, DokjaError
from dokja.serve.api.app import LOOPBACK, make_app
from dokja.serve.api.state import Server

_log = logging.getLogger("dokja.serve")
_KEEP_ALIVE = 75  # seconds; clients keep connections for about a minute


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def check_host(host: str, keys: bool) -> None:
    """Raises ConfigError for an address that others reach, without keys."""
    if not keys and not is_loopback(host):
        raise ConfigError(
            f"Everybody who reaches {host} could use this server. Give it a key (--key), or leave --host at 127.0.0.1."
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises ConfigError where there is none to be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be used ({error.strerror}). Choose another --host or --port."
        ) from error
    return sock


async def run(
    server: Server,
    sock: socket.socket,
    *,
    drain_seconds: float,
    on_ready: Callable[[], object] = lambda: None,
    mount: Callable[[FastAPI], object] = lambda app: None,
) -> None:
    """Serves until a signal says to stop. Raises EngineLost where a model cannot be loaded.

    mount: puts more into the app, as pages are."""
    host = sock.getsockname()[0]
    app = make_app(server, LOOPBACK if server.keys is None and is_loopback(host) else None)
    mount(app)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=_KEEP_ALIVE)
    http, stopping = _Http(config), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            http.force_exit = http.should_exit = True
        server.draining = True
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        if not reloads and not server.draining:
            reloads.add(task := asyncio.create_task(_reload(server)))
            task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    serving = asyncio.create_task(http.serve([sock]))
    loading = asyncio.create_task(server.models.start())
    told = asyncio.create_task(stopping.wait())
    telling = asyncio.create_task(server.tell_running())
    try:
        await asyncio.wait({serving, loading, told}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            on_ready()
        await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.draining = True
        told.cancel()
        loading.cancel()
        telling.cancel()
        force = asyncio.create_task(_forced(http))
        await asyncio.wait(
            {asyncio.create_task(server.models.stop(drain_seconds)), force}, return_when=asyncio.FIRST_COMPLETED
        )
        force.cancel()
        await server.models.stop(0)
        http.should_exit = True
        await serving


async def _reload(server: Server) -> None:
    try:
        await server.models.reload()
        _log.warning("The models were loaded again.")
    except DokjaError as error:
        _log.warning("The models could not be loaded again: %s", error)


async def _forced(http: uvicorn.Server) -> None:
    while not http.force_exit:
        await asyncio.sleep(0.05)


class _Http(uvicorn.Server):
    """uvicorn without its own handlers of signals: stopping begins with the answers, not with the connections."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
