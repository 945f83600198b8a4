"""Conversations as clients send them, into messages. Images are read here, within the server's limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dokja.errors import DataError, DokjaError
from dokja.serve.asking import Refusal
from dokja.serve.limits import Limits
from dokja.text.chat import Message
from dokja.text.images import read_image

_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_IMAGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {
            "type": "object",
            "properties": {"url": {"type": "string", "pattern": "^data:image/"}},
            "required": ["url"],
        },
    },
    "required": ["type", "image_url"],
}
_CALL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
            "required": ["name", "arguments"],
        },
    },
    "required": ["function"],
}
_PARTS = {"type": "array", "items": {"anyOf": [_TEXT, _IMAGE]}, "minItems": 1}
MESSAGES: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"anyOf": [{"type": "string"}, {"type": "null"}, _PARTS]},
            "reasoning_content": {"type": ["string", "null"]},
            "tool_calls": {"type": "array", "items": _CALL},
            "tool_call_id": {"type": "string"},
        },
        "required": ["role"],
    },
}
"""Of a conversation, for the OpenAPI document; what is read is decided here and in `Message.from_dict`."""
_ROLES = {"developer": "system"}


def read_messages(raw: Sequence[Mapping[str, Any]], limits: Limits) -> list[Message]:
    """The messages. Raises Refusal that names the one at fault."""
    if not raw:
        raise Refusal("messages is empty. Send at least one message.", "messages")
    images, out = 0, []
    for i, message in enumerate(raw):
        where = f"messages[{i}]"
        try:
            content, shown = _content(message.get("content"), limits)
            images += shown
            if images > limits.images:
                raise DataError(f"A request may hold {limits.images} images. Send fewer.")
            role = message.get("role")
            out.append(Message.from_dict({**message, "content": content, "role": _ROLES.get(str(role), role)}))
        except (DokjaError, TypeError, AttributeError) as error:
            said = str(error) if isinstance(error, DokjaError) else "It is no message of an OpenAI API."
            raise Refusal(f"{where}: {said}", where) from error
    return out


def _content(content: Any, limits: Limits) -> tuple[Any, int]:
    """(content with its images as pixels, how many there are)."""
    if not isinstance(content, list):
        return content, 0
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "image_url":
            source = part["image_url"] if "image_url" in part else part.get("url")
            source = source.get("url") if isinstance(source, Mapping) else source
            if not isinstance(source, str) or not source.startswith("data:"):
                raise DataError("An image has to be sent as a data URL: data:image/png;base64,...")
            parts.append({"type": "image", "image": read_image(source, limits.image_bytes, limits.image_pixels)})
        elif kind == "refusal":
            parts.append({"type": "text", "text": part.get("refusal")})
        else:
            parts.append(part)
    return parts, sum(part.get("type") == "image" for part in parts if isinstance(part, Mapping))
