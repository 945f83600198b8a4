"""What a grammar lets an answer go on with, token by token, without a model."""

import json
import random
import re
import subprocess
import sys
import time
from functools import cache
from types import SimpleNamespace

import numpy as np
import official_small
import pytest

from dokja.engine.api import Request
from dokja.engine.grammar import Grammars
from dokja.engine.rules import Grammar
from dokja.errors import ConfigError, DataError
from dokja.text.tokenizer import train_tokenizer

pytest.importorskip("llguidance")
STYLES = ("dokja", "deep", "exaone4", "k")
STOP = 2  # <|end|> of our own tokenizer
SCHEMA = {
    "type": "object",
    "properties": {
        "이름": {"type": "string", "maxLength": 4},
        "나이": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["이름", "나이"],
    "additionalProperties": False,
}
GRAMMARS = {
    "schema": Grammar.json_schema(SCHEMA),
    "object": Grammar.json_object(),
    "regex": Grammar.regex(r"[가-힣]{1,3}(-\d{2}){0,2}"),
    "choice": Grammar.choice(["예", "아니요", '"a\\', "예예", ""]),
    "lark": Grammar.lark('start: e\ne: e "+" t | t\nt: /[0-9]{1,3}/ | "(" e ")"\n%ignore / {1,2}/'),
    "led": Grammar.choice(["가", "나"]).after("\n\n"),
}


@cache
def tokenizer(name):
    return train_tokenizer(official_small.CORPUS, 400) if name == "dokja" else official_small.tokenizer(name)


@cache
def grammars(name="dokja", padding=50):
    known = tokenizer(name)
    return Grammars(known, known.vocab_size + padding)


def matcher(grammar):
    return grammars().matcher(grammar, (STOP,))


def ids(mask) -> list[int]:
    """The tokens of a mask."""
    return np.unpackbits(mask.numpy().view(np.uint8), bitorder="little").nonzero()[0].tolist()


def allows(grammar, text: str) -> bool:
    """Whether the text, cut by the tokenizer, is allowed token by token and may end."""
    at = matcher(grammar)
    for token in tokenizer("dokja").encode(text):
        if token not in ids(at.allowed()):
            return False
        at.accept(token)
    return STOP in ids(at.allowed())


def walk(at, rng: random.Random, stop=STOP, most=300) -> list[int]:
    """Any allowed tokens one after the other, until a stop token or `most`."""
    out = []
    while len(out) < most:
        token = rng.choice(ids(at.allowed()))
        if token == stop:
            return out
        at.accept(token)
        out.append(token)
    return out


def test_what_a_schema_takes_and_refuses():
    whole = json.dumps({"이름": "가나다라", "나이": 7}, ensure_ascii=False)
    for text in (whole, '{"이름":"가","나이":1}', '{ "이름": "",\n  "나이": 99 }'):
        assert allows(GRAMMARS["schema"], text), text
    wrong = ('{"나이":1,"이름":"가"}', '{"이름":"가"}', '{"이름":"가","나이":0}', '{"이름":"가나다라마","나이":1}')
    for text in (*wrong, "", "{}", " " + whole, whole + "\n", whole[:-1], whole[:-1] + ',"x":2}'):
        assert not allows(GRAMMARS["schema"], text), text


def test_white_space_between_the_parts_of_json_is_bounded():
    assert allows(Grammar.json_object(), "{" + " " * 64 + "}")
    assert not allows(Grammar.json_object(), "{" + " " * 65 + "}")


def test_what_a_regex_a_choice_and_a_lark_grammar_take():
    assert all(allows(GRAMMARS["regex"], text) for text in ("가", "가나다-12-34"))
    assert not any(allows(GRAMMARS["regex"], text) for text in ("", "가나다라", "가-1", "a", "가\n"))
    assert all(allows(GRAMMARS["choice"], text) for text in ("예", "아니요", '"a\\', "예예", ""))
    assert not any(allows(GRAMMARS["choice"], text) for text in ("아니", "예예예", "a"))
    assert all(allows(GRAMMARS["lark"], text) for text in ("1", "12 + (3+4)", "((7))"))
    assert not any(allows(GRAMMARS["lark"], text) for text in ("", "1+", "(1", "1234"))
    assert allows(Grammar.regex("^a/b$"), "a/b") and allows(Grammar.regex("(?i)ok"), "oK")
    assert not allows(Grammar.regex(r"\d"), "٣") and allows(Grammar.regex(r"\w"), "한")


def test_the_lead_comes_first_and_once():
    grammar = GRAMMARS["led"]
    assert allows(grammar, "\n\n가") and not any(allows(grammar, text) for text in ("가", "\n가", "\n\n\n가", "\n\n"))
    schema = GRAMMARS["schema"].after("\n\n")
    assert allows(schema, '\n\n{"이름":"가","나이":1}') and not allows(schema, '{"이름":"가","나이":1}')


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAMMARS)
def test_only_text_of_the_tokenizer_comes_and_a_stop_token_only_where_the_grammar_may_end(style, kind):
    known, rng = tokenizer(style), random.Random(0)
    stop = known.special_id({"dokja": "<|end|>", "k": "<|endofturn|>"}.get(style, "[|endofturn|]"))
    for _ in range(5):
        at, written = grammars(style).matcher(GRAMMARS[kind], (stop,)), []
        while len(written) < 120:
            can = ids(at.allowed())
            assert all(i == stop or (i < known.vocab_size and known.token_bytes(i)) for i in can)
            token = rng.choice(can)
            at.accept(token)
            if token == stop:
                text = known.decode_bytes(written).decode()  # strict: never half a letter
                assert kind != "schema" or json.loads(text).keys() == {"이름", "나이"}
                assert kind != "choice" or text in ("예", "아니요", '"a\\', "예예", "")
                break
            written.append(token)


def test_a_finished_grammar_allows_the_stop_tokens_and_nothing_else():
    at = grammars().matcher(Grammar.choice(["가"]), (STOP, 1))
    for token in tokenizer("dokja").encode("가"):
        assert STOP not in ids(at.allowed())
        at.accept(token)
    assert ids(at.allowed()) == [1, STOP]


def test_a_stop_token_with_letters_ends_the_answer_and_is_never_text_of_it():
    (brace,) = tokenizer("dokja").encode("}")
    at = grammars().matcher(Grammar.regex("a}?b?"), (STOP, brace))
    assert brace not in ids(at.allowed())
    at.accept(tokenizer("dokja").encode("a")[0])
    assert {brace, STOP} <= set(ids(at.allowed()))


def test_an_answer_that_cannot_go_on_ends_and_says_so():
    (a,), (b,) = map(tokenizer("dokja").encode, "ab")
    at = grammars().matcher(Grammar.regex("ba"), (STOP, a))
    at.accept(b)
    assert ids(at.allowed()) == sorted((STOP, a))
    at.accept(a)
    assert at.stuck


@pytest.mark.parametrize("kind", GRAMMARS)
def test_masks_along_drafts_are_those_of_the_tokens_written(kind):
    """Whatever was drafted before: right tokens, wrong ones, the end and what stands behind it."""
    rng, vocab = random.Random(1), tokenizer("dokja").vocab_size
    for _ in range(6):
        answer = [*walk(matcher(GRAMMARS[kind]), rng, most=40), STOP]
        plain, drafting, at = matcher(GRAMMARS[kind]), matcher(GRAMMARS[kind]), 0
        masks = []
        for token in answer:
            masks.append(plain.allowed().tolist())
            plain.accept(token)
        while at < len(answer):
            guess = answer[at : at + rng.randrange(5)]
            if rng.random() < 0.6:
                guess = guess[: rng.randrange(len(guess) + 1)] + [rng.randrange(vocab) for _ in range(rng.randrange(3))]
            for n in range(len(guess) + 1):
                seen = drafting.allowed(guess[:n])
                if guess[:n] == answer[at : at + n] and at + n < len(answer):
                    assert seen.tolist() == masks[at + n]
            for _ in range(rng.randrange(1, 4)):
                if at < len(answer):
                    drafting.accept(answer[at])
                    at += 1


def test_behind_drafts_that_cannot_come_nothing_is_looked_for():
    at = matcher(Grammar.choice(["가나"]))
    for drafts in (tokenizer("dokja").encode("나"), [STOP], [tokenizer("dokja").vocab_size + 3]):
        assert ids(at.allowed(drafts)) == [STOP]
    assert STOP not in ids(at.allowed()) and not at.stuck


REFUSED = {
    "if": {"if": {"type": "string"}, "then": {"minLength": 2}},
    "not": {"type": "object", "properties": {"a": {"not": {"type": "string"}}}},
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "contains": {"contains": {"type": "integer"}},
    "propertyNames": {"propertyNames": {"maxLength": 3}},
    "dependentRequired": {"dependentRequired": {"a": ["b"]}},
    "unevaluatedProperties": {"unevaluatedProperties": False},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "Unknown format: postcode": {"type": "string", "format": "postcode"},
    "Invalid type: text": {"type": "text"},
    "minimum .5. is greater than maximum .3.": {"type": "integer", "minimum": 5, "maximum": 3},
    "look-around": {"type": "string", "pattern": "(?=a)b"},
    "does not exist": {"$ref": "#/$defs/nowhere"},
    "http://elsewhere/schema": {"$ref": "http://elsewhere/schema"},
    "Nothing can match": {"$ref": "#"},
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_a_schema_cannot_enforce_is_named_before_any_token(named):
    with pytest.raises(DataError, match=named) as caught:
        matcher(Grammar.json_schema(REFUSED[named]))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_no_keyword_of_the_standard_is_passed_over_in_silence():
    """Every assertion that an independent validator knows is enforced or refused."""
    jsonschema = pytest.importorskip("jsonschema")
    kept = {
        "$ref", "additionalProperties", "allOf", "anyOf", "const", "enum", "exclusiveMaximum", "exclusiveMinimum",
        "format", "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength",
        "minProperties", "minimum", "multipleOf", "oneOf", "pattern", "patternProperties", "prefixItems", "properties",
        "required", "type",
    }  # fmt: skip
    others = set(jsonschema.Draft202012Validator.VALIDATORS) - kept
    assert "unevaluatedItems" in others
    for keyword in others:
        with pytest.raises(DataError):
            matcher(Grammar.json_schema({keyword: {"type": "integer"}}))


def deep(depth: int) -> dict:
    schema: dict = {"type": "integer"}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


HOSTILE = {
    "deep": lambda: Grammar.json_schema(deep(100)),
    "deeper": lambda: Grammar.json_schema(deep(100_000)),
    "nested brackets": lambda: Grammar.regex("(" * 50_000 + "a" + ")" * 50_000),
    "nested rules": lambda: Grammar.lark("start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "many patterns": lambda: Grammar.json_schema(
        {"allOf": [{"type": "string", "pattern": f"a.{{{i}}}b"} for i in range(3, 30)]}
    ),
    "many intersections": lambda: Grammar.lark("start: A\nA: " + " & ".join(f"/.*a.{{{i}}}b.*/" for i in range(3, 23))),
    "large divisor": lambda: Grammar.json_schema({"type": "integer", "multipleOf": 1234567}),
    "alternatives of alternatives": lambda: Grammar.json_schema(
        {"allOf": [{"anyOf": [{"properties": {f"a{i}{j}": {"type": "string"}}} for j in range(4)]} for i in range(12)]}
    ),
    "lengths of patterns": lambda: Grammar.json_schema(
        {"type": "string", "pattern": "^(.*a.*b.*c)*$", "minLength": 500, "maxLength": 1000}
    ),
    "circles": lambda: Grammar.json_schema(
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    ),
    "endless rule": lambda: Grammar.lark("start: start"),
    "no JSON": lambda: Grammar.json_schema({"const": {1, 2}}),
    "not a number": lambda: Grammar.json_schema({"const": float("nan")}),
    "half a letter": lambda: Grammar.json_schema({"const": "\ud800"}),
    "a list": lambda: Grammar.json_schema([]),
    "no options": lambda: Grammar.choice([]),
    "a string of options": lambda: Grammar.choice("ab"),
    "unknown rule": lambda: Grammar.lark("start: nowhere"),
    "open group": lambda: Grammar.regex("(a"),
    "back reference": lambda: Grammar.regex(r"(a)\1"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_grammars_are_refused_in_time(kind):
    began = time.process_time()
    with pytest.raises(DataError):
        matcher(HOSTILE[kind]())
    assert time.process_time() - began < 3


LARGE = {
    "regex": Grammar.regex("((a|b?c){0,1000}d?){1000}"),
    "letters": Grammar.regex(r"(\p{L}{1,1000}|\p{N}{1,1000}){1,1000}"),
    "rules": Grammar.lark('start: start start | "a" | ""'),
    "items": Grammar.json_schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
    "length": Grammar.json_schema({"type": "string", "minLength": 10**9}),
    "keys": Grammar.json_schema({"type": "object", "properties": {f"k{i}": {"type": "null"} for i in range(700)}}),
    "options": Grammar.choice([f"v{i}" for i in range(2000)]),
}


@pytest.mark.parametrize("kind", LARGE)
def test_large_grammars_are_served_or_end_without_harm(kind):
    at, began = matcher(LARGE[kind]), time.process_time()
    written = walk(at, random.Random(3), most=80)
    assert time.process_time() - began < 3
    assert ids(at.allowed()) and (written or kind in ("regex", "rules"))


def test_a_grammar_that_grows_too_complex_on_the_way_leaves_only_the_end():
    """And that harms no other answer, though answers learn from each other."""
    grammar, lengths = Grammar.regex(r"(\p{L}{1,1000}|\p{N}{1,1000}){1,1000}-"), []
    at, whole = matcher(grammar), matcher(grammar)
    for _ in range(3):
        rng, at, length = random.Random(0), matcher(grammar), 0
        while ids(at.allowed()) != [STOP]:
            at.accept(rng.choice(ids(at.allowed())))
            length += 1
        at.accept(STOP)
        assert at.stuck
        lengths.append(length)
    assert lengths[1] == lengths[2] > 5
    for token in tokenizer("dokja").encode("가1-"):
        assert token in ids(whole.allowed())
        whole.accept(token)
    assert ids(whole.allowed()) == [STOP]
    whole.accept(STOP)
    assert not whole.stuck


@pytest.mark.parametrize("text", ["start: <think>", "start: <[3]>", "start[max_tokens=3]: /a/", 'start[stop=""]: /a/'])
def test_grammars_speak_of_text_and_not_of_tokens(text):
    with pytest.raises(DataError, match="not of tokens"):
        Grammar.lark(text)


def test_what_looks_like_a_token_in_strings_patterns_and_comments_is_text():
    grammar = Grammar.lark('start: "<think>" A // <b> stop=1\n# <c>\nA: /<a>\\/<b>/')
    assert allows(grammar, "<think><a>/<b>")


def test_a_schema_cannot_change_how_it_is_read():
    grammar = Grammar.json_schema({"type": "object", "x-guidance": {"lenient": True, "item_separator": "x"}})
    assert grammar == Grammar.json_object()


def test_compiled_grammars_are_kept_and_bounded():
    own = Grammars(tokenizer("dokja"), 500)
    for i in range(80):
        own.matcher(Grammar.choice([str(i)]), (STOP,))
    assert len(own._kept) == 64
    first = own._kept[Grammar.choice(["79"])]
    own.matcher(Grammar.choice(["79"]), (STOP,))
    assert own._kept[Grammar.choice(["79"])] is first


def test_answers_do_not_disturb_each_other():
    one, other = matcher(Grammar.choice(["가나", "가다"])), matcher(Grammar.choice(["가나", "가다"]))
    before = other.allowed().tolist()
    for token in tokenizer("dokja").encode("가나"):
        one.accept(token)
    assert other.allowed().tolist() == before and ids(one.allowed()) == [STOP]


def test_requests_are_refused_with_a_sentence():
    asked = SimpleNamespace(grammar=Grammar.json_object(), stop=(STOP,), logit_bias=())
    with pytest.raises(ConfigError, match="no tokenizer"):
        Grammars(None, 100).of(asked)
    asked.stop = ()
    with pytest.raises(ConfigError, match="stop"):
        grammars().of(asked)
    assert Grammars(None, 100).of(Request("r", [1], 1)) is None


def test_nothing_needs_llguidance_until_a_grammar_is_asked_for():
    code = """
import sys
sys.modules["llguidance"] = None
import dokja.engine.engine
from dokja.engine.grammar import Grammars
from dokja.engine.rules import Grammar
from dokja.errors import ConfigError
try:
    Grammars(None, 10).matcher(Grammar.json_object(), (1,))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"pip install 'dokja\[structured\]'", done.stdout)
