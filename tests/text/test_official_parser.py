"""Answers of every format: parsing undoes rendering however the stream is cut, and no thought is ever content."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from official_small import own, tokenizer

from dokja.text.chat import CALL, CALL_END, Message, Segment, ToolCall, text_of
from dokja.text.parse import Delta
from dokja.text.stream import Piece
from dokja.text.style import Parser, Style
from dokja.text.styles import STYLES

MODES = [(s, mode == "think") for s in STYLES.values() for mode in s.modes]
EVERY = pytest.mark.parametrize(("style", "thinking"), MODES, ids=[f"{s.name}-{t}" for s, t in MODES])
MARKERS = sorted({name for s in STYLES.values() for name in s.markers})
WORDS = ["a", "답", " ", "\n", "\n\n", "<", "|", "{", '"', "</", "[|", "<th", "x = 1", "가나 다", "</parameter>"]
TYPED = {
    "name": "f",
    "parameters": {"properties": {"s": {"type": "string"}, "t": {"type": "string"}, "v": {"type": "array"}, "w": {}}},
}


def texts(words: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), max_size=8).map("".join)


def messages(words: list[str]) -> st.SearchStrategy[Message]:
    text = texts(words)
    value = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.lists(text, max_size=2), st.just({"k": [1.5]}))
    arguments = st.fixed_dictionaries({}, optional={"s": text, "t": text, "v": st.lists(value, max_size=2), "w": value})
    calls = st.lists(arguments.map(lambda a: ToolCall("f", a)), max_size=2).map(tuple)
    return st.builds(Message, st.just("assistant"), text, text, calls)


def expected(style: Style, message: Message, thinking: bool) -> Message:
    """What is left of a message: the space around its parts is the format's, apart from ours, 3.5's and Qwen's."""
    reasoning = message.reasoning if thinking else None
    calls = message.tool_calls if style.tools else ()
    if style.name in ("dokja", "exaone3.5", "qwen2.5", "qwen2.5-coder"):
        return replace(message, reasoning=reasoning, tool_calls=calls)
    return Message("assistant", message.content.strip(), (reasoning or "").strip(), calls)


def written(style: Style, message: Message, thinking: bool) -> list[Piece]:
    message = message if style.tools else replace(message, tool_calls=())
    return [Piece(s.text, s.special) for s in own(style, message, thinking)]


def cut(rng: random.Random, pieces: list[Piece]) -> list[Piece]:
    out = []
    for piece in pieces:
        text = piece.text
        while not piece.special and len(text) > 1 and rng.random() < 0.7:
            at = rng.randint(1, len(text) - 1)
            out.append(Piece(text[:at]))
            text = text[at:]
        out.append(Piece(text, piece.special))
    return out


def run(parser: Parser, pieces: list[Piece]) -> tuple[Message, list[Delta]]:
    deltas = [d for piece in pieces for d in parser.feed(piece)] + parser.flush()
    got = parser.finish()
    assert "".join(d.text for d in deltas if d.kind == "content") == got.content
    assert "".join(d.text for d in deltas if d.kind == "reasoning") == (got.reasoning or "")
    calls = [json.loads(d.text) for d in deltas if d.kind == "tool_call"]
    assert calls == [{"name": c.name, "arguments": c.arguments} for c in got.tool_calls]
    return got, deltas


@EVERY
@settings(max_examples=40, deadline=None, derandomize=True)
@given(message=messages([*WORDS, *MARKERS]), seed=st.integers(0, 9))
def test_parsing_what_was_rendered_gives_the_message_back(style, thinking, message, seed):
    pieces = written(style, message, thinking)
    for stream in (pieces, cut(random.Random(seed), pieces)):
        parser = style.parser(thinking, tools=[TYPED])
        assert run(parser, stream)[0] == expected(style, message, thinking)
        assert parser.closed and parser.ended and not parser.leaked and not parser.malformed_tool_calls


@EVERY
@settings(max_examples=25, deadline=None, derandomize=True)
@given(message=messages(WORDS), seed=st.integers(0, 9))
def test_markers_spelled_in_letters_are_found_however_the_text_is_cut(style, thinking, message, seed):
    if style.name == "dokja":
        return  # our tokenizers have a token for every marker
    pieces = [Piece(text_of([Segment(p.text, False) for p in written(style, message, thinking)]))]
    for stream in (pieces, cut(random.Random(seed), pieces), [Piece(c) for c in pieces[0].text]):
        parser = style.parser(thinking, spelled=style.spelled_by(()), tools=[TYPED])
        assert run(parser, stream)[0] == expected(style, message, thinking)


@EVERY
@settings(max_examples=25, deadline=None, derandomize=True)
@given(message=messages(WORDS))
def test_messages_survive_the_tokens_of_the_family(style, thinking, message):
    if style.name == "dokja":
        return  # tests/text/test_parse.py
    tok = tokenizer(style.name)
    if not style.tools:
        message = replace(message, tool_calls=())
    ids, _ = tok.encode_segments(own(style, message, thinking))
    stream = tok.stream()
    parser = style.parser(thinking, spelled=style.spelled_by(tok.specials), tools=[TYPED])
    got, _ = run(parser, [p for i in ids for p in stream.feed(i)] + stream.flush())
    assert got == expected(style, message, thinking)


@EVERY
@settings(max_examples=60, deadline=None, derandomize=True)
@given(words=st.lists(st.integers(0, 6), max_size=12), seed=st.integers(0, 9), open_end=st.booleans())
def test_a_thought_never_reaches_the_content_and_none_is_lost(style, thinking, words, seed, open_end):
    open_, close = style.thought or ("<none>", "</none>")
    parts = ["secret", "said", "\n", CALL, CALL_END, open_, close]
    stream, inside = [], thinking
    for text in (parts[i] for i in words):
        if text in (open_, close) and style.thought is None:
            continue
        inside = {open_: True, close: False}.get(text, inside)
        text = {True: "secret", False: "said"}[inside] if text in ("secret", "said") else text
        stream.append(Piece(text, text in style.markers))
    pieces = [*stream, *([] if open_end else [Piece(style.stops[0], True)])]
    parser = style.parser(thinking)
    got, deltas = run(parser, pieces)
    assert "secret" not in got.content + "".join(d.text for d in deltas if d.kind != "reasoning")
    assert (got.reasoning or "").count("secret") == sum(p.text == "secret" for p in stream)
    assert parser.closed == (not inside)
    assert run(style.parser(thinking), cut(random.Random(seed), pieces))[0] == got


THINKERS = [s for s in STYLES.values() if "think" in s.modes]


@pytest.mark.parametrize("style", THINKERS, ids=lambda s: s.name)
def test_a_thought_is_split_though_its_opening_never_appears(style):
    close, stop = style.thought[1], style.stops[0]
    got, _ = run(style.parser(True), [Piece("생각"), Piece(close, True), Piece("답"), Piece(stop, True)])
    assert got == Message("assistant", "답", "생각")
    got, _ = run(style.parser(True), [Piece("생각"), Piece(stop, True)])
    assert got == Message("assistant", "", "생각")


@pytest.mark.parametrize("style", [s for s in THINKERS if "direct" in s.modes], ids=lambda s: s.name)
def test_at_once_all_text_is_content(style):
    got, _ = run(style.parser(False), [Piece("답 "), Piece("하나"), Piece(style.stops[0], True), Piece("더")])
    assert got == Message("assistant", "답 하나")


@pytest.mark.parametrize("style", THINKERS, ids=lambda s: s.name)
def test_a_thought_closed_by_force_ends_where_it_was_cut(style):
    closing = [Piece(s.text, s.special) for s in style.closing]
    parser = style.parser(True)
    got, _ = run(parser, [Piece("반쯤"), *closing, Piece("\n\n답"), Piece(style.stops[0], True)])
    assert (got.reasoning, got.content.strip()) == ("반쯤", "답")
    assert parser.thoughts == ["</think>"] and style.closing[-1].text == style.thought[1]


@pytest.mark.parametrize("name", ["exaone4", "k", "k2"])
@pytest.mark.parametrize("body", ["{", '{"name": "f"}', "<function=f>", "", "\nwords\n"])
def test_a_malformed_call_stays_text(name, body):
    parser = STYLES[name].parser(False)
    got, _ = run(parser, [Piece("a"), Piece(CALL, True), Piece(body), Piece(CALL_END, True), Piece("b")])
    assert got == Message("assistant", f"a{CALL}{body}{CALL_END}b") and parser.malformed_tool_calls == 1


@pytest.mark.parametrize("name", ["exaone4", "k", "k2"])
def test_a_call_cut_short_stays_text(name):
    call = {"k2": "\n<function=f>\n</function>"}.get(name, '{"name": "f", "arguments": {}}')
    got, _ = run(STYLES[name].parser(False), [Piece("a"), Piece(CALL, True), Piece(call)])
    assert got == Message("assistant", f"a{CALL}{call}")


@pytest.mark.parametrize("name", ["exaone4", "k"])
def test_parallel_calls_one_a_line(name):
    calls = '\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n<tool_call>{"name": "g", "arguments": {}}'
    parser = STYLES[name].parser(True, spelled=STYLES[name].spelled_by(()))
    got, _ = run(parser, [Piece(f"R\n</think>\n\n{calls}</tool_call>")])
    assert got == Message("assistant", "", "R", (ToolCall("f"), ToolCall("g")))


def test_special_tokens_that_mean_nothing_in_an_answer_are_dropped_and_roles_end_it():
    parser = STYLES["k"].parser(False)
    got, _ = run(parser, [Piece("a"), Piece("<|image_pad|>", True), Piece("b"), Piece("<|user|>", True), Piece("c")])
    assert got == Message("assistant", "ab") and parser.ended
