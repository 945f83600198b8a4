"""Options that several paths take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dokja.serve.api.body import Body, Loose
from dokja.serve.api.errors import ApiError


class StreamOptions(Loose):
    """`include_usage` sends one more chunk with the usage."""

    include_usage: bool = False


class TemplateKwargs(Body):
    """What chat templates know: the mode, and whether past thoughts are kept where the format can."""

    enable_thinking: bool | None = None
    preserve_thinking: bool = False


class JsonSchema(Loose):
    """Of a `response_format`."""

    name: str = "answer"
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Body):
    """`text`, any JSON object, or one that a schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_of(self) -> dict[str, Any] | None:
        """The JSON schema that binds the answer; None for text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise ApiError(400, "A json_schema format needs json_schema.schema.", param="response_format")
        return self.json_schema.schema_
