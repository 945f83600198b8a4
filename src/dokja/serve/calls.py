"""Tool calls passed on while they are written: a name first, then the letters of its arguments as they come.

What has been passed on cannot be taken back, so a call counts from the moment when its beginning is certain: it names a
tool of the request and its arguments begin. If the rest turns out to be no JSON, the arguments stay what was written;
they are text, and the caller has to check them in any case.

| calls  | the arguments passed on                                                       |
|--------|-------------------------------------------------------------------------------|
| json   | as written, from their `{` on                                                 |
| xml    | made JSON argument by argument, each when the next one begins or the call ends |

What is passed on of a call is a function of what was written of it, so the cuts between tokens change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from dokja.engine.rules import Grammar
from dokja.text.chat import CALL, CALL_END, ToolCall, to_json
from dokja.text.official.k2 import begun_xml_call
from dokja.text.style import Tools

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')


def tool_names(tools: Tools) -> frozenset[str]:
    """The names of the tools of a request."""
    return frozenset(str(tool.get("function", tool).get("name")) for tool in tools)


class CallStream:
    """One call. `name` is None until it is certain."""

    def __init__(self, calls: Literal["json", "xml"], tools: Tools) -> None:
        self._xml, self._tools, self._names = calls == "xml", tools, tool_names(tools)
        self.name: str | None = None
        self._sent = 0  # letters of the arguments passed on
        self._scan = _Object()

    def begins(self, raw: str) -> bool:
        """Whether `raw`, or a text that it begins, is certain to be a call of a tool of the request."""
        return self._begun(raw) is not None

    def feed(self, raw: str) -> str:
        """`raw` is all that stands in the call so far -> what is new of its arguments."""
        begun = self._begun(raw)
        if begun is None:
            return ""
        self.name, arguments = begun
        new, self._sent = arguments[self._sent :], len(arguments)
        return new

    def end(self, raw: str, whole: ToolCall | None) -> str:
        """The call is over -> the rest of its arguments; `whole` is what could be read of it, None for nothing."""
        new = self.feed(raw)
        if whole is None or (self.name is not None and not self._xml):
            return new
        arguments = to_json(whole.arguments)
        self.name, new = whole.name, new + arguments[self._sent :]
        return new

    def _begun(self, raw: str) -> tuple[str, str] | None:
        """(name, arguments so far), where the beginning is certain."""
        if self._xml:
            call = begun_xml_call(raw, self._tools)
            if call is None or call.name not in self._names:
                return None
            return call.name, to_json(call.arguments)[:-1]
        head = _HEAD.match(raw)
        if head is None or (name := _string(head[1])) not in self._names:
            return None
        return name, raw[head.end() : self._scan.end(raw, head.end())]


class _Object:
    """Finds where a JSON object ends in a text that grows; only what is new is looked at."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._depth, self._quoted, self._escaped, self._over = 0, False, False, False

    def end(self, text: str, start: int) -> int:
        """Behind the object that begins at `start`, or behind all of the text where it has not ended."""
        i = start if self._at is None else self._at
        while i < len(text) and not self._over:
            c, i = text[i], i + 1
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = c == "\\", c != '"'
            elif c == '"':
                self._quoted = True
            elif c in "{[":
                self._depth += 1
            elif c in "}]":
                self._depth -= 1
                self._over = self._depth == 0
        self._at = i
        return i


def begins_call(raw: str, calls: Literal["json", "xml"], tools: Tools) -> bool:
    """Whether `raw` is the beginning of a call that is passed on at once (see above)."""
    return CallStream(calls, tools).begins(raw)


def forced_beginning(calls: Literal["json", "xml"], names: Collection[str]) -> str:
    """What a call of one of these tools begins with, behind its marker."""
    (name, *others) = names
    if calls == "json":
        return ""
    return "\n<function=" if others else f"\n<function={name}>\n"


def answer_or_calls(
    calls: Literal["json", "xml"], tools: Tools, schema: Mapping[str, Any], ids: Mapping[str, int], parallel: bool
) -> Grammar:
    """JSON under a schema, or calls of these tools and nothing else; one call where they are not `parallel`. `ids`: of
    the markers that are tokens; those that are not are written as text."""
    opening, closing = (f"<[{ids[m]}]>" if m in ids else json.dumps(m) for m in (CALL, CALL_END))
    words: dict[str, Mapping[str, Any]] = {}
    rules = ""
    if calls == "json":
        words, body = {"body": call_schema(tools)}, f"{opening} {_SPACE} body {_SPACE} {closing}"
    else:
        names = " | ".join(json.dumps(name) for name in sorted(tool_names(tools)))
        rest = f"text {closing}" if CALL_END in ids else "until"
        body = f'{opening} /\\s*/ "<function=" ({names}) ">" {rest}'
        rules = f"\ntext: /(.|\\n)*/\nuntil[lazy]: /(.|\\n)*{re.escape(CALL_END).replace('/', chr(92) + '/')}/"
    others = f"other: {_SPACE} call{'+' if parallel else ''}\ncall: {body} {_SPACE}{rules}"
    return Grammar.json_or(schema, others, words)


_SPACE = "/[ \\n]{0,8}/"


def call_schema(tools: Tools) -> dict[str, Any]:
    """The JSON schema of a call of one of these tools, in the format `json`."""
    kinds = []
    for i, tool in enumerate(tools):
        body = tool.get("function", tool)
        place = "#/properties/arguments" if len(tools) == 1 else f"#/anyOf/{i}/properties/arguments"
        arguments = _moved(body.get("parameters") or {"type": "object"}, place)
        kinds.append(
            {
                "type": "object",
                "properties": {"name": {"const": body["name"]}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references to its own parts are right where it stands in a larger one."""
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: part if key in ("const", "enum") else _moved(part, place) for key, part in schema.items()}
    if isinstance(to := moved.get("$ref"), str) and (to == "#" or to.startswith("#/")):
        moved["$ref"] = place + to[1:]
    return moved


def _string(quoted: str) -> str | None:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return None
