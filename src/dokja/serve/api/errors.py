"""Errors as OpenAI's clients read them: {"error": {message, type, param, code}}.

| status | type                  | when                                                              |
|--------|-----------------------|-------------------------------------------------------------------|
| 400    | invalid_request_error | the request cannot be served as it is                             |
| 401    | authentication_error  | no key, or none that is known                                     |
| 403    | permission_error      | the key may not do this                                           |
| 404    | invalid_request_error | no such model or path                                             |
| 408    | invalid_request_error | the body did not come in time                                     |
| 413    | invalid_request_error | the body is too large                                             |
| 429    | rate_limit_error      | overload or a quota; Retry-After says when to come back           |
| 500    | server_error          | a bug of ours                                                     |
| 503    | server_error          | the engine was lost, or the server is stopping                    |
| 504    | server_error          | the answer took longer than the server allows                     |
"""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from dokja.errors import DokjaError
from dokja.serve.asking import Refusal
from dokja.serve.flight import EngineLost
from dokja.serve.limits import Busy
from dokja.serve.wire import Ending

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_TROUBLE = {"refused": 400, "lost": 503, "late": 504}
log = logging.getLogger("dokja.serve")


class ApiError(DokjaError):
    """An error with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """What the client reads."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """What goes with it: when to come back, and not to try again what took too long."""
        if self.retry_after is not None:
            return {"retry-after": str(self.retry_after)}
        return {"x-should-retry": "false"} if self.status in (504, 413) else {}


def of_ending(ending: Ending) -> ApiError:
    """The error behind an answer that could not be written."""
    status = _TROUBLE[ending.trouble or "lost"]
    return ApiError(status, ending.message, retry_after=1 if status == 503 else None)


def of_exception(error: Exception) -> ApiError:
    """Any exception as an error for the client; what is no sentence of ours is logged and not told."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Busy):
        return ApiError(429, str(error), code="rate_limit_exceeded", retry_after=error.retry_after)
    if isinstance(error, EngineLost):
        return ApiError(503, str(error), retry_after=1)
    if isinstance(error, Refusal):
        return ApiError(400, str(error), param=error.param, code=error.code)
    if isinstance(error, DokjaError):
        return ApiError(400, str(error))
    log.error("a bug", exc_info=error)
    return ApiError(500, "Something went wrong in the server. Its log says what.")


def dumps(value: Any) -> bytes:
    """JSON; half a surrogate pair, which no encoding can hold, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(dumps(value), status, headers, "application/json")


def error_response(error: ApiError) -> Response:
    """The response that tells an error."""
    return json_response(error.body(), error.status, error.headers())


def install(app: FastAPI) -> None:
    """Every error of the app in this form."""

    async def ours(request: Request, error: Exception) -> Response:
        return error_response(of_exception(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(_of_validation(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"There is nothing at {request.url.path}. The paths begin with /v1."
        told = ApiError(error.status_code, message)
        return json_response(told.body(), told.status, dict(error.headers or {}))

    app.add_exception_handler(DokjaError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, ours)


def _of_validation(error: RequestValidationError) -> ApiError:
    """pydantic's first complaint as a sentence."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(place) or None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unrecognized request argument supplied: {param}", param=param, code="unknown_parameter")
    if first["type"] in ("json_invalid", "model_attributes_type") or param is None:
        return ApiError(400, f"The body is no JSON object that can be read ({first['msg']}). Send application/json.")
    return ApiError(400, f"{param}: {first['msg']}.", param=param, code="invalid_value")
