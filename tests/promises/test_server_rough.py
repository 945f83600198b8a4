"""Rough clients: broken, huge, slow or gone. They get an error each; well-behaved ones get exactly their tokens."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_process import run, until
from live import in_thread, script, serving
from models_small import segments, tokens

from dokja.serve.limits import Limits
from dokja.text.chat import Message

TEXTS = [f"answer {i} " + "가나다 " * (i % 5 + 3) + "끝" for i in range(20)]


def load(folder: Path, **more: Any) -> dict[str, Any]:
    answers = [tokens("dokja", segments("dokja", Message("assistant", text), False)) for text in TEXTS]
    return script("dokja", folder, answers, **more)


def body(seed: int, **more: Any) -> dict[str, Any]:
    kwargs = {"enable_thinking": False}
    ask = [{"role": "user", "content": f"ask {seed}"}]
    return {"model": "m", "messages": ask, "seed": seed, "chat_template_kwargs": kwargs, **more}


async def good(http: httpx.AsyncClient, seed: int) -> str:
    """What a well-behaved client reads."""
    if seed % 2:
        answer = await http.post("/v1/chat/completions", json=body(seed))
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]
    out, done = "", False
    async with http.stream("POST", "/v1/chat/completions", json=body(seed, stream=True)) as answer:
        async for line in answer.aiter_lines():
            assert not (done and line)
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                out += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    assert done
    return out


def raw(payload: bytes, length: int | None = None, kind: str = "application/json") -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(payload) if length is None else length}\r\n\r\n".encode() + payload


def tool(parameters: str) -> bytes:
    """A request whose tool has these parameters; its context is too short for large ones."""
    function = f'{{"name": "f", "parameters": {parameters}}}'
    return raw(
        f'{{"model": "m", "messages": [{{"role": "user", "content": "{"x" * 9000}"}}], "tools": '
        f'[{{"type": "function", "function": {function}}}]}}'.encode()
    )


ROUGH: dict[str, bytes] = {
    "half a body": raw(b'{"model": "m"', 100),
    "no json": raw(b"{'model': m}"),
    "latin-1": raw('{"model": "m", "messages": [{"role": "user", "content": "é"}]}'.encode("latin-1")),
    "half of utf-16": raw(json.dumps(body(0)).encode("utf-16")[:-1]),
    "surrogate": raw(b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}'),
    "surrogate name": raw(b'{"model": "\\ud800", "messages": []}'),
    "nan": raw(b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}'),
    "nan in a tool": tool('{"a": NaN}'),
    "deep": raw(b'{"model": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    **{f"{depth} deep in a tool": tool('{"a":' * depth + "1" + "}" * depth) for depth in (250, 700, 900, 960, 1500)},
    "huge number": raw(b'{"model": "m", "seed": ' + b"9" * 5000 + b', "messages": [{"role": "user", "content": "x"}]}'),
    "a list": raw(b"[1, 2]"),
    "null": raw(b"null"),
    "empty": raw(b""),
    "no type": raw(b'{"model": "m"}', kind="text/plain"),
    "image": raw(
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": '
        b'{"url": "file:///etc/passwd"}}]}]}'
    ),
    "broken image": raw(
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": '
        b'{"url": "data:image/png;base64,AAAA"}}]}]}'
    ),
    "declared too large": raw(b"{", 10**12),
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "null byte": raw(b'{"model": "m\\u0000", "messages": []}'),
}


async def rough(port: int, payload: bytes, leave: float | None = None) -> bytes:
    """Sends these bytes; what comes back. `leave`: goes after so many seconds without reading."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(payload)
        await writer.drain()
        if leave is not None:
            await asyncio.sleep(leave)
            return b""
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits = Limits(body_bytes=100_000, body_seconds=0.3)
    with in_thread({"m": load(tmp_path_factory.mktemp("rough"))}, limits) as url:
        yield url


@pytest.mark.parametrize("name", ROUGH)
def test_what_cannot_be_read_is_an_error_of_the_client(name: str, address: str) -> None:
    """Each alone, to see its status. Half a body is one that never comes whole: 408."""
    answer = asyncio.run(rough(port_of(address), ROUGH[name]))
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500, answer
    if name != "no http":
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert status == {"half a body": 408, "declared too large": 413}.get(name, 404 if "name" in name else status)


def test_fifty_rough_clients_do_not_touch_twenty_good_ones(tmp_path: Path) -> None:
    async def test() -> None:
        limits = Limits(body_bytes=100_000, body_seconds=0.5)
        async with serving({"m": load(tmp_path, step_seconds=0.004)}, limits) as (url, server):
            port = port_of(url)
            long = raw(json.dumps(body(7, stream=True)).encode())
            bad = [rough(port, payload) for payload in ROUGH.values()]
            bad += [rough(port, long, leave=0.01 * i) for i in range(15)]  # gone in the middle
            bad += [rough(port, long, leave=1.0) for _ in range(10)]  # never read
            bad += [rough(port, raw(b"{" + b" " * 200_000)) for _ in range(50 - len(bad))]  # too large
            async with httpx.AsyncClient(base_url=url, timeout=20) as http:
                asked = [asyncio.create_task(good(http, seed)) for seed in range(20)]
                await asyncio.gather(*bad, return_exceptions=True)
                assert len(bad) == 50
                assert await asyncio.gather(*asked) == TEXTS
            client = server.models.get("m").client
            await until(lambda: client.in_flight == 0 and client.stats()["running"] == 0)
            assert client.restarts == 0
            admission = server.models.get("m").admission
            assert (admission.requests, admission.tokens) == (0, 0)

    run(test)


def test_overload_is_turned_away_at_once_and_the_rest_is_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        limits = Limits(requests=16, seconds=10)
        async with serving({"m": load(tmp_path, step_seconds=0.01, slots=8)}, limits) as (url, _):
            async with httpx.AsyncClient(base_url=url, timeout=20, limits=httpx.Limits(max_connections=64)) as http:
                await http.post("/v1/chat/completions", json=body(1))

                async def ask(seed: int) -> tuple[int, float, httpx.Response]:
                    began = time.monotonic()
                    answer = await http.post("/v1/chat/completions", json=body(seed))
                    return answer.status_code, time.monotonic() - began, answer

                got = await asyncio.gather(*(ask(seed % 20) for seed in range(32)))
            served = [g for g in got if g[0] == 200]
            refused = [g for g in got if g[0] == 429]
            assert len(served) + len(refused) == 32
            assert len(served) == 16
            assert all(seconds < 10 for _, seconds, _ in served)
            assert all(int(answer.headers["retry-after"]) >= 1 for *_, answer in refused)

    with caplog.at_level("INFO", "dokja.serve.requests"):
        run(test)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "dokja.serve.requests"]
    took = [line["seconds"] for line in lines if line["status"] == 429]
    assert statistics.median(took) < 0.05  # by the server's own clock: its clients share this process


def test_an_answer_that_takes_too_long_ends_with_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving({"m": load(tmp_path, step_seconds=0.1)}, Limits(seconds=0.5)) as (url, server):
            async with httpx.AsyncClient(base_url=url, timeout=20) as http:
                whole = await http.post("/v1/chat/completions", json=body(4))
                assert whole.status_code == 504
                assert whole.headers["x-should-retry"] == "false"
                streamed = await http.post("/v1/chat/completions", json=body(4, stream=True))
                assert '"error"' in streamed.text.splitlines()[-2]
                assert "[DONE]" not in streamed.text
            client = server.models.get("m").client
            await until(lambda: client.stats()["running"] == 0)

    run(test)


def test_a_client_that_waits_for_a_whole_answer_and_leaves_is_noticed(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving({"m": load(tmp_path, step_seconds=0.25)}) as (url, server):
            client = server.models.get("m").client
            gone = asyncio.create_task(rough(port_of(url), raw(json.dumps(body(4)).encode()), leave=0.5))
            await until(lambda: client.in_flight == 1)
            await gone
            await until(lambda: client.in_flight == 0, 2)

    run(test)


def test_a_lost_engine_is_an_error_that_says_when_to_come_back(tmp_path: Path) -> None:
    faults = [{"kind": "exit", "step": 3, "life": life} for life in range(3)]

    async def test() -> None:
        async with (
            serving({"m": load(tmp_path, faults=faults, step_seconds=0.01)}) as (url, _),
            httpx.AsyncClient(base_url=url, timeout=20) as http,
        ):
            answer = await http.post("/v1/chat/completions", json=body(4))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["error"]["type"] == "server_error"

    run(test)
