"""Asking an endpoint, again where that may help.

| it answers | then |
|---|---|
| 200 with a completion | that is the answer |
| 408, 409, 425, 5xx, nothing in time, a broken connection, or 200 with what is no completion | again, `TRIES` in all |
| 429, or 503 with Retry-After | nobody asks for that long, then again, for `PATIENCE` seconds in all |
| 401, 403, 404, 405 or a redirection | `Stopped`: no other request would fare better |
| 400, 413, 422 and other refusals | `Failed`: this request cannot be served as it is |

Waits grow twofold from `FIRST_WAIT` with jitter from a random generator that the caller seeds.

aiohttp, not httpx that the server's own client is built on: its C parser asks 9,000 times a second where httpx asks 350
(32 at once, one core, a server that answers at once), and a judge of hundreds of streams should leave the machine to
the model.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from dokja.errors import ConfigError, DokjaError
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.pace import Pace, retry_after
from dokja.judge.endpoint.reply import Broken, Reply, message_of, read_json, read_reply
from dokja.judge.endpoint.stream import MOST_BYTES, read_stream
from dokja.judge.records import Times

if TYPE_CHECKING:
    import aiohttp

TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
PATIENCE = 600.0
_CONNECT = 10.0
_AGAIN = (408, 409, 425)
_STOP = (401, 403, 404, 405)
_CONTEXT = re.compile(r"context[ _-]?(?:length|size|window)|maximum context", re.IGNORECASE)


class Stopped(DokjaError):
    """The endpoint will serve nothing: asking on is of no use."""


class Failed(Exception):
    """One request could not be served; says why. `context`: the conversation is too long for the model."""

    def __init__(self, why: str, context: bool = False) -> None:
        super().__init__(why)
        self.context = context


class _Trouble(Exception):
    """One try failed. `wait` is what the endpoint asks for; `busy`: it is no fault but a limit."""

    def __init__(self, why: str, wait: float | None = None, busy: bool = False) -> None:
        super().__init__(why)
        self.why, self.wait, self.busy = why, wait, busy


class Client:
    """`async with Client(endpoint) as client: reply, times = await client.chat(body, rng)`; connections are kept."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int | None = None,
        stream: bool = False,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        """Raises ConfigError where aiohttp or the key is missing."""
        try:
            import aiohttp
        except ImportError as error:
            raise ConfigError(
                "Asking an endpoint needs aiohttp, which is not installed. Run `pip install 'dokja[judge]'`."
            ) from error
        self._http, self.endpoint, self.stream = aiohttp, endpoint, stream
        self._connections, self._first_wait = connections or endpoint.concurrency, first_wait
        self._key = endpoint.key()
        self._url = f"{endpoint.base_url}/chat/completions"
        self.pace = Pace(endpoint.requests_per_minute, endpoint.tokens_per_minute)
        self._mean, self._answers = 0.0, 0

    async def __aenter__(self) -> Client:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = self._http.ClientSession(
            connector=self._http.TCPConnector(limit=self._connections),
            timeout=self._http.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=self.endpoint.timeout),
            headers=headers,
            cookie_jar=self._http.DummyCookieJar(),
            trust_env=False,  # what is asked goes to the address that was named, by no detour
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def models(self) -> list[Mapping[str, Any]] | None:
        """What it says of its models; None where it does not say. Raises Stopped where nobody listens at its address,
        or the key is not taken."""
        try:
            timeout = self._http.ClientTimeout(total=_CONNECT)
            async with self._session.get(
                f"{self.endpoint.base_url}/models", timeout=timeout, allow_redirects=False
            ) as got:
                data = await self._body(got)
                if got.status == 401:
                    raise self._refused(401, data)
                listed = read_json(data).get("data") if got.status == 200 else None
        except self._http.ClientConnectorError as error:
            raise Stopped(
                f"The endpoint {self.endpoint.name} does not answer at {self.endpoint.base_url} ({error}). Start it, "
                "or look at its address; then type the same command again."
            ) from error
        except (self._http.ClientError, TimeoutError, OSError, Broken, AttributeError):
            return None
        return [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else None

    async def chat(self, body: Mapping[str, Any], rng: random.Random) -> tuple[Reply, Times]:
        """The answer to a body, and how long it took. Raises Failed and Stopped as the table says."""
        if self.stream:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        guess = len(data) / 4 + (self._mean or 512.0)  # letters of a token, as a guess
        tries, waits, waited = 0, 0, 0.0
        while True:
            await self.pace.start(guess)
            began, spent = time.perf_counter(), 0.0
            try:
                reply, times = await self._once(data, began, tries + waits + 1)
                spent = reply.usage.prompt_tokens + reply.usage.completion_tokens or guess
                self._answers += 1
                self._mean += (reply.usage.completion_tokens - self._mean) / self._answers
                return reply, times
            except _Trouble as trouble:
                tries, waits = tries + (not trouble.busy), waits + trouble.busy
                wait = min(LONGEST_WAIT, self._first_wait * 2 ** (tries + waits - 1)) * rng.uniform(0.5, 1.0)
                if trouble.wait is not None:
                    if trouble.wait > PATIENCE:
                        raise Stopped(
                            f"The endpoint {self.endpoint.name} wants a pause of {trouble.wait:.0f} s ({trouble.why}). "
                            "Type the same command again after that."
                        ) from trouble
                    self.pace.pause(trouble.wait)
                    wait = trouble.wait + wait * 0.5  # not all of them in the same moment
                waited += wait if trouble.busy else 0.0
                if tries >= TRIES or waited > PATIENCE:
                    raise Failed(f"{trouble.why} ({tries + waits} tries)") from trouble
                await asyncio.sleep(wait)
            finally:
                self.pace.end(guess, spent)

    async def _once(self, data: bytes, began: float, number: int) -> tuple[Reply, Times]:
        try:
            async with self._session.post(self._url, data=data, allow_redirects=False) as got:
                if got.status != 200:
                    raise self._error(got, await self._body(got))
                first = last = None
                letters, all_letters = 0, 0
                if self.stream and "event-stream" in got.headers.get("Content-Type", ""):
                    streamed = await read_stream(got.content.iter_any(), began)
                    said, first, last = streamed.body, streamed.first, streamed.last
                    letters, all_letters = streamed.first_letters, streamed.letters
                else:
                    said = read_json(await self._body(got))
            reply = read_reply(said, self.endpoint.reasoning)
        except Broken as error:
            raise _Trouble(str(error)) from error
        except TimeoutError as error:
            raise _Trouble(f"no answer within {self.endpoint.timeout:g} s") from error
        except (self._http.ClientError, OSError) as error:
            raise _Trouble(f"the connection failed ({str(error) or type(error).__name__})") from error
        tokens = max(1, round(reply.usage.completion_tokens * letters / all_letters)) if all_letters else 0
        rounded = [None if t is None else round(t, 4) for t in (first, last)]
        return reply, Times(round(time.perf_counter() - began, 4), number, rounded[0], rounded[1], tokens)

    async def _body(self, got: aiohttp.ClientResponse) -> bytes:
        size = got.content_length
        if size is not None and size <= MOST_BYTES:
            return await got.read()
        return b"".join([chunk async for chunk in _bounded(got.content.iter_any())])

    def _error(self, got: aiohttp.ClientResponse, data: bytes) -> Exception:
        """A response that is no answer, as what to raise."""
        status = got.status
        said = _said(data)
        wait = retry_after(got.headers.get("Retry-After"), time.time())
        if status == 429:
            if "insufficient_quota" in said:
                return Stopped(f"The account behind {self.endpoint.name} has no more quota: {said[:300]}")
            return _Trouble(f"429, too many requests: {said[:160]}", wait, busy=True)
        if status in _AGAIN or status >= 500:
            return _Trouble(f"{status}: {said[:160]}", wait, busy=status == 503 and wait is not None)
        if status in _STOP or status < 400:
            return self._refused(status, data)
        return Failed(f"refused with {status}: {said[:300]}", context=_CONTEXT.search(said) is not None)

    def _refused(self, status: int, data: bytes) -> Stopped:
        e, said = self.endpoint, _said(data)[:300]
        if status in (401, 403):
            place = e.key_env or e.key_file
            what = (
                f"Look at the key in {place}" if place else "Name the variable that holds its key: --key-env VARIABLE"
            )
        elif status == 404:
            what = f"It has no model {e.model!r}, or its address is not {e.base_url}. Name what its /models lists"
        else:
            what = f"Is {e.base_url} the address of an OpenAI API"
        return Stopped(f"The endpoint {e.name} refuses to be asked ({status}): {said or 'no reason given'}. {what}.")


async def _bounded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MOST_BYTES:
            raise Broken(f"its answer is longer than {MOST_BYTES >> 20} MiB")
        yield chunk


def _said(data: bytes) -> str:
    """The words of an error."""
    try:
        body = read_json(data)
    except Broken:
        return data[:300].decode("utf-8", "replace").strip()
    code = body["error"].get("code") if isinstance(body, dict) and isinstance(body.get("error"), dict) else None
    return " ".join(str(part) for part in (message_of(body).strip(), f"({code})" if code else "") if part)
