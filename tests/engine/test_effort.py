"""Thoughts: how long they may be, that an answer always follows, and that neither drafts nor mates change any of it."""

import math
import random
from dataclasses import replace

import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt
from hypothesis import given
from hypothesis import strategies as st
from test_choose import Script, same

from dokja.engine.answers import read_answer, thought_fields
from dokja.engine.api import Completion, Request
from dokja.engine.choose import Rules, rules
from dokja.engine.effort import EFFORTS, Thought, answer_room, thought
from dokja.engine.engine import Engine
from dokja.engine.running import Running
from dokja.errors import ConfigError, DokjaError
from dokja.model.spec import MtpSpec
from dokja.text.chat import END, THINK_END
from dokja.text.styles import DOKJA, STYLES
from dokja.text.tokenizer import train_tokenizer

PATHS = [pytest.param({}, id="torch"), pytest.param(NATIVE, id="native", marks=needs_compiler)]
CLOSE = (45, 46)
sizes = st.integers(1, 300_000)


@given(sizes, sizes)
def test_more_effort_means_no_shorter_a_thought_and_there_is_room_behind_it(max_tokens, context):
    room = min(max_tokens, context)
    found = [thought(effort, max_tokens, context) for effort in EFFORTS]
    assert [t.thinking for t in found] == [False, True, True, True]
    budgets = [t.budget for t in found[1:]]
    assert budgets == sorted(budgets) and min(budgets) >= 1
    assert room < 8 or budgets[-1] + answer_room(room) <= room


def test_efforts_are_those_of_the_table():
    assert [thought(e, 4096, 100_000).budget for e in EFFORTS] == [None, 512, 1536, 3072]
    assert [thought(e, 100_000, 32_768).budget for e in EFFORTS] == [None, 1024, 8192, 31_744]
    assert thought("high", 4096, 100, budget=7) == thought("none", 4096, 100, budget=7) == Thought(True, 7)
    assert thought("high", 4096, 100, budget=0) == Thought(False, None)
    assert thought("none", 100, 100, modes=("think",)) == Thought(True, 0)
    assert thought("high", 100, 100, modes=("direct",)) == Thought(False, None)
    with pytest.raises(ConfigError, match="low"):
        thought("much", 100, 100)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="budget"):
        thought("low", 100, 100, budget=-1)


def request(i: int, **more) -> Request:
    base = {"id": f"r{i}", "prompt": prompt(i, 3 + i), "max_tokens": 24, "seed": i, "think_close": CLOSE}
    return Request(**(base | {"thinking": True, "recover": True} | more))


def alone(decoder, r: Request) -> Completion:
    return Engine(decoder, slots=1).complete([r])[0]


def test_a_stop_in_the_thought_closes_it_and_the_answer_goes_on():
    decoder = model()
    free = alone(decoder, request(1))
    at = 5
    stop = free.tokens[at]
    assert stop not in (*free.tokens[:at], *CLOSE)
    done = alone(decoder, request(1, stop=(stop,)))
    assert done.tokens[: at + 2] == [*free.tokens[:at], *CLOSE] and len(done.tokens) > at + 2
    assert done.forced and done.forced_at == at
    cut = alone(decoder, request(1, stop=(stop,), recover=False))
    assert cut.tokens == free.tokens[: at + 1] and not cut.forced and cut.forced_at == -1


@pytest.mark.parametrize("path", PATHS)
def test_forced_tokens_have_the_log_probabilities_of_the_raw_model(path):
    decoder = model(**path)
    stop = alone(decoder, request(1)).tokens[5]
    for r in (request(1, stop=(stop,)), request(1, think_budget=4)):
        done = alone(decoder, r)
        ids = torch.tensor([[*r.prompt, *done.tokens]])
        want = decoder.logits(decoder.hidden(ids))[0].log_softmax(-1)[len(r.prompt) - 1 : -1]
        want = want.gather(1, torch.tensor(done.tokens)[:, None])[:, 0]
        assert done.forced and done.logprobs == pytest.approx(want.tolist(), abs=1e-4)


def test_a_thought_is_closed_early_enough_to_leave_room_for_an_answer():
    decoder = model()
    for settings, at in (
        ({}, 24 - 2 - 6),  # a quarter
        ({"answer_tokens": 10}, 12),
        ({"answer_tokens": 10, "think_budget": 3}, 3),
        ({"answer_tokens": 10, "think_budget": 20}, 12),
        ({"answer_tokens": 100}, 0),
        ({"max_tokens": 2}, 0),
        ({"prompt": prompt(0, 60), "answer_tokens": 1}, 1),  # the context of 64 leaves 4
    ):
        done = alone(decoder, request(0, **settings))
        assert (done.forced_at, done.tokens[at : at + 2]) == (at, list(CLOSE)), settings
    assert not alone(decoder, request(0, recover=False)).forced
    own = alone(decoder, request(0, recover=False)).tokens[3]  # the model closes its thought itself
    assert alone(decoder, request(0, think_close=(own,))).forced is False


def test_an_answer_is_never_empty_and_only_its_first_place_is_ruled():
    decoder, stop = model(), tuple(range(0, 44, 2))  # half of all draws
    asked = [request(i, stop=stop, temperature=2.0) for i in range(40)]
    answers = [a.tokens[a.tokens.index(46) + 1 :] for a in Engine(decoder).complete(asked)]
    assert all(answer and answer[0] not in stop for answer in answers)
    assert sum(answer[1] in stop for answer in answers if len(answer) > 1) > 5
    bare = [replace(r, recover=False, think_budget=0) for r in asked]
    assert sum(a.tokens[2] in stop for a in Engine(decoder).complete(bare)) > 5
    # Nothing is barred where no thought was: `recover` speaks of thoughts.
    plain = [replace(r, thinking=False) for r in asked]
    off = [replace(r, recover=False) for r in plain]
    assert Engine(decoder).complete(plain) == Engine(decoder).complete(off)


def test_white_space_is_no_answer():
    tokenizer = train_tokenizer(["so it goes on"] * 5, 300)
    space, close, end = tokenizer.encode(" ")[0], tokenizer.special_id(THINK_END), tokenizer.special_id(END)
    bias = ((space, 6.0), (end, 5.0), *((marker, -math.inf) for marker in range(12) if marker != end))
    settings = {"think_close": (close,), "stop": (end,), "logit_bias": bias, "think_budget": 2, "max_tokens": 40}
    asked = [request(i, prompt=[20 + i], **settings) for i in range(20)]
    decoder, blank = model(vocab=tokenizer.vocab_size), 0
    for a in Engine(decoder, tokenizer=tokenizer).complete(asked):
        content = read_answer(a, tokenizer, "think").content
        blank += content.startswith(" ")
        assert content.strip() or a.finish == "length"
    assert blank > 2


@pytest.mark.parametrize("path", PATHS)
def test_recovery_is_the_same_with_drafts_and_beside_any_mates(path):
    decoder, asked = model(**(path | {"mtp": MtpSpec()})), []
    for i in range(24):
        free = alone(decoder, request(i, thinking=False))
        # stops that come in the thought, at its end, right behind it and later; one closing token and several
        stop = (free.tokens[i % 8], free.tokens[9], 3, 5)
        close = ((45, 46), (47,), (44, 45, 46), (46, free.tokens[2]))[i % 4]
        more = {"think_budget": (None, 6, 2, 0)[i // 6], "temperature": (1.0, 0.0, 1.5)[i % 3], "top_logprobs": 2}
        asked.append(request(i, stop=tuple(x for x in stop if x not in close), think_close=close, **more))
    want = [alone(decoder, r) for r in asked]
    assert {a.forced for a in want} == {True, False} and len({a.finish for a in want}) == 2
    early = [a.forced_at >= 0 and a.forced_at != r.think_budget for a, r in zip(want, asked, strict=True)]
    assert sum(early) > 5
    assert same(Engine(decoder, slots=7).complete(asked), want, path is NATIVE)
    for draft, wrong in ((1, 0.0), (4, 0.0), (4, 0.3), (7, 0.1)):
        engine = Engine(decoder, slots=5, draft=draft)
        engine._drafter = Script(draft, want, wrong)
        assert same(engine.complete(asked), want, path is NATIVE)


class Turns:
    """A grammar: tokens of an answer leave the remainders 0, 1, 2, 0, 1, ... when divided by 3."""

    stuck = False

    def __init__(self):
        self.taken = []

    def allowed(self, drafts):
        return torch.tensor([(len(self.taken) + len(drafts)) % 3, 0], dtype=torch.int32)  # a mask by its first word

    def accept(self, token):
        self.taken.append(token)


def of_row(found: Rules, row: int):
    """The rules of one row, as plain data."""
    forced = -1 if found.forced is None else int(found.forced[row])
    mask = [-1, -1] if found.allowed is None else found.allowed[row].tolist()
    first, last = found.edits.first[row : row + 2]
    return forced, mask, [x[first:last].tolist() for x in (found.edits.token, found.edits.scale, found.edits.add)]


def test_a_place_has_the_same_rules_whether_drafts_or_steps_lead_to_it():
    chance, kinds = random.Random(3), set()
    for _ in range(300):
        close = chance.choice([(45, 46), (46,), (4, 5, 6)])
        r = request(
            0, think_close=close, think_budget=chance.choice([None, 0, 3, 6]), answer_tokens=chance.randrange(1, 20),
            thinking=chance.random() < 0.8, recover=chance.random() < 0.7, stop=(9,), repetition_penalty=1.2,
        )  # fmt: skip
        sequence, written = Running(r, 24, matcher=Turns()), chance.randrange(8)
        drafts = []
        for i in range(14):
            must = sequence.must_come(drafts)
            thinks = sequence.answer_of(drafts) is None
            token = must if must >= 0 else chance.choice([*range(8), 45, 46, *(() if thinks and r.recover else (9,))])
            if i < written:
                sequence.take(token, -1.0)
            else:
                drafts.append(token)
        ahead = rules([sequence], [drafts], 48)
        for i, draft in enumerate(drafts):
            now = rules([sequence], [[]], 48)
            kinds.add((sequence.open_thought, sequence.bars([]), now.forced is not None))
            assert of_row(now, 0) == of_row(ahead, i)
            sequence.take(draft, -1.0)
    assert len(kinds) == 6


def test_what_a_request_says_of_its_thought_follows_from_the_format():
    tokenizer = train_tokenizer(["a b"] * 5, 300)
    close = (tokenizer.special_id(THINK_END),)
    want = {"thinking": True, "think_close": close, "think_budget": 9, "recover": True}
    assert thought_fields(DOKJA, tokenizer, 9) == want
    assert thought_fields(DOKJA, tokenizer) == want | {"think_budget": None}
    assert thought_fields(STYLES["deep"], tokenizer) == {}  # this tokenizer spells the marker in letters
    with pytest.raises(DokjaError, match="closes thoughts"):
        thought_fields(STYLES["deep"], tokenizer, 9)
