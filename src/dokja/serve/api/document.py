"""The OpenAPI document: bodies as pydantic has them, answers as `shapes` has them, errors and keys as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dokja.serve.api import shapes
from dokja.serve.api.state import Server

_ANSWERS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": shapes.ChatCompletion,
    "/v1/completions": shapes.TextCompletion,
    "/v1/responses": shapes.ResponseObject,
    "/v1/embeddings": shapes.Embeddings,
    "/v1/models": shapes.ModelList,
    "/v1/models/{name}": shapes.ModelCard,
    "/health": shapes.Live,
    "/health/live": shapes.Live,
    "/health/ready": shapes.Ready,
}
_STREAMS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_ERRORS = {
    400: "The request cannot be served as it is.",
    401: "There is no key, or none that is known.",
    403: "The key may not do this.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "There is too much to do, or the key's quota is used up; Retry-After says when to come back.",
    500: "A bug of this server.",
    503: "The model is being loaded, was lost, or the server is stopping.",
    504: "The answer took longer than the server allows.",
}
_KEY = {"type": "http", "scheme": "bearer", "description": "A key of this server, where it asks for one."}


def documented(app: FastAPI, server: Server, open_paths: tuple[str, ...]) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is to be. `open_paths` ask for no key."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            _complete(made, server, open_paths)
        return made

    return document


def _complete(document: dict[str, Any], server: Server, open_paths: tuple[str, ...]) -> None:
    """Puts in what FastAPI cannot know, and takes out what it only guesses."""
    shown: set[type[BaseModel]] = {*_ANSWERS.values(), shapes.Error}
    _, defined = models_json_schema(
        [(m, "serialization") for m in sorted(shown, key=lambda m: m.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for guess in ("HTTPValidationError", "ValidationError"):
        schemas.pop(guess, None)
    schemas |= defined["$defs"]
    names = [model.name for model in server.models]
    for schema in schemas.values():
        if str(schema.get("title", "")).endswith("Body") and "model" in schema["properties"]:
            schema["properties"]["model"]["examples"] = names
    parts["securitySchemes"] = {"key": _KEY}
    for path, operations in document["paths"].items():
        for kind, operation in operations.items():
            operation["responses"] = _responses(path, kind)
            locked = server.keys is not None and path not in open_paths
            operation["security"] = [{"key": []}] if locked else []


def _responses(path: str, kind: str) -> dict[str, Any]:
    shape = _ANSWERS.get(path)
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if shape is not None:
        content = {"application/json": {"schema": _named(shape)}}
    if path in _STREAMS:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    good = {"200": {"description": "As asked; events where `stream` is true.", "content": content}}
    if path.startswith("/health"):
        return {**good, "503": {"description": "Not so.", "content": content}}
    wrong = {"application/json": {"schema": _named(shapes.Error)}}
    statuses = _ERRORS if kind == "post" else [s for s in _ERRORS if s not in (408, 413, 429, 504)]
    told = {str(s): {"description": _ERRORS[s], "content": wrong} for s in statuses}
    if "429" in told:
        told["429"] |= {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}
    return good | told


def _named(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}
