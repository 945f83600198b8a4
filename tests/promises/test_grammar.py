"""What a model writes under a grammar matches it, whatever the model: here one of random weights writes nonsense."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import official_small
import pytest
import torch
from engine_small import NATIVE, model
from random_schemas import pattern, schema

from dokja.engine.answers import closing_ids, read_answer, stop_ids
from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.rules import Grammar
from dokja.model.decoder import Decoder
from dokja.model.spec import MtpSpec
from dokja.text.chat import Message
from dokja.text.stream import Piece
from dokja.text.style import Style
from dokja.text.styles import STYLES
from dokja.text.tokenizer import Tokenizer, train_tokenizer

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")
DRAFT = 3
MOST = 700  # tokens of an answer


@dataclass(frozen=True)
class Place:
    """A model with its tokenizer and chat format."""

    style: Style
    tokenizer: Tokenizer
    decoder: Decoder
    engine: Engine
    drafting: Engine

    def requests(self, grammars: Sequence[Grammar], thinking: bool, **settings) -> list[Request]:
        """One a grammar; thoughts are closed by the model, by a budget, or because an answer has to follow. What ends
        an answer for the parser (markers of turns, of which nonsense is full) is a stop token here."""
        made, stop = [], tuple(i for name, i in self.tokenizer.specials.items() if self.ends(name))
        assert set(stop_ids(self.style, self.tokenizer)) <= set(stop)
        prompt, _ = self.tokenizer.encode_segments(
            self.style.render([Message("user", "답은?")], thinking=thinking, add_generation_prompt=True)
        )
        for i, grammar in enumerate(grammars):
            made.append(Request(f"{i}", prompt, MOST, seed=i, stop=stop, grammar=grammar))
            if thinking:
                close = closing_ids(self.style, self.tokenizer)
                fond = {"answer_tokens": MOST - 30, "logit_bias": ((close[-1], 4.0),)}  # closes thoughts of its own
                how = (fond, {"think_budget": i % 10}, {"answer_tokens": MOST - 30})[i % 3]
                led = grammar.after(self.style.lead)
                made[-1] = replace(made[-1], grammar=led, thinking=True, think_close=close, recover=True, **how)
            made[-1] = replace(made[-1], **settings)
        return made

    def ends(self, marker: str) -> bool:
        """Whether the parser takes the marker for the end of an answer."""
        parser = self.style.parser()
        parser.feed(Piece(marker, True))
        return parser.ended

    def content(self, done: Completion, thinking: bool) -> str:
        """The answer that the chat format's parser hands out."""
        return read_answer(done, self.tokenizer, "think" if thinking else "direct", self.style).content


@cache
def place(name: str) -> Place:
    tokenizer = train_tokenizer(official_small.CORPUS, 400) if name == "dokja" else official_small.tokenizer(name)
    decoder = model(
        3,
        **(
            NATIVE
            | {"vocab": tokenizer.vocab_size + 29, "context": 1024, "layers": 2, "pattern": "LG", "mtp": MtpSpec()}
        ),
    )
    engines = [Engine(decoder, slots=48, tokenizer=tokenizer, draft=draft) for draft in (0, DRAFT)]
    return Place(STYLES[name], tokenizer, decoder, *engines)


class Guess:
    """A drafter that knows the answers and errs where chance says so, with any token there is."""

    def __init__(self, answers: Sequence[Completion], vocab: int, wrong: float):
        self.depth, self.answers, self.vocab, self.wrong = DRAFT, {a.id: a.tokens for a in answers}, vocab, wrong
        self.chance = random.Random(0)

    def propose(self, running, last_B, position_B, longest):
        rows = []
        for sequence in running:
            written = len(sequence.tokens)
            known = [*self.answers[sequence.request.id][written : written + DRAFT], *[0] * DRAFT][:DRAFT]
            rows.append([self.chance.randrange(self.vocab) if self.chance.random() < self.wrong else t for t in known])
        return torch.tensor(rows)


def speculated(
    at: Place, asked: Sequence[Request], plain: Sequence[Completion], wrong: float | None
) -> list[Completion]:
    """The answers with drafts of the model's own head (None), or with a guesser's."""
    own = at.drafting._drafter
    try:
        if wrong is not None:
            at.drafting._drafter = Guess(plain, at.drafting.spec.vocab, wrong)
        return at.drafting.complete(asked)
    finally:
        at.drafting._drafter = own


def same(got: Sequence[Completion], want: Sequence[Completion]) -> bool:
    return [(a.id, a.tokens, a.finish, a.forced) for a in got] == [(b.id, b.tokens, b.finish, b.forced) for b in want]


def hold(count: int, name: str, drafts: Sequence[float | None], first: int = 0) -> None:
    """Answers under `count` random schemas, in each mode of the style, plain and with each kind of drafts."""
    at, schemas = place(name), [schema(seed) for seed in range(first, first + count)]
    for thinking in (mode == "think" for mode in at.style.modes):
        asked = at.requests([Grammar.json_schema(s) for s in schemas], thinking)
        plain, cut = at.engine.complete(asked), 0
        for made, done in zip(schemas, plain, strict=True):
            assert done.finish != "abort"
            if done.finish == "length":
                cut += 1
                continue
            text, raw = at.content(done, thinking), at.tokenizer.decode(done.tokens, markers=True)
            lead = at.style.lead if thinking else ""
            assert (raw.rpartition(at.style.thought[1])[2] if thinking else raw).startswith(lead + "{")
            assert text == text.strip() and text.startswith("{") and text.endswith("}")
            jsonschema.Draft202012Validator(made).validate(json.loads(text))
        assert cut <= count // 20
        for wrong in drafts:
            assert same(speculated(at, asked, plain, wrong), plain)


def test_answers_are_valid_under_random_schemas():
    hold(40, "dokja", (None, 0.3))


@pytest.mark.parametrize("name", ["deep", "exaone4", "k", "k2"])
def test_so_they_are_in_the_official_formats(name):
    hold(12, name, (0.3,), first=1000)


@pytest.mark.slow
def test_so_they_are_under_500_schemas_in_both_modes_with_drafts_right_wrong_and_of_the_head():
    hold(500, "dokja", (None, 0.0, 1.0, 0.3), first=2000)


def test_answers_match_random_regular_expressions():
    rng, at = random.Random(0), place("dokja")
    patterns = [pattern(rng, 3) for _ in range(200)]
    for thinking in (False, True):
        asked = at.requests([Grammar.regex(p) for p in patterns], thinking)
        plain = at.engine.complete(asked)
        for p, done in zip(patterns, plain, strict=True):
            assert done.finish == "stop"
            assert re.fullmatch(p, at.content(done, thinking)), p
        assert same(speculated(at, asked, plain, 0.3), plain)


def test_answers_are_among_the_choices():
    at, options = place("exaone4"), ["예", "아니요", "아니", "모르겠습니다", "no", "none of these"]
    for thinking in (False, True):
        asked = at.requests([Grammar.choice(options)] * 60, thinking)
        found = {at.content(done, thinking) for done in at.engine.complete(asked)}
        assert found <= set(options) and len(found) > 2


def test_the_limit_cuts_an_answer_and_says_so():
    at = place("dokja")
    (asked,) = at.requests([Grammar.regex("[가-힣]{500}")], False, max_tokens=20)
    (done,) = at.engine.complete([asked])
    assert (done.finish, len(done.tokens)) == ("length", 20)


def test_the_best_token_and_filters_keep_to_the_grammar_too():
    at, made = place("dokja"), [schema(seed) for seed in range(3000, 3012)]
    for settings in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.05}, {"min_p": 0.9}, {"frequency_penalty": 2.0}):
        for s, done in zip(
            made, at.engine.complete(at.requests(list(map(Grammar.json_schema, made)), False, **settings)), strict=True
        ):
            if done.finish == "stop":
                jsonschema.Draft202012Validator(s).validate(json.loads(at.content(done, False)))
            else:
                assert done.finish == "length"


def test_answers_with_and_without_grammars_share_a_batch_and_do_not_touch_each_other():
    at = place("dokja")
    bound = at.requests([Grammar.json_schema(schema(seed)) for seed in range(10)], True)
    free = [replace(r, id=f"f{r.id}", grammar=None, max_tokens=60, answer_tokens=20) for r in bound]
    together = at.engine.complete([r for pair in zip(bound, free, strict=True) for r in pair])
    assert same(together[::2], at.engine.complete(bound))
    assert same(together[1::2], at.engine.complete(free))


def test_answers_that_are_put_back_and_read_again_go_on_where_they_were():
    at = place("dokja")
    asked = at.requests([Grammar.json_schema(schema(seed)) for seed in range(4000, 4024)], True)
    plain = at.engine.complete(asked)
    for how in ({}, {"draft": DRAFT, "drafter": "lookup"}):
        tight = Engine(at.decoder, slots=24, tokenizer=at.tokenizer, kv_tokens=MOST + 96, **how)
        assert same(tight.complete(asked), plain)
        assert tight.stats()["preemptions"] > 0 and (not how or tight.stats()["drafted"] > 0)


def test_a_barred_token_comes_where_the_grammar_leaves_nothing_else():
    at = place("dokja")
    bars = tuple((token, float("-inf")) for token in at.tokenizer.encode("ab"))
    for text, settings in (("a|c", {}), ("b", {}), ("a|b", {"temperature": 0.0})):
        (done,) = at.engine.complete(at.requests([Grammar.regex(text)], False, logit_bias=bars, **settings))
        assert done.finish == "stop" and at.content(done, False) == {"a|c": "c", "b": "b"}.get(text, "a")


def test_an_answer_whose_grammar_grows_too_complex_is_told_from_a_whole_one():
    at = place("dokja")
    asked = at.requests([Grammar.regex(r"(\p{L}{1,1000}|\p{N}{1,1000}){1,1000}-")] * 3, False)
    done = at.engine.complete(asked)
    assert "abort" in [d.finish for d in done] and all(d.tokens[-1] in asked[0].stop for d in done)
    for d in (*done, *speculated(at, asked, done, 0.3)):
        assert (d.finish == "stop") == at.content(d, False).endswith("-")
