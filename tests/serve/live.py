"""A live server in front of scripted engines, for tests that speak HTTP to it."""

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from models_small import tokenizer

from dokja.engine.recommended import Recommended
from dokja.serve.api.app import make_app
from dokja.serve.api.state import Server
from dokja.serve.client import EngineClient
from dokja.serve.limits import Limits
from dokja.serve.models import Model, Models, Served
from dokja.serve.remote import Remote, dialect_of
from dokja.serve.remote_model import RemoteModel
from dokja.text.styles import STYLES

NAMES = list(STYLES)


def info(name: str, folder: Path, **sampling: float) -> dict[str, Any]:
    """What an engine process tells of a model of the format `name`; its tokenizer is laid in `folder`."""
    tok = tokenizer(name)
    tok.save(folder)
    return {
        "name": name, "path": str(folder), "sha256": "0" * 64, "tokenizer_sha256": tok.sha256, "style": name,
        "images": None, "sampling": asdict(Recommended(**sampling)),
    }  # fmt: skip


def script(name: str, folder: Path, answers: Sequence[Sequence[int]], **more: Any) -> dict[str, Any]:
    """What an EngineClient loads to speak the format `name` with these answers (of seed 0, 1, ...)."""
    told = {"answers": [list(a) for a in answers], "info": info(name, folder), "tokenizer": str(folder)}
    return {"kind": "scripted", "script": {**told, **more}}


@contextlib.asynccontextmanager
async def serving(loads: dict[str, Any], limits: Limits | None = None, **how: Any) -> AsyncIterator[tuple[str, Server]]:
    """(address, server) of a live server with these models; everything has ended afterwards."""
    limits = limits or Limits()
    async with listening(
        [Model(name, EngineClient(load), limits) for name, load in loads.items()], limits, **how
    ) as at:
        yield at


@contextlib.asynccontextmanager
async def listening(models: Sequence[Served], limits: Limits, **how: Any) -> AsyncIterator[tuple[str, Server]]:
    """The same with any models."""
    server = Server(Models(models), limits, **how)
    sock = socket.create_server(("127.0.0.1", 0))
    http = uvicorn.Server(uvicorn.Config(make_app(server), log_level="warning", lifespan="off"))
    await server.models.start()
    task = asyncio.create_task(http.serve([sock]))
    try:
        while not http.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}", server
    finally:
        http.should_exit = http.force_exit = True
        await task
        await server.models.stop(0)


def in_thread(
    loads: dict[str, Any], limits: Limits | None = None, **how: Any
) -> contextlib.AbstractContextManager[str]:
    """The address of a live server that runs beside the test, for clients that know no asyncio."""
    return _threaded(lambda: serving(loads, limits, **how))


def in_front(url: str, names: Sequence[str], limits: Limits | None = None) -> contextlib.AbstractContextManager[str]:
    """The same for a server whose models another one has, at `url`."""
    limits = limits or Limits()
    made = lambda: [RemoteModel(name, Remote(dialect_of(url), name), limits) for name in names]  # noqa: E731
    return _threaded(lambda: listening(made(), limits))


@contextlib.contextmanager
def _threaded(begin: Callable[[], contextlib.AbstractAsyncContextManager[tuple[str, Server]]]) -> Iterator[str]:
    address: queue.Queue[Any] = queue.Queue()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def main() -> None:
        async with begin() as (url, _):
            address.put(url)
            await over.wait()

    def work() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as error:
            address.put(error)
        finally:
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = address.get(timeout=60)
        if isinstance(found, BaseException):
            raise found
        yield found
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(over.set)
        thread.join()
