"""A `response_format` beside tools: JSON under the schema or calls of the tools, and nothing else, in every format."""

import json
import random

import jsonschema
import pytest
from models_small import CLOCK, facts, segments, tokenizer, tokens

from dokja.engine.grammar import Grammars
from dokja.serve.asking import Ask, plan
from dokja.serve.calls import answer_or_calls, call_schema
from dokja.text.chat import Message, ToolCall
from dokja.text.stream import Piece
from dokja.text.styles import STYLES

pytest.importorskip("llguidance")
SCHEMA = {
    "type": "object", "properties": {"a": {"enum": [3, 17]}}, "required": ["a"], "additionalProperties": False,
}  # fmt: skip
ARGUMENTS = {
    "type": "object", "properties": {"city": {"$ref": "#/$defs/City"}}, "required": ["city"],
    "additionalProperties": False, "$defs": {"City": {"enum": ["서울", "부산"]}},
}  # fmt: skip
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": ARGUMENTS}}
EMPTY = {"type": "object", "properties": {}, "additionalProperties": False}
NOTHING = {"type": "function", "function": {"name": "clock", "parameters": EMPTY}}
TOOLS = (WEATHER, NOTHING)
CALLERS = [name for name, style in STYLES.items() if style.tools]
SEOUL, TIME = ToolCall("weather", {"city": "서울"}), ToolCall("clock", {})


def matcher(name: str, parallel: bool):
    known = facts(name)
    grammar = answer_or_calls(known.style.calls, TOOLS, SCHEMA, known.tokenizer.specials, parallel)
    return Grammars(known.tokenizer, known.tokenizer.vocab_size).matcher(grammar, known.stops)


def allowed(at) -> list[int]:
    mask = at.allowed()
    return [32 * word + bit for word, bits in enumerate(mask.tolist()) for bit in range(32) if bits >> bit & 1]


def takes(name: str, message: Message, parallel: bool = True) -> bool:
    """Whether a model of this format can write this message, its end included."""
    at = matcher(name, parallel)
    for token in tokens(name, segments(name, message, False, TOOLS)):
        if token not in allowed(at):
            return False
        at.accept(token)
        if token in facts(name).stops:
            return not at.stuck
    return False


@pytest.mark.parametrize("name", CALLERS)
def test_an_answer_or_calls_may_come(name: str) -> None:
    for message in (Message("assistant", '{"a": 17}'), Message("assistant", "", None, (SEOUL,))):
        assert takes(name, message) and takes(name, message, False)
    two = Message("assistant", "", None, (SEOUL, TIME))
    assert takes(name, two) and not takes(name, two, False)


@pytest.mark.parametrize("name", CALLERS)
def test_nothing_else_may_come(name: str) -> None:
    for content, calls in (("hello", ()), ('{"a": 4}', ()), ('{"a": 3}', (SEOUL,)), ("", (ToolCall("nobody", {}),))):
        assert not takes(name, Message("assistant", content, None, calls)), (content, calls)
    if STYLES[name].calls == "json":
        assert not takes(name, Message("assistant", "", None, (ToolCall("weather", {"city": "평양"}),)))


@pytest.mark.parametrize("name", [n for n in CALLERS if STYLES[n].calls == "json"])
def test_whatever_comes_is_one_of_them(name: str) -> None:
    known, tok, kinds = facts(name), tokenizer(name), set()
    markers = {i: mark for mark, i in tok.specials.items()}
    for seed in range(30):
        rng, at, written = random.Random(seed), matcher(name, seed % 2 == 0), []
        while not written or written[-1] not in known.stops:
            may = allowed(at)
            # a short way to the end: space is as good as anything, and letters are many
            good = [t for t in may if not tok.decode([t], markers=True).isspace()] or may
            token = rng.choice([t for t in good if t in known.stops] * 40 + good)
            at.accept(token)
            written.append(token)
        parser = known.style.parser(False, spelled=known.style.spelled_by(tok.specials), tools=TOOLS)
        stream = tok.stream()
        for token in written:
            for piece in stream.feed(token):
                parser.feed(piece if not piece.special else Piece(markers[token], True))
        message = parser.finish()
        if message.tool_calls:
            kinds.add(len(message.tool_calls) if seed % 2 else "calls")
            assert not message.content.strip()
            for call in message.tool_calls:
                jsonschema.validate({"name": call.name, "arguments": call.arguments}, call_schema(TOOLS))
        else:
            kinds.add("answer")
            jsonschema.validate(json.loads(message.content), SCHEMA)
    assert kinds == {"answer", "calls", 1}, "one call alone where they are not parallel"


def test_references_of_a_tool_are_found_in_the_schema_of_its_call() -> None:
    for tools in ([WEATHER], [NOTHING, WEATHER]):
        jsonschema.validate({"name": "weather", "arguments": {"city": "부산"}}, call_schema(tools))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "weather", "arguments": {"city": "평양"}}, call_schema(tools))


@pytest.mark.parametrize("name", CALLERS)
def test_a_plan_binds_the_answer_behind_the_thought(name: str) -> None:
    ask = Ask([Message("user", "?")], {}, tools=[WEATHER, CLOCK], schema=SCHEMA, seed=0)
    for thinking in (mode == "think" for mode in STYLES[name].modes):
        asked = Ask(**{**ask.__dict__, "thinking": thinking})
        grammar = plan(asked, facts(name), "r").request.grammar
        assert grammar is not None and grammar.kind == "json_or"
        assert grammar.lead == (STYLES[name].lead if thinking else "")
        must = plan(Ask(**{**asked.__dict__, "choice": "weather"}), facts(name), "r")
        assert must.forced is not None and must.request.grammar is None, "a call that must come is no content"
