"""Stop strings: found wherever they lie, shown never, whatever the cut into tokens."""

import math

import pytest
from engine_small import model, prompt
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.engine.answers import read_answer
from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.stops import StopStream, Watch, before_stop
from dokja.errors import DokjaError
from dokja.text.chat import CALL_END, END, THINK_END
from dokja.text.stream import Piece
from dokja.text.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["the end of the end. 끝났습니다. 끝"] * 20, 300)
CLOSE, STOP = TOKENIZER.special_id(THINK_END), TOKENIZER.special_id(END)
IDS = {TOKENIZER.token_bytes(i): i for i in range(12, TOKENIZER.vocab_size)}
PLAIN = tuple((i, -math.inf) for i in range(12)) + tuple((i, -math.inf) for b, i in IDS.items() if not b.isascii())
"""Bars markers and what is no text on its own."""
words = st.text("ab한", min_size=1, max_size=4)


def first_match(text: str, stops: list[str]) -> tuple[str, str | None]:
    """By trying every end: the text before the match, and the match."""
    for end in range(len(text) + 1):
        if met := [stop for stop in stops if text[:end].endswith(stop)]:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


@settings(max_examples=300, deadline=None)
@given(st.lists(words, max_size=12), st.lists(words, min_size=1, max_size=3, unique=True))
def test_any_split_shows_the_text_before_the_first_stop_string_and_no_more(pieces, stops):
    want, match = first_match("".join(pieces), stops)
    stream, shown, seen = StopStream(stops), "", ""
    for piece in pieces:
        seen += piece
        shown += "".join(part.text for part in stream.feed(Piece(piece)))
        assert want.startswith(shown)
        held = seen[len(shown) :]
        assert stream.matched or not held or any(stop.startswith(held) for stop in stops)  # no more than it has to
    shown += "".join(part.text for part in stream.flush())
    assert (shown, stream.matched) == (want, match) and before_stop("".join(pieces), stops) == want


def test_no_match_reaches_across_a_marker_and_a_marker_may_be_the_stop():
    stream = StopStream(["ab", CALL_END])
    pieces = [Piece("xa"), Piece("<mark>", True), Piece("bz"), Piece(CALL_END, True), Piece("later")]
    assert [p.text for piece in pieces for p in stream.feed(piece)] == ["x", "a", "<mark>", "bz"]
    assert stream.matched == CALL_END and stream.flush() == []


@settings(max_examples=100, deadline=None)
@given(st.text("끝났e nd", max_size=12), st.lists(st.text("끝났e nd", min_size=1, max_size=3), min_size=1, max_size=2))
def test_the_token_that_completes_a_stop_string_is_found_between_bytes_and_words(text, stops):
    stops = list(dict.fromkeys(stops))
    for tokens in (TOKENIZER.encode(text), [IDS[bytes([byte])] for byte in text.encode()]):
        watch, found, sofar = Watch(TOKENIZER, stops), None, b""
        for token in tokens:
            sofar += TOKENIZER.token_bytes(token)
            found = watch.feed(token)
            assert found == first_match(sofar.decode("utf-8", "ignore"), stops)[1]
            if found:
                break
        assert found == first_match(text, stops)[1]


def request(i: int, **more) -> Request:
    base = {"id": f"r{i}", "prompt": prompt(i, 4, 200), "max_tokens": 60, "seed": i, "logit_bias": PLAIN}
    return Request(**(base | more))


def test_an_answer_ends_with_the_token_that_completes_a_stop_string():
    engine = Engine(model(vocab=TOKENIZER.vocab_size), tokenizer=TOKENIZER)
    free = engine.complete([request(i) for i in range(8)])
    for i, answer in enumerate(free):
        stops = (TOKENIZER.decode(answer.tokens[20:24])[1:-1], "never")
        done = engine.complete([request(i, stop_text=stops)])[0]
        texts = [TOKENIZER.decode(answer.tokens[: n + 1]) for n in range(60)]
        n = next(n for n, sofar in enumerate(texts) if stops[0] in sofar)
        assert done.tokens == answer.tokens[: n + 1] and n < 24
        assert (done.finish, done.stopped_by) == ("stop", stops[0])
        said = read_answer(done, TOKENIZER, "direct").content
        assert said == texts[n][: texts[n].index(stops[0])]
    assert [a.stopped_by for a in free] == [None] * 8


def test_a_stop_string_binds_the_answer_and_not_the_prompt_or_the_thought():
    engine = Engine(model(vocab=TOKENIZER.vocab_size), tokenizer=TOKENIZER)
    end = TOKENIZER.encode("the end")
    bias = tuple((token, 40.0) for token in end)  # nothing else is written
    asked = request(0, prompt=end, stop_text=("the end",), logit_bias=bias, temperature=9.0)
    thought = {"think_budget": 30, "think_close": (CLOSE,)}
    at_once, thinking = engine.complete([asked])[0], engine.complete([request(0, **(vars(asked) | thought))])[0]
    assert "the end" in TOKENIZER.decode(thinking.tokens[:30])
    for done in (at_once, thinking):
        assert done.stopped_by == "the end" and TOKENIZER.decode(done.tokens).endswith("the end")
    answer = thinking.tokens[thinking.tokens.index(CLOSE) + 1 :]
    assert TOKENIZER.decode(answer).count("the end") == 1 and thinking.forced
    read = read_answer(thinking, TOKENIZER, "think")
    assert "the end" not in read.content and "the end" in read.reasoning


def test_stop_strings_need_the_tokenizer():
    engine = Engine(model(vocab=TOKENIZER.vocab_size))
    with pytest.raises(DokjaError, match="no tokenizer"):
        engine.submit(request(0, stop_text=("a",)))
    assert engine.stats()["waiting"] == 0 and engine.submit(request(0)) == "r0"


def test_what_a_format_strips_is_cut_before_it_is_stripped():
    tokens = [*TOKENIZER.encode("\n\nnd of"), STOP]
    done = Completion("x", tokens[:-1], [0.0] * (len(tokens) - 1), "stop", False, 1, stopped_by="\n\nnd")
    assert read_answer(done, TOKENIZER, "direct").content == ""
