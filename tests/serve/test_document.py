"""The OpenAPI document says what is: answers of every path hold against it, errors and keys included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from live import in_thread, script
from models_small import CLOCK, WEATHER, segments, tokens

from dokja.serve.keys import Keys
from dokja.text.chat import Message, ToolCall

ASK = [{"role": "user", "content": "?"}]
HEADERS = {"authorization": "Bearer given"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    said = Message("assistant", "seven", "hm")
    called = Message("assistant", "", "hm", (ToolCall("weather", {"city": "서울"}), ToolCall("clock", {})))
    answers = [tokens("dokja", segments("dokja", m, True, (WEATHER, CLOCK))) for m in (said, called)]
    with in_thread({"m": script("dokja", tmp_path_factory.mktemp("m"), answers)}, keys=Keys(["given"])) as url:
        yield httpx.Client(base_url=url, timeout=20)


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    made: dict[str, Any] = client.get("/openapi.json", headers=HEADERS).json()
    return made


def holds(document: dict[str, Any], method: str, path: str, got: httpx.Response) -> None:
    """The answer is one that the document names for its status."""
    told = document["paths"][path][method]["responses"][str(got.status_code)]["content"]
    kind = got.headers["content-type"].partition(";")[0]
    schema = {**told[kind]["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(got.json() if kind == "application/json" else got.text)


def post(client: httpx.Client, path: str, headers: dict[str, str] = HEADERS, **body: Any) -> httpx.Response:
    return client.post(path, json={"model": "m", "seed": 0, **body}, headers=headers)


def test_answers_are_as_the_document_has_them(client: httpx.Client, document: dict[str, Any]) -> None:
    thinks, tools = {"chat_template_kwargs": {"enable_thinking": True}}, {"tools": [WEATHER, CLOCK]}
    for body in ({}, {"logprobs": True, "top_logprobs": 2}, {"n": 2}, {"seed": 1, **tools}, {"stream": True}):
        got = post(client, "/v1/chat/completions", messages=ASK, **{**thinks, **body})
        assert got.status_code == 200, got.text
        holds(document, "post", "/v1/chat/completions", got)
    for body in ({}, {"logprobs": 1, "echo": True}, {"logprobs": 0}, {"stream": True}):
        holds(document, "post", "/v1/completions", post(client, "/v1/completions", prompt="three", **body))
    flat = [{"type": "function", **tool["function"]} for tool in (WEATHER, CLOCK)]
    for body in ({}, {"seed": 1, "tools": flat}, {"max_output_tokens": 2}, {"stream": True}):
        got = post(client, "/v1/responses", input="?", **{**thinks, **body})
        assert got.status_code == 200, got.text
        holds(document, "post", "/v1/responses", got)
    for path in ("/v1/models", "/health", "/health/live", "/health/ready", "/metrics"):
        holds(document, "get", path, client.get(path, headers=HEADERS))
    holds(document, "get", "/v1/models/{name}", client.get("/v1/models/m", headers=HEADERS))


def test_errors_are_as_the_document_has_them(client: httpx.Client, document: dict[str, Any]) -> None:
    wrong = {
        400: post(client, "/v1/chat/completions", messages=[]),
        401: post(client, "/v1/chat/completions", {}, messages=ASK),
        404: post(client, "/v1/chat/completions", messages=ASK, model="nobody"),
    }
    for status, got in wrong.items():
        assert got.status_code == status
        holds(document, "post", "/v1/chat/completions", got)
    got = post(client, "/v1/embeddings", input="글")
    assert got.status_code == 400
    holds(document, "post", "/v1/embeddings", got)
    holds(document, "get", "/v1/models/{name}", client.get("/v1/models/nobody", headers=HEADERS))


def test_nothing_is_only_guessed(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"]["ChatBody"])
    assert not any("422" in op["responses"] for ops in document["paths"].values() for op in ops.values())
    assert document["components"]["schemas"]["ChatBody"]["properties"]["model"]["examples"] == ["m"]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["paths"]["/v1/models"]["get"]["security"] == [{"key": []}]
    assert document["paths"]["/health"]["get"]["security"] == []


def test_without_keys_none_is_asked_for(tmp_path: Path) -> None:
    answer = tokens("dokja", segments("dokja", Message("assistant", "x"), False))
    with in_thread({"m": script("dokja", tmp_path, [answer])}) as url:
        document = httpx.get(f"{url}/openapi.json").json()
    assert all(op["security"] == [] for ops in document["paths"].values() for op in ops.values())
