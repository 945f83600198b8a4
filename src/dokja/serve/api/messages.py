"""Conversations as clients send them, into messages. Images are read here, within the server's limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dokja.errors import DataError, DokjaError
from dokja.serve.asking import Refusal
from dokja.serve.limits import Limits
from dokja.text.chat import Message
from dokja.text.images import read_image

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
