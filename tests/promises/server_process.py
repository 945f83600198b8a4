"""A server to be killed: `python server_process.py FOLDER` serves a scripted model with a ledger and conversations, and
prints its address. POST /say does what the chat page does when a person sends something: it answers what was kept."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from live import script
from models_small import segments, tokens

from dokja.serve import running
from dokja.serve.api import state
from dokja.serve.api.state import Server
from dokja.serve.client import EngineClient
from dokja.serve.keys import open_keys
from dokja.serve.limits import Limits
from dokja.serve.models import Model, Models
from dokja.serve.pages.asking import body_of
from dokja.serve.pages.endpoint import HttpEndpoint
from dokja.serve.pages.writing import Desk
from dokja.serve.threads import Threads
from dokja.text.chat import Message

ANSWER = "three plus four is seven " * 4
ME = "local"


def main(folder: Path) -> None:
    answer = tokens("dokja", segments("dokja", Message("assistant", ANSWER), False))
    state.TELL = 0.05  # so that a kill meets rows of every age
    limits = Limits()
    client = EngineClient(script("dokja", folder / "model", [answer], step_seconds=0.004, slots=32))
    server = Server(Models([Model("m", client, limits)]), limits, keys=open_keys(["given"], str(folder / "keys.db")))
    server.doors = ("/say",)
    sock = running.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    threads = Threads(folder / "threads.db")
    desk, endpoint = Desk(threads), HttpEndpoint(f"{url}/v1", "given")

    def mount(app: FastAPI) -> None:
        @app.post("/say")
        async def say(request: Request) -> dict[str, Any]:
            asked = await request.json()
            thread = asked.get("thread") or threads.new(ME, asked["text"])
            before = threads.turns(ME, thread)
            turn = threads.say(ME, thread, before[-1].id if before else None, asked["text"])
            said = threads.begin(turn, 0, "m", False, None)
            body = body_of(threads.turns(ME, thread), said, lambda name: threads.picture(ME, name), False)
            desk.start(said, endpoint, body)
            writing = desk.get(said.id)
            if asked.get("wait") and writing is not None and writing._task is not None:
                await asyncio.wait([writing._task])
            return {"thread": thread, "turn": turn, "answer": said.content, "finish": said.finish}

    print_url = lambda: print(url, flush=True)  # noqa: E731
    asyncio.run(running.run(server, sock, drain_seconds=5, on_ready=print_url, mount=mount))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
