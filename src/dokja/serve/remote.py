"""Another process that speaks OpenAI's API, where the server would otherwise have an engine of its own.

    start ──► its list of models: is the model there? ──► ready ──► asked every few seconds whether it still answers
    events ─► POST, as a stream ──► what it says, event by event; closing the generator closes the connection

It is asked for streams only, also where the client wants the answer in one piece: a connection that closes is what
every such engine understands as "nobody listens any more", and the parts of a stream joined are the whole answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from dokja.errors import ConfigError
from dokja.serve.asking import Refusal
from dokja.serve.client import State
from dokja.serve.flight import EngineLost
from dokja.serve.limits import Busy

_TRIES = 3
_PAUSE = 0.2  # seconds before the second try; twice that before the third
_POLL = 5.0  # seconds between two looks
_CONNECT = 5.0
_PASSING = (500, 502, 503, 504)
"""Statuses that may be over at the next try."""


class Late(Exception):
    """The time of an answer is over."""


@dataclass(frozen=True)
class Dialect:
    """How an engine departs from what this server's own API says."""

    url: str
    """Where it listens if nobody says otherwise."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Its words for fields of ours."""
    effort: bool = True
    """Whether it knows every `reasoning_effort`, "none" included."""
    named_choice: bool = True
    """Whether a `tool_choice` may name a function."""


DIALECTS = {
    "vllm": Dialect("http://127.0.0.1:8000/v1", {"thinking_budget": "thinking_token_budget"}, effort=False),
    "llama.cpp": Dialect(
        "http://127.0.0.1:8080/v1",
        {"thinking_budget": "thinking_budget_tokens", "repetition_penalty": "repeat_penalty"},
        effort=False,
        named_choice=False,
    ),
}


def dialect_of(engine: str) -> Dialect:
    """What `--engine` names: an engine, NAME=URL for one that listens elsewhere, or the URL of any. Raises ConfigError
    for anything else."""
    name, sign, url = engine.partition("=")
    if name in DIALECTS:
        known = DIALECTS[name]
        found = Dialect(url, known.names, known.effort, known.named_choice) if sign else known
    else:
        found = Dialect(engine)
    parts = urlsplit(found.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ConfigError(
            f"--engine {engine!r} is no engine. Name one of {', '.join(DIALECTS)}, NAME=URL, or a URL that ends in /v1."
        )
    return found


class Remote:
    """One model of one such process; `key` is the name of the environment variable that holds the key to it."""

    def __init__(
        self, dialect: Dialect, model: str, key: str | None = None, *, load_seconds: float = 900.0, poll: float = _POLL
    ) -> None:
        """Raises ConfigError where the variable is not set."""
        secret = os.environ.get(key, "") if key else ""
        if key and not secret:
            raise ConfigError(f"The environment variable {key} holds no key. Set it, or leave out --engine-key.")
        self.dialect, self.model, self.url = dialect, model, dialect.url.rstrip("/")
        self.info: dict[str, Any] = {}
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {secret}"} if secret else {},
            timeout=httpx.Timeout(None, connect=_CONNECT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,  # what it is asked goes to the address that was named, by no detour
        )
        self._load_seconds, self._poll = load_seconds, poll
        self._in_flight, self._restarts, self._replays = 0, 0, 0
        self._there, self._draining = False, False
        self._heard = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    # --- what health checks and figures ask of any engine -------------------------------------------------------

    @property
    def state(self) -> State:
        """ "loading" is also one that does not answer at the moment."""
        return "draining" if self._draining else "ready" if self._there else "loading"

    @property
    def heartbeat_age(self) -> float:
        """Seconds since it last answered anything."""
        return time.monotonic() - self._heard

    @property
    def in_flight(self) -> int:
        """Answers that have not ended."""
        return self._in_flight

    def stats(self) -> dict[str, Any]:
        """The figures that are known from outside."""
        return {"in_flight": self._in_flight, "replays": self._replays, "restarts": self._restarts}

    async def start(self) -> None:
        """Waits until it answers and has the model. Raises EngineLost where that does not happen."""
        until = time.monotonic() + self._load_seconds
        while not await self._look():
            if time.monotonic() > until:
                raise EngineLost(self._absent())
            await asyncio.sleep(min(self._poll, 1.0))
        self._watch = asyncio.create_task(self._watching())

    async def reload(self) -> None:
        """Looks again at what it has. Raises EngineLost where the model is gone."""
        if not await self._look():
            raise EngineLost(self._absent())

    async def stop(self, deadline: float = 0.0) -> None:
        """Takes no more requests and lets the running ones finish for `deadline` seconds; it itself goes on."""
        self._draining = True
        until = time.monotonic() + deadline
        while self._in_flight and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if self._watch is not None:
            self._watch.cancel()
        await self._http.aclose()

    async def _watching(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            with contextlib.suppress(EngineLost):
                await self._look()

    async def _look(self) -> bool:
        """Whether it answers and has the model. Raises EngineLost for what waiting does not mend."""
        try:
            response = await self._http.get("/models", timeout=_CONNECT)
            listed = response.json().get("data") if response.status_code == 200 else None
        except (httpx.HTTPError, ValueError, AttributeError):
            self._there = False
            return False
        if response.status_code in (401, 403):
            self._there = False
            raise EngineLost(self._locked())
        if not isinstance(listed, list):
            self._there = False
            return False
        found = {str(m.get("id")): m for m in listed if isinstance(m, dict)}
        if self.model not in found:
            self._there = False
            known = ", ".join(found) or "nothing"
            raise EngineLost(
                f"The engine at {self.url} has no model {self.model!r}, but {known}. Name one of them: NAME=ITS_NAME."
            )
        back, self._there, self._heard = not self._there, True, time.monotonic()
        self._restarts += bool(back and self.info)
        self.info = {"name": self.model, "engine": self.url, "context": _context(found[self.model])}
        return True

    # --- requests -----------------------------------------------------------------------------------------------

    async def events(
        self, path: str, body: Mapping[str, Any], until: float | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What it answers to `body`, event by event. Close it to abort.

        What fails before the first event is tried again, three times in all. Raises Late at `until`, a time of the
        event loop, Refusal for what it refuses, Busy, and EngineLost for all that is not the client's fault.
        """
        if self._draining:
            raise EngineLost("The server is stopping and takes no more requests. Ask again later.")
        self._in_flight += 1
        try:
            for last in (False,) * (_TRIES - 1) + (True,):
                begun = False
                try:
                    async with contextlib.aclosing(self._once(path, body, until)) as events:
                        async for event in events:
                            begun = True
                            yield event
                    return
                except _Passing as error:
                    if begun or last:
                        raise EngineLost(str(error)) from error
                self._replays += 1
                await asyncio.sleep(_PAUSE)
        finally:
            self._in_flight -= 1

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Its embeddings. Raises Refusal, Busy or EngineLost."""
        self._in_flight += 1
        try:
            response = await self._http.post("/embeddings", json=dict(body))
            if response.status_code != 200:
                raise self._error(response)
            made = response.json()
        except (httpx.HTTPError, _Passing) as error:
            raise EngineLost(str(error) if isinstance(error, _Passing) else self._absent()) from error
        except ValueError:
            made = None
        finally:
            self._in_flight -= 1
        if not isinstance(made, dict) or not isinstance(made.get("data"), list):
            raise EngineLost(f"The engine at {self.url} answers with what are no embeddings.")
        return made

    async def _once(
        self, path: str, body: Mapping[str, Any], until: float | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            request = self._http.build_request("POST", path, json=dict(body))
            async with asyncio.timeout_at(until):
                response = await self._http.send(request, stream=True)
            try:
                if response.status_code != 200 or "event-stream" not in response.headers.get("content-type", ""):
                    async with asyncio.timeout_at(until):
                        await response.aread()
                    raise self._error(response)
                self._heard = time.monotonic()
                lines = response.aiter_lines()
                while True:
                    async with asyncio.timeout_at(until):
                        line = await anext(lines, None)
                    if line is None:
                        raise _Passing(f"The engine at {self.url} ended an answer in its middle. Ask again.")
                    if not line.startswith("data:"):
                        continue
                    if (data := line[5:].strip()) == "[DONE]":
                        return
                    yield self._read(data)
            finally:
                await response.aclose()
        except TimeoutError as error:
            raise Late from error
        except httpx.HTTPError as error:
            raise _Passing(self._absent()) from error

    def _read(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise EngineLost(f"The engine at {self.url} said what is no event of OpenAI's API.")
        if event.get("error"):
            raise EngineLost(f"The engine at {self.url} failed: {_message(event) or 'it does not say why'}")
        return event

    def _error(self, response: httpx.Response) -> Exception:
        """A response that is no stream, as the error to raise."""
        status = response.status_code
        try:
            body = response.json()
        except ValueError:
            body = None
        message = _message(body) or f"The engine refuses this request ({status})."
        if status == 429:
            wait = response.headers.get("retry-after", "")
            return Busy(float(wait) if wait.isdigit() else 1.0, "The engine behind this server is busy.")
        if status in (401, 403):
            return EngineLost(self._locked())
        if status in (400, 404, 413, 415, 422):
            told = body.get("error") if isinstance(body, dict) else None
            told = told if isinstance(told, dict) else {}
            param, code = told.get("param"), told.get("code")
            return Refusal(message, str(param) if param else None, str(code) if code else None)
        if status in _PASSING:
            return _Passing(f"The engine at {self.url} cannot serve this at the moment ({status}): {message}")
        return EngineLost(f"The engine at {self.url} did not answer with a stream ({status}). Is it an OpenAI API?")

    def _absent(self) -> str:
        return f"The engine at {self.url} does not answer. Start it, or look at its messages."

    def _locked(self) -> str:
        return (
            f"The engine at {self.url} wants a key or does not take this one. Put it into an environment variable and "
            "name that: --engine-key VARIABLE."
        )


class _Passing(Exception):
    """A failure that may be over at the next try."""


def _message(body: Any) -> str:
    """The sentence in an error's body, whoever spells it."""
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and body.get(key):
            body = body[key]
    if isinstance(body, list):
        body = "; ".join(str(e.get("msg", e)) if isinstance(e, dict) else str(e) for e in body)
    return str(body) if isinstance(body, str) else ""


def _context(listed: Mapping[str, Any]) -> int | None:
    """The context that a list of models tells: vLLM beside the name, llama.cpp in `meta`."""
    meta = listed.get("meta")
    for value in (listed.get("max_model_len"), meta.get("n_ctx_train") if isinstance(meta, dict) else None):
        if isinstance(value, int):
            return value
    return None
