"""What a reader makes of an answer: the message that was written, however its text is cut into tokens."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_small import CLOCK, WEATHER, facts, segments, tokenizer, tokens

from dokja.engine.api import Event
from dokja.serve.reading import Part, Reader
from dokja.serve.wire import Ending
from dokja.text.chat import Message, Segment, ToolCall
from dokja.text.styles import STYLES
from dokja.text.unicode import nfc

MODES = [(name, mode == "think") for name, style in STYLES.items() for mode in style.modes]
CALLING = [(name, thinking) for name, thinking in MODES if STYLES[name].tools]
TOOLS = (WEATHER, CLOCK)

words = st.text(st.sampled_from('ab 1{}"\\\n.가힣ㄱ漢👍<>/:,'), max_size=30)
reasonings = words.map(lambda s: nfc("R" + s.strip() + "R"))
contents = words.map(lambda s: nfc("A" + s.strip() + "A"))
calls = st.one_of(
    st.builds(lambda city, days: ToolCall("weather", {"city": nfc(city), "days": days}), words, st.integers(-9, 99)),
    st.just(ToolCall("clock", {})),
    st.builds(lambda x: ToolCall("weather", {"city": nfc(x), "more": [1, {"a": None}]}), words),
)
cutting = st.lists(st.integers(0, 200), max_size=12).map(tuple)


def read(name: str, ids: list[int], ending: Ending | None = None, **how) -> tuple[list[Part], Reader]:
    """The parts of an answer of these tokens."""
    reader, parts = Reader(facts(name), **how), []
    for token in ids:
        parts += reader.feed(Event("r", token, -float(token % 7)))
    return [*parts, *reader.end(ending or Ending("stop"))], reader


def joined(parts: list[Part]) -> dict:
    """An answer as a client would put it together."""
    out = {"reasoning": "", "content": "", "calls": []}
    for part in parts:
        if part.kind == "call":
            assert part.index == len(out["calls"])
            out["calls"].append([part.name, ""])
        elif part.kind == "arguments":
            out["calls"][part.index][1] += part.text
        else:
            out[part.kind] += part.text
    return out


@pytest.mark.parametrize("name, thinking", MODES)
@settings(max_examples=40, deadline=None)
@given(reasonings, contents, cutting)
def test_thought_and_answer_come_apart_whatever_the_cuts(name, thinking, reasoning, content, cuts) -> None:
    message = Message("assistant", content, reasoning if thinking else None)
    parts, reader = read(name, tokens(name, segments(name, message, thinking), cuts), thinking=thinking)
    normal = tokenizer(name).normal
    assert joined(parts) == {
        "reasoning": normal(reasoning) if thinking else "",
        "content": normal(content),
        "calls": [],
    }
    assert reader.finish == "stop"
    assert (reader.usage.reasoning > 0) == thinking


@pytest.mark.parametrize("name, thinking", CALLING)
@settings(max_examples=40, deadline=None)
@given(contents, st.lists(calls, min_size=1, max_size=3), cutting)
def test_calls_are_passed_on_as_they_are_written(name, thinking, content, wanted, cuts) -> None:
    message = Message("assistant", content, "R" if thinking else None, tuple(wanted))
    written = segments(name, message, thinking, TOOLS)
    parts, reader = read(name, tokens(name, written, cuts), thinking=thinking, tools=TOOLS)
    got = joined(parts)
    normal = tokenizer(name).normal
    assert [(n, json.loads(a)) for n, a in got["calls"]] == [
        (c.name, json.loads(normal(json.dumps(c.arguments, ensure_ascii=False)))) for c in wanted
    ]
    assert got["content"] == normal(content)
    assert reader.finish == "tool_calls"


@pytest.mark.parametrize("name, thinking", CALLING)
@settings(max_examples=30, deadline=None)
@given(calls, st.integers(0, 10**6), cutting, cutting)
def test_an_answer_cut_off_anywhere_is_the_same_for_every_split(name, thinking, call, length, cuts, others) -> None:
    message = Message("assistant", "A", "R" if thinking else None, (call, call))
    written = segments(name, message, thinking, TOOLS)
    text = sum(len(s.text) for s in written)
    left, cut = length % (text + 1), []
    for segment in written:  # markers are whole or not there
        if segment.special and left < len(segment.text):
            break
        cut.append(Segment(segment.text[:left], segment.special))
        left -= len(cut[-1].text)
    one = read(name, tokens(name, cut, cuts), Ending("length"), thinking=thinking, tools=TOOLS)[0]
    two = read(name, tokens(name, cut, others), Ending("length"), thinking=thinking, tools=TOOLS)[0]
    assert joined(one) == joined(two)


def test_arguments_come_before_the_call_is_whole() -> None:
    for name in ("dokja", "k2"):
        call = ToolCall("weather", {"city": "서울", "days": 3})
        written = segments(name, Message("assistant", "", None, (call,)), False, TOOLS)
        ids, reader = tokens(name, written), Reader(facts(name), thinking=False, tools=TOOLS)
        seen = [[part.text for part in reader.feed(Event("r", token, 0.0))] for token in ids]
        assert '"서울"' in "".join("".join(texts) for texts in seen[:-4]), name


def test_a_call_that_turns_out_to_be_no_json_keeps_what_was_passed_on() -> None:
    tok = tokenizer("dokja")
    begun = [Segment("<tool_call>", True), Segment('{"name": "clock", "arguments": {"a": oops', False)]
    ids = [*tok.encode_segments(begun)[0], tok.special_id("</tool_call>"), *tok.encode(" and on")]
    parts, reader = read("dokja", ids, thinking=False, tools=TOOLS)
    assert joined(parts) == {"reasoning": "", "content": " and on", "calls": [["clock", '{"a": oops']]}
    assert reader.finish == "tool_calls"


def test_a_call_of_an_unknown_tool_or_without_tools_is_no_call() -> None:
    tok = tokenizer("dokja")
    text = '{"name": "rm", "arguments": {"a": 1'
    ids = [tok.special_id("<tool_call>"), *tok.encode(text), tok.special_id("</tool_call>")]
    for tools in (TOOLS, ()):
        assert joined(read("dokja", ids, thinking=False, tools=tools)[0]) == {
            "reasoning": "", "content": f"<tool_call>{text}</tool_call>", "calls": [],
        }  # fmt: skip
    whole = [tok.special_id("<tool_call>"), *tok.encode(text + "}}"), tok.special_id("</tool_call>")]
    assert joined(read("dokja", whole, thinking=False)[0])["content"] == f"<tool_call>{text}}}}}</tool_call>"


def test_only_one_call_where_only_one_is_wanted() -> None:
    message = Message("assistant", "", None, (ToolCall("clock"), ToolCall("clock")))
    ids = tokens("k", segments("k", message, False, TOOLS))
    parts, reader = read("k", ids, thinking=False, tools=TOOLS, parallel=False)
    assert joined(parts)["calls"] == [["clock", "{}"]]
    assert (reader.over, reader.finish) == (True, "tool_calls")


@settings(max_examples=60, deadline=None)
@given(contents, st.lists(st.sampled_from(["a", "가", "1{", "\n", "A."]), min_size=1, max_size=3), cutting)
def test_nothing_of_a_stop_string_is_shown(content: str, stops: list[str], cuts) -> None:
    ids = tokens("dokja", segments("dokja", Message("assistant", content, "R a 가\n R"), True), cuts)
    parts, reader = read("dokja", ids, thinking=True, stop=stops)
    ends = [(content.index(s) + len(s), content.index(s)) for s in stops if s in content]
    assert joined(parts)["content"] == content[: min(ends, default=(0, len(content)))[1]]
    assert joined(parts)["reasoning"] == "R a 가\n R"
    assert reader.over == any(s in content for s in stops)


def test_scores_are_those_of_the_content() -> None:
    name = "dokja"
    ids = tokens(name, segments(name, Message("assistant", "three plus 4 안녕", "R"), True))
    parts, _ = read(name, ids, thinking=True, scores=True)
    scored = [s.token for p in parts for s in p.scores]
    assert tokenizer(name).decode(scored) == "three plus 4 안녕"
    assert all(s.logprob == -float(s.token % 7) for p in parts for s in p.scores)
    assert not any(p.scores for p in parts if p.kind != "content")
