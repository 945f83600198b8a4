"""Drafts from a sequence's own past: right where it repeats itself, none where nothing is to be gained."""

import random

import pytest
import torch
from engine_small import model, prompt

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.lookup import SIZES, LookupDrafter, _Text
from dokja.engine.running import Running
from dokja.errors import ConfigError

VOCAB = 5000


def text(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=length)


def running(prompt: list[int], answer: list[int], name: str = "x") -> Running:
    sequence = Running(Request(name, prompt, max_tokens=10**6), limit=10**6)
    sequence.tokens += answer
    return sequence


def propose(drafter: LookupDrafter, *sequences: Running) -> torch.Tensor:
    empty = torch.zeros(len(sequences), dtype=torch.int64)
    return drafter.propose(sequences, empty, empty, 0)


def write(drafter: LookupDrafter, prompts: list[list[int]], answers: list[list[int]]) -> tuple[int, int, int]:
    """Plays an engine that writes these answers -> steps, rows of all passes, tokens written."""
    live = [(running(p, a[:1], str(n)), a) for n, (p, a) in enumerate(zip(prompts, answers, strict=True))]
    steps = rows = 0
    while live := [(s, a) for s, a in live if len(s.tokens) < len(a)]:
        drafts = propose(drafter, *(s for s, _ in live))
        for (sequence, answer), guess in zip(live, drafts.tolist(), strict=True):
            at, right = len(sequence.tokens), 0
            while right < len(guess) and answer[at + right : at + right + 1] == [guess[right]]:
                right += 1
            sequence.tokens += answer[at : at + right + 1]
        steps, rows = steps + 1, rows + drafts.shape[0] * (drafts.shape[1] + 1)
    return steps, rows, sum(map(len, answers))


def test_what_followed_the_same_tokens_is_proposed():
    past = text(0, 200)
    drafts = propose(LookupDrafter(6), running(past, past[40:60]))
    assert drafts.tolist() == [past[60:66]] and drafts.dtype == torch.int64


def test_the_longest_agreement_wins_and_of_equals_the_last():
    a, b = text(1, 20), text(2, 6)
    tail = a[-8:]
    prompt = [*tail, *b, *text(3, 10), *tail[-3:], 7, 7, 7]  # b after eight tokens, 7 7 7 after three of them
    assert propose(LookupDrafter(3), running(prompt, tail)).tolist() == [b[:3]]
    prompt = [*tail, 1, 2, 3, *tail, *b]
    assert propose(LookupDrafter(3), running(prompt, tail)).tolist() == [b[:3]]


def test_what_repeats_itself_goes_round():
    assert propose(LookupDrafter(7, row_cost=0.0), running([9, 8], [1, 2, 3, 1, 2, 3, 1, 2])).tolist() == [
        [3, 1, 2, 3, 1, 2, 3]
    ]


def test_the_index_grows_with_the_text_and_finds_what_a_search_finds():
    rng = random.Random(5)
    ids = rng.choices(range(4), k=300)
    sequence = running(ids[:30], ids[30:31])
    held = _Text(sequence)
    for end in range(32, 300):
        sequence.tokens.append(ids[end - 1])
        held.go_on(1)
        found = [
            ids[at]
            for size in SIZES
            for at in range(end - 1, size - 1, -1)
            if ids[at - size : at] == ids[end - size : end]
        ]
        assert held.ids == ids[:end] and held.guess == found[:1]


def test_copied_text_takes_a_fraction_of_the_steps():
    source = text(6, 600)
    edited = [*source[:200], *text(7, 12), *source[215:400], *source[450:]]
    steps, rows, tokens = write(LookupDrafter(8), [source], [edited])
    assert tokens / steps > 4 and rows < 1.5 * tokens


def test_text_without_repetition_is_decoded_as_if_nobody_drafted():
    steps, rows, tokens = write(LookupDrafter(8), [text(8, 500)], [text(9, 400)])
    assert rows == steps == tokens - 1


def test_misleading_repetition_is_soon_left_alone():
    # Two tokens that often come together, and never the same after them
    rng = random.Random(10)
    answer = [t for _ in range(300) for t in (1, 2, rng.randrange(3, VOCAB))]
    _, rows, tokens = write(LookupDrafter(8), [answer[:60]], [answer[60:]])
    assert rows < 1.4 * tokens  # 1, 2 is foreseen; what follows is not
    noise = [t for _ in range(300) for t in (1, rng.randrange(3, 9))]
    _, rows, tokens = write(LookupDrafter(8), [noise[:60]], [noise[60:]])
    assert rows < 1.6 * tokens


def test_guesses_that_were_not_proposed_count_as_well():
    # After noise that taught it to be still, copying is noticed though nothing was proposed meanwhile.
    rng = random.Random(11)
    noise = [t for _ in range(200) for t in (1, 2, rng.randrange(3, VOCAB))]
    source = text(12, 300)
    steps, _, _ = write(LookupDrafter(8), [[*source, *noise]], [[*noise, *source[4:]]])
    alone, _, _ = write(LookupDrafter(8), [[*source, *noise]], [noise])
    assert steps - alone < 100


def test_all_rows_have_as_many_columns_and_few_copiers_do_not_make_many_rows():
    source = text(13, 300)
    copier, writer = running(source, source[50:70], "a"), running(text(14, 300), text(15, 20), "b")
    drafts = propose(LookupDrafter(4), copier, writer)
    assert drafts.shape[0] == 2 and drafts[0].tolist() == source[70 : 70 + drafts.shape[1]] != []
    many = [running(text(20 + n, 50), text(60 + n, 20), str(n)) for n in range(15)]
    assert propose(LookupDrafter(4), copier, *many).shape == (16, 0)
    assert propose(LookupDrafter(4, row_cost=0.0), copier, *many).shape == (16, 4)


def test_a_name_that_comes_again_is_another_text():
    drafter, first, second = LookupDrafter(3), text(16, 100), text(17, 100)
    propose(drafter, running(first, first[10:20]))
    assert propose(drafter, running(second, second[10:20])).tolist() == [second[20:23]]
    assert propose(drafter, running(second, first[10:20])).shape == (1, 0)


def test_a_depth_below_one_is_refused():
    with pytest.raises(ConfigError, match="draft is 0"):
        LookupDrafter(0)


@pytest.mark.parametrize("weights", [None, "int8"])
def test_answers_are_those_of_plain_decoding(weights):
    made = model(1, width=64, head_dim=32, ffn=96, vocab=40, context=160)
    asked = [Request(str(n), prompt(n, 20 + n, 40), 90, temperature=0.4 * (n % 2), seed=n) for n in range(5)]
    plain = Engine(made, slots=3, weights=weights).complete(asked)
    for depth in (1, 4, 9):
        engine = Engine(made, slots=3, draft=depth, drafter="lookup", weights=weights)
        assert [(c.tokens, c.finish) for c in engine.complete(asked)] == [(c.tokens, c.finish) for c in plain]
        assert engine.stats()["accepted"] > 10
