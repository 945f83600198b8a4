"""K-EXAONE 2.0: the layout of `k.py`, apart from

| what                | format                                                                               |
|---------------------|--------------------------------------------------------------------------------------|
| calls               | `<tool_call>\\n<function=NAME>\\n`, each argument, `</function>\\n</tool_call>`       |
| an argument         | `<parameter=KEY>\\nVALUE\\n</parameter>\\n`                                          |
| tools               | declared as JSON with sorted keys                                                    |
| thoughts in history | `preserve_thinking` keeps them all (off by default: for agents)                      |
| images              | none                                                                                 |

The XML names no types: text stands as it is, everything else as JSON. Which is meant is read from the declaration of
the tool; where that is silent, what can be read as JSON is no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dokja.errors import DokjaError
from dokja.text.chat import Message, Segment, ToolCall, to_json
from dokja.text.official import k
from dokja.text.official.parser import OfficialParser
from dokja.text.style import Parser, Tools

_NAME = r"[^<>\s]+"
_CALL = re.compile(rf"\s*<function=({_NAME})>\s*(.*?)\s*</function>\s*", re.DOTALL)
# A value may hold anything but its end: the closing tag with another parameter, or nothing, behind it.
_PARAMETER = re.compile(rf"<parameter=({_NAME})>\n?(.*?)\n?</parameter>\s*(?=<parameter=|\Z)", re.DOTALL)

_BEGUN = re.compile(rf"\s*<function=({_NAME})>\s*")
_FOLLOWED = re.compile(rf"<parameter=({_NAME})>\n?(.*?)\n?</parameter>\s*(?=<parameter=)", re.DOTALL)


def xml_call(call: ToolCall) -> str:
    """A call as it stands between its markers; raises DokjaError for names that no tag can hold."""
    for name in (call.name, *call.arguments):
        if not re.fullmatch(_NAME, name):
            raise DokjaError(f"{name!r} cannot be the name of a tool or argument in this format: use one plain word.")
    values = ((key, v if isinstance(v, str) else to_json(v)) for key, v in call.arguments.items())
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values)
    return f"\n<function={call.name}>\n{parameters}</function>\n"


def read_xml_call(text: str, tools: Tools = ()) -> ToolCall | None:
    """The call that `text` spells, or None; types come from the tool's declaration where `tools` hold it."""
    whole = _CALL.fullmatch(text)
    if whole is None:
        return None
    name, body = whole.groups()
    types, arguments, at = _types(tools, name), {}, 0
    while at < len(body):
        found = _PARAMETER.match(body, at)
        if found is None or found[1] in arguments:
            return None
        arguments[found[1]] = found[2] if types.get(found[1]) == "string" else _value(found[2])
        at = found.end()
    return ToolCall(name, arguments)


def begun_xml_call(text: str, tools: Tools = ()) -> ToolCall | None:
    """What is certain of a call that is still being written: its name, and the arguments which another one follows."""
    begun = _BEGUN.match(text)
    if begun is None:
        return None
    types, arguments, at = _types(tools, begun[1]), {}, begun.end()
    while found := _FOLLOWED.match(text, at):
        arguments[found[1]] = found[2] if types.get(found[1]) == "string" else _value(found[2])
        at = found.end()
    return ToolCall(begun[1], arguments)


def _types(tools: Tools, name: str) -> dict[str, Any]:
    """The declared type of each argument of tool `name`."""
    for tool in tools:
        body = tool.get("function", tool)
        if isinstance(body, Mapping) and body.get("name") == name:
            properties = (body.get("parameters") or {}).get("properties") or {}
            return {key: p.get("type") for key, p in properties.items() if isinstance(p, Mapping)}
    return {}


def _value(text: str) -> Any:
    """JSON that is no string, else the text itself."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # NaN and lone surrogates are no JSON
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str) else value


_FRAME = replace(k.FRAME, call=xml_call, picture=())


def _layout(
    messages: Sequence[Message], tools: Tools, thinking: bool, add_generation_prompt: bool, preserve_thinking: bool
) -> list[Segment]:
    return k.layout(_FRAME, messages, tools, thinking, add_generation_prompt, preserve_thinking, sort_keys=True)


def _reading(thinking: bool, spelled: Collection[str], tools: Tools) -> Parser:
    return OfficialParser(thinking, names=k.NAMES, spelled=spelled, read_call=lambda text: read_xml_call(text, tools))


K2 = replace(k.K, name="k2", image=None, layout=_layout, reading=_reading, calls="xml")
