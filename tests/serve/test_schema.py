"""Requests made from our own OpenAPI document, and random ones beside it: none ends in a status of 500 or above.

schemathesis asks more of them. It is no dependency; ten minutes of it, against a server of one model:

    pip install schemathesis
    dokja serve MODEL --max-tokens 16 --no-pages
    st run http://127.0.0.1:8000/openapi.json --checks not_a_server_error --max-time 600 --continue-on-failure
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import in_thread, script
from models_small import segments, tokens

from dokja.text.chat import Message

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.sampled_from(["user", "tool", "text", ""]),
)  # fmt: skip
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    answer = tokens("dokja", segments("dokja", Message("assistant", "seven"), False))
    with in_thread({"dokja": script("dokja", tmp_path_factory.mktemp("m"), [answer])}) as url:
        yield httpx.Client(base_url=url, timeout=20)


def fitting(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values for a JSON schema of the document, roughly: bounds are crossed now and then."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return st.one_of([fitting(s, document, depth) for s in schema[key]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "integer":
        return st.integers(schema.get("minimum", -2), min(schema.get("maximum", 8), 8)) | st.integers()
    if kind == "number":
        return st.floats(schema.get("minimum", -2), schema.get("maximum", 2)) | st.just(1e9)
    if kind == "boolean":
        return st.booleans()
    if kind == "string":
        return LEAVES.filter(lambda v: isinstance(v, str))
    if kind == "array":
        return st.lists(fitting(schema.get("items", {}), document, depth + 1), max_size=2)
    if kind == "object" and "properties" in schema:
        parts = {n: fitting(s, document, depth + 1) for n, s in schema["properties"].items()}
        if depth == 0:
            parts["model"] = st.just("dokja")
        if "messages" in parts:
            turn = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": LEAVES})
            parts["messages"] = st.lists(turn, min_size=1, max_size=3) | parts["messages"]
        needed = set(schema.get("required", ()))
        given_ = {n: s for n, s in parts.items() if n in needed}
        return st.fixed_dictionaries(given_, optional={n: s for n, s in parts.items() if n not in needed})
    return ANYTHING if kind in (None, "object") else LEAVES


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"])
def test_no_body_is_a_bug_of_ours(client: httpx.Client, path: str) -> None:
    document = client.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    seen: set[int] = set()

    @settings(max_examples=25, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(fitting(schema, document) | ANYTHING)
    def ask(body: Any) -> None:
        got = client.post(path, json=body)
        seen.add(got.status_code)
        assert got.status_code < 500, got.text

    ask()
    assert 400 in seen
