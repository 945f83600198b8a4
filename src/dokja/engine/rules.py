"""What an answer has to match, as whoever asks says it (no torch); `engine.grammar` sees to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

from dokja.errors import DataError

Kind = Literal["json_schema", "json_or", "regex", "choice", "lark"]
SPACE = r"[ \n\r\t]{1,64}"
_WORDS = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?![/*])(?:\\.|[^/\\\n])+/|//[^\n]*|#[^\n]*')
_REFUSED = re.compile(r"<[^<>\s]+>|\b(?:max_tokens|temperature|stop)\b(?=\s*=)")


@dataclass(frozen=True)
class Grammar:
    """What an answer has to match, from its first letter to its last. Use the constructors."""

    kind: Kind
    text: str
    lead: str = ""
    """White space that the chat format puts between a thought and the answer (`Style.lead`); it must come first."""

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """JSON that is valid under a schema (draft 2020-12), keys in the order of `properties`. Raises DataError for
        what is no JSON object; what cannot be enforced is refused by `Grammars`."""
        if not isinstance(schema, Mapping):
            raise DataError(f"A JSON schema is an object, and this one is {type(schema).__name__}. Pass a dict.")
        # This key, which changes how llguidance reads a schema, is ours alone.
        plain = {key: value for key, value in schema.items() if key != "x-guidance"}
        try:
            text = json.dumps(_quoted(plain), ensure_ascii=False, allow_nan=False)
            text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"This JSON schema is no JSON ({str(error)[:200]}). Use text, numbers, lists, maps."
            ) from None
        return cls("json_schema", text)

    @classmethod
    def json_or(cls, schema: Mapping[str, Any], rules: str, words: Mapping[str, Mapping[str, Any]]) -> Grammar:
        """JSON under a schema, or else what the Lark rule `other` in `rules` describes. The names in `words` stand for
        JSON under schemas of their own there, and `<[7]>` for the token 7, where it is a marker of tool calls. Raises
        as `json_schema` does."""
        schemas = {"answer": schema, **words}
        lines = [f"{name}: %json {spaced(cls.json_schema(rule).text)}" for name, rule in schemas.items()]
        return cls("json_or", "\n".join(["start: answer | other", rules, *lines]))

    @classmethod
    def json_object(cls) -> Grammar:
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """Text that matches as a whole. The syntax is that of Rust's `regex` crate: Python's without look-around and
        back references; `\\d` is 0-9, `\\w` and `\\s` are Unicode's."""
        return cls("regex", _utf8(pattern))

    @classmethod
    def choice(cls, options: Sequence[str]) -> Grammar:
        """One of these strings. Raises DataError where there is none."""
        if not options or isinstance(options, str) or not all(isinstance(option, str) for option in options):
            raise DataError("A choice needs at least one option, each a string. Pass a list such as ['yes', 'no'].")
        return cls("choice", _utf8(json.dumps(list(options), ensure_ascii=False)))

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """What a grammar in llguidance's variant of Lark describes: rules, `%json`, `%ignore` and more, without tokens
        in `<>` and limits counted in tokens. Raises DataError for these."""
        plain = _WORDS.sub(" ", text)
        if found := _REFUSED.search(plain):
            raise DataError(
                f"This Lark grammar uses {found[0]}, and grammars here speak of text alone, not of tokens. Write the "
                "text itself, and use max_tokens and stop of the request."
            )
        return cls("lark", _utf8(text))

    def after(self, lead: str) -> Grammar:
        """The same behind this white space; see `lead`."""
        return replace(self, lead=lead)


def spaced(schema: str) -> str:
    """A JSON schema as llguidance reads it, with white space between the parts of a JSON text, at most once a place:
    small models would never stop writing it."""
    return json.dumps(json.loads(schema) | {"x-guidance": {"whitespace_pattern": SPACE}}, ensure_ascii=False)


def _quoted(schema: Any) -> Any:
    """The schema with its references as the URIs that they should be: many are written with Hangul as it is."""
    if isinstance(schema, list | tuple):
        return [_quoted(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    whole = {key: part if key in ("const", "enum") else _quoted(part) for key, part in schema.items()}
    if isinstance(reference := whole.get("$ref"), str):
        whole["$ref"] = quote(reference, safe="%/:=&?~#+!$,;'@()*[]", errors="surrogatepass")
    return whole


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("This grammar holds half of a surrogate pair, which is no text. Remove it.") from None
    return text
