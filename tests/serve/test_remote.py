"""The server in front of another process: what fails there, who leaves here, and its words."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from engine_process import run, until
from live import in_thread, listening, script
from models_small import segments, tokens

from dokja.errors import ConfigError
from dokja.serve.limits import Limits
from dokja.serve.remote import Remote, dialect_of
from dokja.serve.remote_model import RemoteModel
from dokja.text.chat import Message

ASK = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
SRC = Path(__file__).parents[2] / "src"


def said(text: str, finish: str | None = None) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}, 'finish_reason': finish}]})}\n\n".encode()


GOOD = [said("yes"), said("", "stop"), b"data: [DONE]\n\n"]


class Upstream:
    """An engine that answers what it is told: a status and bytes for each request in turn, the last one for ever.
    None among the bytes waits until the client leaves, and no [DONE] breaks the connection off."""

    def __init__(self, *answers: tuple[int, list[bytes | None]], headers: Any = ()) -> None:
        self.answers, self.headers = list(answers), list(headers)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[bytes | None] = []
        self.left, self.health = 0, 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.keys.append(dict(scope["headers"]).get(b"authorization"))
        if scope["method"] == "GET":
            listed = json.dumps({"data": [{"id": "m", "max_model_len": 77}]}).encode()
            await send({"type": "http.response.start", "status": self.health, "headers": []})
            await send({"type": "http.response.body", "body": listed})
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        self.bodies.append(json.loads(body))
        status, chunks = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        streams = status == 200 and not scope["path"].endswith("/embeddings")
        kind = b"text/event-stream" if streams else b"application/json"
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *self.headers]}
        )
        for chunk in chunks:
            if chunk is None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.left += 1
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if streams and not chunks[-1:] == GOOD[-1:]:
            raise RuntimeError("broken off")
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def served(app: Upstream, engine: str = "{}", **how: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server in front of `app`."""
    sock = socket.create_server(("127.0.0.1", 0))
    http = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    task = asyncio.create_task(http.serve([sock]))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
    limits = Limits(seconds=how.pop("seconds", 20.0))
    model = RemoteModel("m", Remote(dialect_of(engine.format(url)), "m", **how), limits)
    try:
        async with (
            listening([model], limits) as (address, _),
            httpx.AsyncClient(base_url=address, timeout=20) as client,
        ):
            yield client
    finally:
        http.should_exit = http.force_exit = True
        await task


def post(app: Upstream, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    """The answer to a request in front of `app`."""

    async def ask() -> None:
        how = {name: body.pop(name) for name in ("engine", "seconds", "key") if name in body}
        async with served(app, **how) as client:
            got.append(await client.post(path, json={**ASK, **body}))

    got: list[httpx.Response] = []
    run(ask)
    return got[0]


def test_what_fails_before_the_first_byte_is_tried_again() -> None:
    app = Upstream((503, [b"{}"]), (200, []), (200, GOOD))
    assert post(app).json()["choices"][0]["message"]["content"] == "yes"
    assert len(app.bodies) == 3
    app = Upstream((503, [b'{"error": {"message": "Loading model"}}']))
    got = post(app)
    assert (got.status_code, len(app.bodies)) == (503, 3)
    assert "Loading model" in got.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_breaks_in_its_middle_is_said_once(stream: bool) -> None:
    app = Upstream((200, [said("no")]), (200, GOOD))
    got = post(app, stream=stream)
    assert len(app.bodies) == 1
    assert "in its middle" in got.text or "does not answer" in got.text
    assert (got.status_code, "[DONE]" in got.text) == ((200 if stream else 503), False)


ERRORS = [
    (400, {"error": {"message": "too long", "param": "messages", "code": "c"}}, 400, "too long"),
    (422, {"detail": [{"msg": "field required"}]}, 400, "field required"),
    (401, {}, 503, "wants a key"),
    (429, {}, 429, "The engine behind this server is busy. Ask again in 7 s."),
    (418, {}, 503, "Is it an OpenAI API?"),
]


@pytest.mark.parametrize("status, body, ours, sentence", ERRORS, ids=[str(e[0]) for e in ERRORS])
def test_its_errors_are_sentences_of_ours(status: int, body: Any, ours: int, sentence: str) -> None:
    for stream in (False, True):
        app = Upstream((status, [json.dumps(body).encode()]), headers=[(b"retry-after", b"7")])
        got = post(app, stream=stream)
        assert got.status_code == ours
        assert sentence in got.json()["error"]["message"]
        assert len(app.bodies) == 1


def test_an_error_in_a_stream_ends_it() -> None:
    broken = b'data: {"error": {"message": "out of memory"}}\n\n'
    got = post(Upstream((200, [said("a"), broken, *GOOD])), stream=True)
    assert "out of memory" in got.text and "yes" not in got.text and "[DONE]" not in got.text
    assert post(Upstream((200, [b"data: what\n\n", *GOOD]))).status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_told_when_the_client_leaves(stream: bool) -> None:
    async def leave() -> None:
        app = Upstream((200, [said("a"), None]))
        async with served(app) as client:
            with contextlib.suppress(httpx.ReadTimeout):
                await client.post("/v1/chat/completions", json={**ASK, "stream": stream, "n": 2}, timeout=0.5)
            await until(lambda: app.left == 2)

    run(leave)


def test_an_answer_that_takes_too_long_is_ended() -> None:
    app = Upstream((200, [said("a"), None]))
    got = post(app, seconds=1.0)
    assert (got.status_code, app.left) == (504, 1)


def test_a_process_that_is_gone_is_told_by_health_and_answers() -> None:
    async def gone() -> None:
        limits, app = Limits(), Upstream((200, GOOD))
        async with served(app, poll=0.05) as client:

            async def ready(status: int) -> None:
                while (await client.get("/health/ready")).status_code != status:
                    await asyncio.sleep(0.02)

            assert (await client.get("/v1/models/m")).json()["max_model_len"] == 77
            for app.health in (200, 500, 200):
                await ready(200 if app.health == 200 else 503)
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        sock.close()
        model = RemoteModel("m", Remote(dialect_of(url), "m", load_seconds=0.1), limits)
        with pytest.raises(Exception, match=r"does not answer\. Start it"):
            async with listening([model], limits):
                pass

    run(gone)


def test_fields_go_under_the_engines_names() -> None:
    asked = {
        "temperature": 0.5, "repetition_penalty": 1.1, "thinking_budget": 9, "reasoning_effort": "none", "user": "me",
        "max_completion_tokens": 5, "n": 2, "seed": 3,
        "tools": [{"type": "function", "function": {"name": name}} for name in ("f", "g")],
        "tool_choice": {"type": "function", "function": {"name": "g"}},
    }  # fmt: skip
    bodies = {}
    for engine in ("{}", "vllm={}", "llama.cpp={}"):
        app = Upstream((200, GOOD))
        assert post(app, engine=engine, **asked).status_code == 200
        bodies[engine] = sorted(app.bodies, key=lambda b: b["seed"])
    for name, (first, second) in bodies.items():
        assert (first["seed"], second["seed"]) == (3, 4)
        assert (first["max_tokens"], first["stream"], first["temperature"]) == (5, True, 0.5)
        assert not {"n", "user", "max_completion_tokens"} & set(first), name
    ours, vllm, llama = (b[0] for b in bodies.values())
    assert (ours["thinking_budget"], ours["reasoning_effort"]) == (9, "none")
    assert (vllm["thinking_token_budget"], vllm["repetition_penalty"]) == (9, 1.1)
    assert (llama["thinking_budget_tokens"], llama["repeat_penalty"]) == (9, 1.1)
    assert vllm["chat_template_kwargs"] == llama["chat_template_kwargs"] == {"enable_thinking": False}
    assert (llama["tool_choice"], [t["function"]["name"] for t in llama["tools"]]) == ("required", ["g"])
    assert vllm["tool_choice"]["function"]["name"] == "g"


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "sesame")
    app = Upstream((200, GOOD))
    assert post(app, key="THE_KEY").status_code == 200
    assert set(app.keys) == {b"Bearer sesame"}
    with pytest.raises(ConfigError, match="NO_KEY holds no key"):
        Remote(dialect_of("vllm"), "m", "NO_KEY")
    for wrong in ("tgi", "ftp://x/v1", "http://", "vllm=", "http://me:secret@host/v1"):
        with pytest.raises(ConfigError, match="is no engine"):
            dialect_of(wrong)


def test_the_command_serves_what_another_process_has(tmp_path: Path) -> None:
    answer = tokens("dokja", segments("dokja", Message("assistant", "seven", "three plus four"), True))
    with in_thread({"inner": script("dokja", tmp_path, [answer])}) as address:
        argv = [
            sys.executable,
            "-m",
            "dokja",
            "serve",
            "outer=inner",
            "--engine",
            f"{address}/v1",
            "--port",
            "0",
            "--no-pages",
        ]
        env = {**os.environ, "PYTHONPATH": str(SRC)}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                url = re.search(r"http://\S+", process.stdout.readline())[0]
                got = httpx.post(f"{url}/chat/completions", json={**ASK, "model": "outer"}, timeout=20).json()
            finally:
                process.terminate()
    message = got["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], got["model"]) == ("seven", "three plus four", "outer")
    assert got["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_embeddings_are_the_other_engines() -> None:
    made = {"object": "list", "model": "its", "data": [{"index": 0, "embedding": [0.5, 1.0]}]}
    answers = [(200, [json.dumps(body).encode()]) for body in ({**made, "usage": {"prompt_tokens": 3}}, {"no": 1})]
    app = Upstream(*answers, (400, [b'{"error": {"message": "it writes only", "param": "model"}}']))

    async def test() -> None:
        async with served(app) as client:
            got = [await client.post("/v1/embeddings", json={"model": "m", "input": ["one"]}) for _ in range(3)]
            assert [g.status_code for g in got] == [200, 503, 400]
            assert (got[0].json()["data"], got[0].json()["model"]) == (made["data"], "m")
            assert "no embeddings" in got[1].json()["error"]["message"]
            assert got[2].json()["error"]["message"] == "it writes only"
            assert app.bodies[0] == {"model": "m", "input": ["one"]}
            assert 'dokja_prompt_tokens_total{model="m"} 3.0' in (await client.get("/metrics")).text

    run(test)
