import json
import random
from dataclasses import replace

import pytest

from dokja.text.chat import CALL, CALL_END, END, SPECIALS, THINK, THINK_END, Message, ToolCall, answer, text_of
from dokja.text.parse import Delta, StreamParser, parse, parse_text, read_tool_call
from dokja.text.stream import Piece
from dokja.text.unicode import nfc

BOTH = pytest.mark.parametrize("thinking", [True, False])


def pieces(*texts: str) -> list[Piece]:
    return [Piece(t, t in SPECIALS) for t in texts]


def run(stream: list[Piece], thinking: bool) -> tuple[Message, StreamParser, list[Delta]]:
    parser = StreamParser(thinking)
    deltas = [d for piece in stream for d in parser.feed(piece)] + parser.flush()
    return parser.finish(), parser, deltas


def joined(deltas: list[Delta], kind: str) -> str:
    return "".join(d.text for d in deltas if d.kind == kind)


def assert_deltas_make(message: Message, deltas: list[Delta]) -> None:
    assert joined(deltas, "content") == message.content
    assert joined(deltas, "reasoning") == (message.reasoning or "")
    assert [json.loads(d.text) for d in deltas if d.kind == "tool_call"] == [
        {"name": c.name, "arguments": c.arguments} for c in message.tool_calls
    ]


def cut(rng: random.Random, stream: list[Piece]) -> list[Piece]:
    """The same output with ordinary pieces cut at random places."""
    out = []
    for piece in stream:
        text = piece.text
        while not piece.special and len(text) > 1 and rng.random() < 0.7:
            at = rng.randint(1, len(text) - 1)
            out.append(Piece(text[:at]))
            text = text[at:]
        out.append(Piece(text, piece.special))
    return out


def unquoted(text: str) -> str:
    """`text` without the markers it quotes: plain text cannot tell them from real ones."""
    for name in SPECIALS:
        text = text.replace(name, "·")
    return text


@BOTH
def test_parsing_what_was_rendered_gives_the_message_back(answers, thinking):
    for message in answers:
        expected = message if thinking else replace(message, reasoning=None)
        got, parser, deltas = run([Piece(s.text, s.special) for s in answer(message, thinking)], thinking)
        assert got == expected == parse(answer(message, thinking), thinking)
        assert_deltas_make(got, deltas)
        assert parser.closed and parser.ended and not parser.leaked and not parser.malformed_tool_calls


@BOTH
def test_messages_survive_tokens_and_back(tokenizer, answers, thinking):
    for message in answers:
        segments = answer(message, thinking)
        ids, _ = tokenizer.encode_segments(segments)
        stream = tokenizer.stream()
        got = parse([p for i in ids for p in stream.feed(i)] + stream.flush(), thinking)
        assert (got.content, got.reasoning or "") == (nfc(message.content), nfc(message.reasoning or "") * thinking)
        assert got.tool_calls == message.tool_calls


@BOTH
def test_every_single_cut_gives_the_same_message(thinking):
    message = Message("assistant", "답 </think>", "생각 <|end|>" if thinking else None, (ToolCall("f", {"a": "</t"}),))
    whole = answer(message, thinking)
    for i, segment in enumerate(whole):
        for at in range(1, len(segment.text) if not segment.special else 1):
            parts = [Piece(segment.text[:at]), Piece(segment.text[at:])]
            stream = [*(Piece(s.text, s.special) for s in whole[:i]), *parts, *whole[i + 1 :]]
            got, _, deltas = run(stream, thinking)
            assert got == message
            assert_deltas_make(got, deltas)


@BOTH
def test_any_output_parses_the_same_however_it_is_cut(thinking):
    rng = random.Random(11)
    parts = [
        *SPECIALS,
        THINK,
        THINK_END,
        CALL,
        CALL_END,
        "secret",
        "답",
        " ",
        "\n",
        "{",
        '{"name": "f", "arguments": {}}',
    ]
    for _ in range(1500):
        stream = pieces(*rng.choices(parts, k=rng.randint(0, 10)))
        got, parser, deltas = run(stream, thinking)
        assert_deltas_make(got, deltas)
        again, cut_parser, deltas = run(cut(rng, stream), thinking)
        assert again == got
        assert_deltas_make(got, deltas)
        for flag in ("closed", "leaked", "malformed_tool_calls"):
            assert getattr(parser, flag) == getattr(cut_parser, flag)


@BOTH
def test_text_inside_a_thought_never_reaches_the_content(thinking):
    rng = random.Random(12)
    parts = [THINK, THINK_END, CALL, CALL_END, "x", '{"name": "f", "arguments": {}}']
    for _ in range(1500):
        stream, inside = [], thinking
        for text in rng.choices(parts, k=rng.randint(0, 12)):
            inside = {THINK: True, THINK_END: False}.get(text, inside)
            stream.append(Piece("secret" if inside and text not in SPECIALS else text, text in SPECIALS))
        got, parser, deltas = run(stream, thinking)
        assert "secret" not in got.content + joined(deltas, "content") + joined(deltas, "tool_call")
        assert (got.reasoning or "").count("secret") == sum(p.text == "secret" for p in stream)
        assert parser.closed == (not inside)


def test_a_thought_at_once_is_reasoning_and_is_reported():
    got, parser, deltas = run(pieces(THINK, "몰래", THINK_END, "답", END), False)
    assert got == Message("assistant", "답", "몰래")
    assert parser.leaked and parser.closed
    assert deltas == [Delta("reasoning", "몰래"), Delta("content", "답")]
    got, parser, _ = run(pieces("답", THINK, "몰래"), False)
    assert (got.content, got.reasoning, parser.leaked, parser.closed) == ("답", "몰래", True, False)
    got, parser, _ = run(pieces("앞말", THINK_END, "답"), False)
    assert (got.content, parser.leaked) == ("앞말답", True)


def test_an_empty_thought_at_once_is_no_leak():
    got, parser, _ = run(pieces(THINK, "\n\n", THINK_END, "답", END), False)
    assert got.content == "답" and not parser.leaked


def test_a_second_thought_is_reasoning_and_is_reported():
    got, parser, _ = run(pieces("하나", THINK_END, "답", THINK, "둘", THINK_END, "끝", END), True)
    assert got == Message("assistant", "답끝", "하나둘")
    assert parser.leaked


def test_a_repeated_opening_marker_changes_nothing():
    got, parser, _ = run(pieces(THINK, "생각", THINK_END, "답", END), True)
    assert got == Message("assistant", "답", "생각") and not parser.leaked


def test_a_thought_that_never_closes_leaves_the_content_empty():
    for tail in ([], [END], ["<|user|>", "다음"]):
        got, parser, _ = run(pieces("생각만", *tail), True)
        assert got == Message("assistant", "", "생각만")
        assert not parser.closed and not parser.leaked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"name": "f"}',
        '{"name": "", "arguments": {}}',
        '{"name": 3, "arguments": {}}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": {}} {}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1e999}}',
        '{"name": "f", "arguments": {"x": "\\ud800"}}',
        '{"name": "f", "arguments": {}, "extra": 1}',
        '{"name": "f", "arguments": {"x": ' + "[" * 5000 + "]" * 5000 + "}}",
    ],
)
def test_a_malformed_call_stays_visible_as_content_and_is_counted(text):
    assert read_tool_call(text) is None
    got, parser, deltas = run(pieces("a", CALL, text, CALL_END, "b", END), False)
    assert got == Message("assistant", "a" + CALL + text + CALL_END + "b")
    assert parser.malformed_tool_calls == 1
    assert_deltas_make(got, deltas)


def test_a_call_cut_short_is_content():
    call = '{"name": "f", "arguments": {}}'
    for stream in (pieces(CALL, call), pieces(CALL, call, END), pieces(CALL, call, "<|user|>", "x")):
        got, parser, _ = run(stream, False)
        assert got == Message("assistant", CALL + call) and parser.malformed_tool_calls == 1
    got, parser, _ = run(pieces(CALL, "{", CALL, call, CALL_END, CALL_END), False)
    assert got == Message("assistant", CALL + "{" + CALL_END, None, (ToolCall("f", {}),))
    assert parser.malformed_tool_calls == 2


def test_a_thought_inside_a_broken_call_stays_a_thought():
    got, parser, _ = run(pieces(CALL, "{", THINK, "몰래", THINK_END, "}", CALL_END), False)
    assert got.content == CALL + "{}" + CALL_END
    assert got.reasoning == "몰래" and parser.leaked


def test_a_call_inside_a_thought_is_only_thought_of():
    call = '{"name": "f", "arguments": {}}'
    got, parser, deltas = run(pieces("음", CALL, call, CALL_END, THINK_END, "답", END), True)
    assert got == Message("assistant", "답", "음" + CALL + call + CALL_END)
    assert deltas[1] == Delta("reasoning", CALL) and not parser.malformed_tool_calls


def test_nothing_after_the_end_is_read():
    for marker in (END, "<|bos|>", "<|user|>", "<|system|>", "<|assistant|>", "<|tool|>"):
        parser = StreamParser(False)
        assert parser.feed(Piece("답")) == [Delta("content", "답")]
        assert parser.feed(Piece(marker, True)) == []
        assert parser.ended
        assert parser.feed(Piece("더")) == []
        assert parser.finish().content == "답"
    assert parse(pieces("답", "<|pad|>", "더"), False).content == "답더"


def test_content_streams_as_it_comes():
    parser = StreamParser(True)
    assert parser.feed(Piece("생")) == [Delta("reasoning", "생")]
    assert parser.feed(Piece(THINK_END, True)) == []
    assert parser.feed(Piece("답")) == [Delta("content", "답")]


@BOTH
def test_plain_text_of_an_endpoint_parses_like_tokens(answers, thinking):
    call = ToolCall("f", {"x": "<답>"})
    for message in answers:
        reasoning = unquoted(message.reasoning or "") if thinking else None
        expected = Message("assistant", unquoted(message.content), reasoning, (call,) * len(message.tool_calls))
        assert parse_text(text_of(answer(expected, thinking)), thinking) == expected
    assert parse_text("<think>생각</think>답", True) == Message("assistant", "답", "생각")
    assert parse_text("<think>몰래</think>답", False) == Message("assistant", "답", "몰래")
    assert parse_text("끝나지 않은 생각 <thi", True) == Message("assistant", "", "끝나지 않은 생각 <thi")
