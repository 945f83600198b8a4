"""What the pages speak to: an OpenAI-style endpoint. Tests give them a scripted one of the same shape."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from dokja.errors import DokjaError


class EndpointError(DokjaError):
    """The endpoint refused or is not there; `status` 0 where nothing answered."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class ModelCard:
    """A model that may be asked, and what it can."""

    name: str
    thinks: bool = True
    """Whether it knows the mode."""
    at_once: bool = True
    sees: bool = False

    @property
    def hybrid(self) -> bool:
        """Whether there is a mode to choose."""
        return self.thinks and self.at_once


class Endpoint(Protocol):
    """Lists models and lets them write."""

    async def models(self) -> list[ModelCard]:
        """All models. Raises EndpointError."""

    def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a chat completion; closing it ends the answer. Raises EndpointError."""


class HttpEndpoint:
    """An endpoint at a URL that ends in /v1."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(10, read=None, pool=None)  # a thought may take its time; who waits may stop it
        self._http = httpx.AsyncClient(
            headers=headers, timeout=timeout, base_url=url.rstrip("/") + "/", trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )  # fmt: skip

    async def models(self) -> list[ModelCard]:
        try:
            answer = await self._http.get("models", timeout=10)
        except httpx.HTTPError as error:
            raise EndpointError(0, str(error)) from error
        if answer.status_code != 200:
            raise _refusal(answer)
        return [_card(row) for row in answer.json()["data"]]

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        try:
            async with self._http.stream("POST", "chat/completions", json={**body, "stream": True}) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise _refusal(answer)
                async for line in answer.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        raise EndpointError(500, str(chunk["error"].get("message")))
                    yield chunk
        except httpx.HTTPError as error:
            raise EndpointError(0, str(error)) from error


def _card(row: Mapping[str, Any]) -> ModelCard:
    modes = row.get("modes") or ["direct"]
    return ModelCard(row["id"], "think" in modes, len(modes) > 1 or "think" not in modes, bool(row.get("vision")))


def _refusal(answer: httpx.Response) -> EndpointError:
    try:
        said = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.text[:500] or f"HTTP {answer.status_code}"
    wait = answer.headers.get("retry-after", "")
    return EndpointError(answer.status_code, said, int(wait) if wait.isdigit() else None)
