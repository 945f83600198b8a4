"""Keys, quotas and the ledger: who may ask, how much, and that no row is lost."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from engine_process import run, until
from live import in_thread, script, serving
from models_small import segments, tokens

from dokja.errors import ConfigError
from dokja.serve.api import state
from dokja.serve.keys import Keys, open_keys
from dokja.serve.ledger import Grant, Ledger, digest
from dokja.serve.reading import Usage
from dokja.text.chat import Message

BODY = {
    "model": "m", "messages": [{"role": "user", "content": "?"}], "seed": 0,
    "chat_template_kwargs": {"enable_thinking": False},
}  # fmt: skip


def load(folder: Path, **more) -> dict:
    answer = tokens("dokja", segments("dokja", Message("assistant", "three plus four 가나다"), False))
    return script("dokja", folder, [answer], **more)


def ask(url: str, secret: str | None, path: str = "/v1/chat/completions") -> httpx.Response:
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    if path == "/v1/chat/completions":
        return httpx.post(url + path, json=BODY, headers=headers, timeout=20)
    return httpx.get(url + path, headers=headers)


def test_only_the_hash_of_a_secret_is_stored(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "keys.db"))
    secret = ledger.add("ann")
    assert secret.encode() not in b"".join(f.read_bytes() for f in tmp_path.iterdir())
    assert ledger.grant(secret) == Grant("ann", frozenset({"generate"}))
    assert ledger.grant(digest(secret)) is None
    with pytest.raises(ConfigError, match="called 'ann' already"):
        ledger.add("ann")
    ledger.revoke("ann")
    assert ledger.grant(secret) is None
    with pytest.raises(ConfigError, match="no key called 'bob'"):
        ledger.revoke("bob")


def test_a_server_with_keys_lets_in_who_has_one(tmp_path: Path) -> None:
    place = str(tmp_path / "keys.db")
    ledger = Ledger(place)
    ann, prom = ledger.add("ann"), ledger.add("prom", ("metrics",))
    with in_thread({"m": load(tmp_path)}, keys=open_keys(["given"], place)) as url:
        tried = (ann, "given", None, "wrong", prom)
        assert [ask(url, s).status_code for s in tried] == [200, 200, 401, 401, 403]
        assert [ask(url, s, "/v1/models").status_code for s in (ann, None)] == [200, 401]
        assert [ask(url, s, "/metrics").status_code for s in (prom, ann, None)] == [200, 403, 401]
        assert ask(url, None, "/health/ready").status_code == 200
        assert ask(url, None).json()["error"] == {
            "message": "A key is needed: Authorization: Bearer KEY.", "type": "authentication_error", "param": None,
            "code": "invalid_api_key",
        }  # fmt: skip


def test_usage_is_written_and_priced(tmp_path: Path) -> None:
    place = str(tmp_path / "keys.db")
    ledger = Ledger(place)
    secret = ledger.add("ann")
    with in_thread({"m": load(tmp_path)}, keys=open_keys([], place)) as url:
        usage = ask(url, secret).json()["usage"]
        with httpx.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json={**BODY, "stream": True},
            headers={"authorization": f"Bearer {secret}"},
        ) as answer:
            answer.read()
    ledger.price("m", prompt=1.0, completion=2.0)
    (row,) = ledger.totals()
    wanted = {"key": "ann", "model": "m", "requests": 2, "prompt": 2 * usage["prompt_tokens"], "cached": 0}
    wanted |= {"completion": 2 * usage["completion_tokens"], "reasoning": 0}
    cost = row.pop("cost")
    assert row == wanted
    assert cost == pytest.approx((wanted["prompt"] + 2 * wanted["completion"]) / 1e6)
    assert ledger.totals(time.time() + 1) == []


@pytest.mark.parametrize("quota", ["requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day"])
def test_a_used_up_quota_says_when_to_come_back(quota: str, tmp_path: Path) -> None:
    place = str(tmp_path / "keys.db")
    secret = Ledger(place).add("ann", **{quota: 2})
    with in_thread({"m": load(tmp_path)}, keys=open_keys([], place)) as url:
        got = [ask(url, secret) for _ in range(3)]
    assert [g.status_code for g in got] == ([200, 200, 429] if "requests" in quota else [200, 429, 429])
    window = 60 if "minute" in quota else 86_400
    assert window - 20 <= int(got[-1].headers["retry-after"]) <= window
    assert quota.replace("_", " ") in got[-1].json()["error"]["message"]


def test_quotas_slide(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "keys.db"))
    grant = Grant("ann", frozenset(), requests_per_minute=2, tokens_per_day=100)
    assert ledger.wait(grant) == (0.0, "")
    for prompt in (30, 30):
        ledger.end(ledger.begin("ann", "m", prompt), Usage(prompt, 10))
    now = time.time()
    wait, quota = ledger.wait(grant, now)
    assert 59 < wait <= 60 and quota == "requests per minute"
    assert ledger.wait(grant, now + 61) == (0.0, "")
    ledger.end(ledger.begin("ann", "m", 30), Usage(30, 10))
    wait, quota = ledger.wait(grant, time.time() + 61)
    assert 86_000 < wait <= 86_400 and quota == "tokens per day"
    assert ledger.wait(Grant("bob", frozenset(), requests_per_minute=1)) == (0.0, "")


def rows(place: str) -> list[tuple]:
    with sqlite3.connect(place) as db:
        return list(db.execute("SELECT outcome, prompt, completion, ended IS NOT NULL FROM usage ORDER BY id"))


def test_who_leaves_in_the_middle_has_one_row_with_what_was_written(tmp_path: Path) -> None:
    place = str(tmp_path / "keys.db")
    secret = Ledger(place).add("ann")
    headers = {"authorization": f"Bearer {secret}"}

    async def leave(http: httpx.AsyncClient, url: str, after: float, stream: bool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(after):
                body = {**BODY, "stream": stream, "n": 1 + stream}
                async with http.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                    await answer.aread()

    async def test() -> None:
        made = load(tmp_path, step_seconds=0.05, slots=32)
        async with serving({"m": made}, keys=Keys([], Ledger(place))) as (url, server):
            async with httpx.AsyncClient() as http:
                ways = [(0.15 + 0.04 * i, i % 2 == 0) for i in range(10)]
                await asyncio.gather(*(leave(http, url, after, stream) for after, stream in ways))
                await until(lambda: all(ended for *_, ended in rows(place)))
                whole = await http.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=20)
            assert server.running == {}
            assert [kind for kind, *_ in rows(place)] == ["left"] * 10 + ["finished"]
            most = whole.json()["usage"]["completion_tokens"]
            left = rows(place)[:10]
            assert all(prompt > 0 and 0 <= written < 2 * most for _, prompt, written, _ in left)
            assert sum(written > 0 for _, _, written, _ in left) >= 5

    run(test)


def test_a_finished_answer_is_in_the_ledger_before_its_end_is_told(tmp_path: Path) -> None:
    place = str(tmp_path / "keys.db")
    secret = Ledger(place).add("ann")
    with in_thread({"m": load(tmp_path)}, keys=open_keys([], place)) as url:
        headers = {"authorization": f"Bearer {secret}"}
        body = {**BODY, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    ((outcome, _, written, ended),) = rows(place)
        assert (outcome, ended) == ("finished", 1) and written > 0
        asked = ask(url, secret)
    assert asked.status_code == 200
    assert [row[0] for row in rows(place)] == ["finished"] * 2


def test_what_fails_has_its_row_too(tmp_path: Path) -> None:
    place = str(tmp_path / "keys.db")
    secret = Ledger(place).add("ann")
    faults = [{"kind": "exit", "step": 2, "life": life} for life in range(3)]
    with in_thread({"m": load(tmp_path, faults=faults)}, keys=open_keys([], place)) as url:
        assert ask(url, secret).status_code == 503
        assert ask(url, secret).status_code == 200
    assert [row[0] for row in rows(place)] == ["failed", "finished"]


def test_what_runs_is_noted_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "TELL", 0.05)
    place = str(tmp_path / "keys.db")
    secret = Ledger(place).add("ann")

    async def test() -> None:
        async with serving({"m": load(tmp_path, step_seconds=0.05)}, keys=Keys([], Ledger(place))) as (url, server):
            telling = asyncio.create_task(server.tell_running())
            headers = {"authorization": f"Bearer {secret}"}
            async with httpx.AsyncClient() as http:
                asked = asyncio.create_task(
                    http.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=20)
                )
                await until(lambda: any(written > 2 and not ended for _, _, written, ended in rows(place)))
                answer = await asked
            telling.cancel()
            ((outcome, _, written, ended),) = rows(place)
            assert (outcome, written, ended) == ("finished", answer.json()["usage"]["completion_tokens"], 1)

    run(test)
    ledger = Ledger(place)
    ledger.tell({1: Usage(1, 1)})  # too late: it has ended
    assert rows(place)[0][2] > 1


def test_a_killed_server_loses_no_row(tmp_path: Path) -> None:
    """kill -9 right after the rows are written, from another process."""
    place = tmp_path / "keys.db"
    code = (
        f"from dokja.serve.ledger import Ledger; from dokja.serve.reading import Usage\n"
        f"ledger = Ledger({str(place)!r}); ledger.add('ann')\n"
        "for i in range(50): ledger.end(ledger.begin('ann', 'm', 7), Usage(7, 3))\n"
        "ledger.begin('ann', 'm', 7); print('written', flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    (row,) = Ledger(str(place)).totals()
    assert (row["requests"], row["prompt"], row["completion"]) == (51, 357, 150)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Ledger(str(tmp_path / "nowhere" / "keys.db"))
    (tmp_path / "text.db").write_text("no database at all, but a text of some length" * 40)
    with pytest.raises(ConfigError, match="cannot be opened"):
        Ledger(str(tmp_path / "text.db"))
