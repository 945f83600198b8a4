"""What goes between the server and an engine process: maps in msgpack, one behind the other, no pickle anywhere.

| to the engine             | meaning                                     |
|---------------------------|---------------------------------------------|
| `{load: {...}, life: n}`  | the first message: what to load (`worker`)  |
| `{submit: request}`       | write this answer                           |
| `{abort: id}`             | nobody listens any more                     |

| from the engine           | meaning                                                                      |
|---------------------------|------------------------------------------------------------------------------|
| `{ready: info}`           | loaded                                                                       |
| `{failed: sentence}`      | cannot be loaded                                                             |
| `{beat: n, events: [...], ended: [...], stats: {...}}` | a step or an idle tick; what is empty is left out |

The end of the connection ends the engine process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import msgpack
import numpy as np

from dokja.engine.api import Event, Finish, Request, Top
from dokja.engine.rules import Grammar
from dokja.text.images import Patches

Trouble = Literal["refused", "lost", "late"]
"""Why there is no answer: the request cannot be served as it is, the engine was lost under it, its time is over."""
_MOST_BYTES = 1 << 31
_TUPLES = ("stop", "think_close", "stop_text")
_DEFAULTS = {f.name: f.default for f in fields(Request) if f.default is not MISSING}


@dataclass(frozen=True)
class Ending:
    """The one thing that comes behind an answer's last event."""

    finish: Finish | Literal["error"]
    cached_tokens: int = 0
    stopped_by: str | None = None
    forced_at: int = -1
    message: str = ""
    """With "error": a sentence for whoever asked."""
    trouble: Trouble | None = None
    """With "error" only."""


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes."""
    packed: bytes = msgpack.packb(message)
    return packed


class Unpacker:
    """Bytes, however they are cut, into messages."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=_MOST_BYTES, use_list=True)

    def feed(self, data: bytes) -> Iterable[dict[str, Any]]:
        """The messages that are whole now."""
        self._unpacker.feed(data)
        return self._unpacker


def request_to_wire(request: Request) -> dict[str, Any]:
    """A request as plain data; values that are the default are left out."""
    out: dict[str, Any] = {}
    for field in fields(Request):
        value = getattr(request, field.name)
        if field.name == "images":
            if value:
                out["images"] = [{"values": i.values.tobytes(), "rows": len(i.values), "grid": i.grid} for i in value]
        elif field.name == "grammar":
            if value is not None:
                out["grammar"] = {"kind": value.kind, "text": value.text, "lead": value.lead}
        elif field.name not in _DEFAULTS or value != _DEFAULTS[field.name]:
            out[field.name] = value
    return out


def request_from_wire(raw: Mapping[str, Any]) -> Request:
    """The request behind `request_to_wire`'s data. Raises ConfigError where a value cannot be meant."""
    values = dict(raw)
    for name in _TUPLES:
        if name in values:
            values[name] = tuple(values[name])
    if "logit_bias" in values:
        values["logit_bias"] = tuple((token, bias) for token, bias in values["logit_bias"])
    if "images" in values:
        values["images"] = tuple(
            Patches(np.frombuffer(i["values"], np.float32).reshape(i["rows"], -1), tuple(i["grid"]))
            for i in values["images"]
        )
    if "grammar" in values:
        values["grammar"] = Grammar(**values["grammar"])
    return Request(**values)


def event_to_wire(event: Event) -> list[Any]:
    """An event as a list."""
    plain = [event.id, event.token, event.logprob, event.finish, event.top]
    return [*plain, event.prompt] if event.prompt else plain


def event_from_wire(raw: list[Any]) -> Event:
    """The event behind `event_to_wire`'s list."""
    name, token, logprob, finish, top, *more = raw
    prompt = tuple((p, _top(best)) for p, best in more[0]) if more else ()
    return Event(name, token, logprob, finish, _top(top) if top else (), prompt)


def _top(raw: list[Any]) -> Top:
    return tuple((token, logprob) for token, logprob in raw)


def ending_to_wire(name: str, ending: Ending) -> list[Any]:
    """Whose end it is, and the end."""
    return [name, *(getattr(ending, field.name) for field in fields(Ending))]


def ending_from_wire(raw: list[Any]) -> tuple[str, Ending]:
    """What `ending_to_wire` wrote."""
    return raw[0], Ending(*raw[1:])
