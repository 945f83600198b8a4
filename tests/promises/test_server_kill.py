"""kill -9 of the whole server, at any moment, under load: what it has said to anybody is there when it comes back.

| what was said                       | what has to be there                                                         |
|-------------------------------------|------------------------------------------------------------------------------|
| a stream's first event              | one row of usage, with its prompt                                            |
| a stream's end, or a whole answer   | its row, finished, with every token                                          |
| a key, from another process         | the key, and it opens the server that comes back                             |
| that a turn is kept                 | the turn, in its conversation, behind the one it followed                    |
| a conversation's answer             | the answer, as it was said                                                   |
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_process import ANSWER, ME

from dokja.serve.ledger import Ledger
from dokja.serve.threads import Threads

HERE = Path(__file__).parent
PATHS = [HERE.parent.parent / "src", HERE, HERE.parent / "serve", HERE.parent / "text"]
BODY = {
    "model": "m", "messages": [{"role": "user", "content": "3 + 4?"}], "seed": 0,
    "chat_template_kwargs": {"enable_thinking": False},
}  # fmt: skip
GONE = (httpx.TransportError, json.JSONDecodeError)


@dataclass
class Heard:
    """What clients were told, by this life of the server or one before it."""

    begun: dict[str, int] = field(default_factory=dict)
    """Streams whose first event came, by key."""
    finished: dict[str, int] = field(default_factory=dict)
    """Answers that came whole, by key."""
    keys: dict[str, str] = field(default_factory=dict)
    turns: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """By conversation, in order."""
    answers: dict[int, str] = field(default_factory=dict)
    """By turn."""
    wrong: list[BaseException] = field(default_factory=list)
    """What clients found amiss."""


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS)), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, str(HERE / "server_process.py"), str(folder)]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = process.stdout.readline().strip()
    assert url.startswith("http://"), "the server does not start"
    return process, url


def stream(url: str, name: str, key: str, heard: Heard) -> None:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True}, headers=headers) as answer:
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                heard.finished[name] = heard.finished.get(name, 0) + 1
            elif line.startswith("data:") and '"role"' in line:
                heard.begun[name] = heard.begun.get(name, 0) + 1


def whole(url: str, name: str, key: str, heard: Heard) -> None:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER
    heard.begun[name] = heard.begun.get(name, 0) + 1
    heard.finished[name] = heard.finished.get(name, 0) + 1


def say(url: str, thread: list[str], text: str, wait: bool, heard: Heard) -> None:
    body: dict[str, Any] = {"text": text, "wait": wait, **({"thread": thread[0]} if thread else {})}
    told = httpx.post(f"{url}/say", json=body, timeout=20)
    assert told.status_code == 200, told.text
    kept = told.json()
    thread[:] = [kept["thread"]]
    heard.turns.setdefault(kept["thread"], []).append((kept["turn"], text))
    if kept["finish"] == "stop":
        heard.answers[kept["turn"]] = kept["answer"]


def load(url: str, folder: Path, life: int, heard: Heard, over: threading.Event) -> list[threading.Thread]:
    """Clients that go on until the server is gone, each with a key or a conversation of its own."""

    def worker(work: Callable[[int], None]) -> None:
        number = 0
        while not over.is_set():
            try:
                work(number)
            except GONE:
                return
            except BaseException as error:
                heard.wrong.append(error)
                return
            number += 1

    def key_of(i: int) -> tuple[str, str]:
        name = f"life {life}, client {i}"
        heard.keys[name] = secret = Ledger(str(folder / "keys.db")).add(name)
        return name, secret

    works: list[Callable[[int], None]] = []
    for i in range(4):
        name, secret = key_of(i)
        how = stream if i % 2 else whole
        works.append(lambda _, name=name, secret=secret, how=how: how(url, name, secret, heard))
    for i in range(3):
        thread: list[str] = []
        works.append(lambda n, i=i, thread=thread: say(url, thread, f"{life} {i} {n}", i != 0 or n % 3 == 0, heard))
    ledger = Ledger(str(folder / "keys.db"))
    works.append(lambda n: heard.keys.update({f"{life} late {n}": ledger.add(f"{life} late {n}")}) or time.sleep(0.01))
    threads = [threading.Thread(target=worker, args=(work,)) for work in works]
    for one in threads:
        one.start()
    return threads


def check(folder: Path, heard: Heard) -> None:
    assert heard.wrong == []
    ledger = Ledger(str(folder / "keys.db"))
    assert {name for name, secret in heard.keys.items() if ledger.grant(secret) is None} == set()
    with sqlite3.connect(folder / "keys.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for name, begun in heard.begun.items():
            found = list(db.execute("SELECT prompt, completion, outcome FROM usage WHERE key = ?", (name,)))
            assert len(found) in (begun, begun + 1), "a row for each request, and at most one that was cut off"
            assert all(prompt > 0 for prompt, _, _ in found)
            ended = [completion for _, completion, outcome in found if outcome == "finished"]
            assert len(ended) >= heard.finished.get(name, 0)
            assert len(set(ended)) <= 1, "all have the same answer"
    threads = Threads(folder / "threads.db")
    for thread, turns in heard.turns.items():
        kept = threads.turns(ME, thread)
        assert [(t.id, t.text) for t in kept][: len(turns)] == turns
        assert len(kept) <= len(turns) + 1
        for turn in kept:
            if turn.id in heard.answers:
                answer = turn.answer(0)
                assert answer is not None and (answer.content, answer.finish) == (heard.answers[turn.id], "stop")
    threads.close()


def lives(folder: Path, count: int) -> None:
    rng, heard = random.Random(count), Heard()
    for life in range(count):
        process, url = start(folder)
        over = threading.Event()
        clients = load(url, folder, life, heard, over)
        said, until = len(heard.answers) + 1, time.monotonic() + 30
        try:
            # a kill before anything was said would show nothing
            while len(heard.answers) < said and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 1.4))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            over.set()
            for client in clients:
                client.join(30)
        assert not any(client.is_alive() for client in clients), "nobody hangs"
        check(folder, heard)
    assert sum(heard.finished.values()) > 0 and len(heard.answers) >= count


def test_nothing_that_was_said_is_lost(tmp_path: Path) -> None:
    lives(tmp_path, 2)


@pytest.mark.slow
def test_nothing_that_was_said_is_lost_in_many_lives(tmp_path: Path) -> None:
    lives(tmp_path, 20)
