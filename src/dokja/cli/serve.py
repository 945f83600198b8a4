"""`dokja serve`: an API that OpenAI's clients speak, in front of one or several models."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dokja.cli.model_path import Weights, find_model
from dokja.errors import ConfigError

KEYS = "DOKJA_KEYS"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Release folders, GGUF files, run folders or runs' names; NAME=FOLDER."
        ),
    ],
    engine: Annotated[
        str | None,
        typer.Option(help="Another engine that has the models: vllm, llama.cpp, NAME=URL, or the URL of its /v1."),
    ] = None,
    engine_key: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable with the key to that engine.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; beyond loopback only with a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    key: Annotated[
        list[str] | None, typer.Option(help=f"A key that clients must show; may be repeated. Or {KEYS}, with commas.")
    ] = None,
    keys: Annotated[
        str | None, typer.Option(help="Database of keys and usage (see `dokja keys`): a file or an SQLAlchemy URL.")
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="Fewer bits: faster answers of a large model, a little less exact.")
    ] = "fp32",
    draft: Annotated[int, typer.Option(min=0, help="Tokens to guess ahead a step; faster, the same answers.")] = 0,
    slots: Annotated[int, typer.Option(min=1, help="Answers written at once.")] = 32,
    kv_tokens: Annotated[
        int | None, typer.Option(min=1, help="Positions that all answers share; else as needed.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Answers at work and waiting; more are turned away (429).")] = 256,
    seconds: Annotated[float, typer.Option(min=1, help="The longest time of one answer.")] = 600.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens of one answer.")] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that answers have to finish when it is stopped.")] = 60.0,
    log_text: Annotated[bool, typer.Option("--log-text", help="Log what models are asked as well.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder that holds the run folders.")] = Path("runs"),
    pages: Annotated[bool, typer.Option(help="Chat and runs in a browser.")] = True,
    threads: Annotated[
        str, typer.Option(help="Where the chat page keeps conversations: a file or an SQLAlchemy URL.")
    ] = str(Path("~/.local/share/dokja/threads.db")),
) -> None:
    """Serve models at http://HOST:PORT/v1 until Ctrl-C; SIGHUP loads the models again.

    Thinking, tools, JSON and images as the model can."""
    named = dict(_named(text, runs) if engine is None else _renamed(text) for text in models)
    if len(named) < len(models):
        raise ConfigError("Two models have the same name. Name them apart: NAME=FOLDER.")
    secrets = [*(key or ()), *filter(None, os.environ.get(KEYS, "").split(","))]
    try:
        from dokja.serve import running

        if pages:
            from dokja.serve.pages.mount import BASE, make_pages, mount
    except ImportError as error:
        raise ConfigError(f"Serving needs {error.name}. Install it: python -m pip install 'dokja[serve]'.") from error
    import asyncio

    from dokja.serve.api.state import Server
    from dokja.serve.client import EngineClient
    from dokja.serve.keys import open_keys
    from dokja.serve.limits import Limits
    from dokja.serve.logs import start_log
    from dokja.serve.models import Model, Models, Served
    from dokja.serve.remote import Remote, dialect_of
    from dokja.serve.remote_model import RemoteModel

    running.check_host(host, bool(secrets or keys))
    limits = Limits(requests=queue, seconds=seconds, max_tokens=max_tokens)
    options: dict[str, Any] = {"slots": slots, "draft": draft, "kv_tokens": kv_tokens}
    options |= {} if weights == "fp32" else {"weights": weights}
    served: list[Served]
    if engine is not None:
        other = dialect_of(engine)
        served = [RemoteModel(name, Remote(other, str(its), engine_key), limits) for name, its in named.items()]
    else:
        loads = {n: {"kind": "model", "path": str(folder), "options": options} for n, folder in named.items()}
        served = [Model(name, EngineClient(load), limits) for name, load in loads.items()]
    start_log()
    server = Server(Models(served), limits, keys=open_keys(secrets, keys), log_text=log_text)
    sock = running.listen(host, port)
    taken = sock.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{taken}"

    def ready() -> None:
        print(f"Serving {', '.join(named)} at {address}/v1", flush=True)
        if pages:
            print(f"Chat and runs at {address}{BASE}/", flush=True)

    more: dict[str, Any] = {}
    if pages:
        site = make_pages(host, taken, threads, runs, server.keys is not None, limits)
        server.doors = (BASE,)
        more["mount"] = lambda app: mount(app, site)

    print(f"Loading {', '.join(named)} ...", file=sys.stderr)
    asyncio.run(running.run(server, sock, drain_seconds=drain, on_ready=ready, **more))


def _renamed(text: str) -> tuple[str, str]:
    """(name, the other engine's name) of NAME or NAME=ITS_NAME."""
    name, _, its = text.partition("=")
    return name, its or name


def _named(text: str, runs: Path) -> tuple[str, Path]:
    """(name, folder) of MODEL or NAME=FOLDER."""
    name, sign, place = text.partition("=")
    folder = find_model(place if sign else text, runs, files=True)
    return (name if sign else folder.resolve().name.removesuffix(".gguf")), folder
