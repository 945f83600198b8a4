"""Requests in, tokens out: scheduling, stops, budgets and refusals."""

import random
from dataclasses import replace

import pytest
import torch
from engine_small import NATIVE, model, prompt

from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.errors import CheckpointError, ConfigError, DokjaError

MODEL = model()


def request(i: int, **settings) -> Request:
    return Request(**({"id": f"r{i}", "prompt": prompt(i, 3 + i * 7 % 30), "max_tokens": 12, "seed": i} | settings))


def alone(r: Request, **engine) -> Completion:
    return Engine(MODEL, **({"slots": 1} | engine)).complete([r])[0]


def test_a_seeded_answer_is_the_same_alone_and_among_20_mates_in_any_order():
    wishes = [{}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}]
    requests = [request(i, max_tokens=5 + i * 5 % 17, **wishes[i % 4]) for i in range(21)]
    single = {r.id: alone(r) for r in requests}
    for slots, chunk, prefill in ((64, 512, 2048), (4, 5, 40), (7, 9, 64)):
        order = requests[:]
        random.Random(slots).shuffle(order)
        answers = Engine(MODEL, slots=slots, chunk=chunk, prefill_tokens=prefill).complete(order)
        assert [a.id for a in answers] == [r.id for r in order]
        for a in answers:
            assert (a.tokens, a.finish) == (single[a.id].tokens, single[a.id].finish)
            assert a.logprobs == pytest.approx(single[a.id].logprobs, abs=1e-4)


@pytest.mark.parametrize("decoder", [MODEL, model(**NATIVE)], ids=["torch", "native"])
def test_a_group_reads_its_prompt_once_and_answers_as_each_would_alone(decoder):
    requests = [request(i, prompt=prompt(i % 3, 5 + 20 * (i % 3)), max_tokens=4 + i) for i in range(18)]
    single = [Engine(decoder, slots=1).complete([r])[0] for r in requests]
    for slots in (18, 5):
        engine = Engine(decoder, slots=slots)
        answers = engine.complete(requests)
        assert [a.tokens for a in answers] == [a.tokens for a in single]
        for a, b in zip(answers, single, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert engine.stats()["prompt_tokens"] == sum(len(r.prompt) for r in requests)
        assert engine.stats()["reused_tokens"] == sum(a.cached_tokens for a in answers)
        if slots == 18:
            assert engine.stats()["read_tokens"] == 5 + 25 + 45
            assert sum(a.cached_tokens for a in answers) == 5 * (5 + 25 + 45)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_a_live_model_are_taken_and_shared_ones_need_no_copy(dtype):
    live, r = model(**NATIVE), request(1)
    engine = Engine(live, dtype=dtype)
    first = engine.complete([r])[0].tokens
    with torch.no_grad():
        for own, new in zip(live.parameters(), model(7, **NATIVE).parameters(), strict=True):
            own.copy_(new)
    want = Engine(live, dtype=dtype).complete([r])[0].tokens
    assert (engine.complete([r])[0].tokens == want) == (dtype == torch.float32)
    engine.take_weights(live)
    assert engine.complete([r])[0].tokens == want != first
    with pytest.raises(CheckpointError, match="another shape"):
        engine.take_weights(MODEL)
    engine.submit(r)
    with pytest.raises(DokjaError, match="running requests"):
        engine.take_weights(live)


def test_logprobs_are_those_of_the_full_forward_before_temperature_and_filters():
    for r in (
        request(1, temperature=0.5, top_k=4),
        request(5, temperature=1.5, top_p=0.8),
        request(2, temperature=0.0),
    ):
        answer = alone(r)
        text = torch.tensor([r.prompt + answer.tokens])
        full = MODEL(text)[0].log_softmax(-1)[len(r.prompt) - 1 : -1]
        want = full.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(answer.logprobs), want, atol=1e-5)


def test_greedy_takes_the_best_token_of_the_full_forward():
    r = request(3, temperature=0.0)
    text = list(r.prompt)
    for token in alone(r).tokens:
        assert int(MODEL(torch.tensor([text]))[0, -1].argmax()) == token
        text.append(token)


def test_seeds_differ_and_repeat():
    answers = [alone(request(1, seed=s)).tokens for s in (1, 1, 2, 2**70, -5)]
    assert answers[0] == answers[1]
    assert len({tuple(a) for a in answers}) == 4


def test_events_carry_what_completions_carry():
    requests = [request(i) for i in range(9)]
    events = list(Engine(MODEL, slots=3).generate(iter(requests)))
    for c in Engine(MODEL, slots=5).complete(requests):
        own = [e for e in events if e.id == c.id]
        assert [e.token for e in own] == c.tokens
        assert [e.logprob for e in own] == pytest.approx(c.logprobs, abs=1e-4)
        assert [e.finish for e in own] == [None] * (len(own) - 1) + [c.finish]


def test_a_stop_token_ends_the_answer_and_belongs_to_it():
    r = request(4, max_tokens=25)
    free = alone(r).tokens
    stopped = alone(replace(r, stop=(free[6], 47)))
    assert stopped.finish == "stop"
    assert stopped.tokens == free[: free.index(stopped.tokens[-1]) + 1]
    assert stopped.tokens[-1] in (free[6], 47)


def test_lengths_end_at_max_tokens_or_with_the_context():
    assert len(alone(request(1, max_tokens=1)).tokens) == 1
    long = alone(request(1, prompt=prompt(1, 60), max_tokens=100))
    assert (len(long.tokens), long.finish, long.prompt_tokens) == (4, "length", 60)


def test_on_done_hears_of_every_answer_once_and_short_ones_first():
    heard = []
    engine = Engine(MODEL, slots=4)
    answers = engine.complete([request(i, max_tokens=20 - 4 * i) for i in range(4)], on_done=heard.append)
    assert [c.id for c in heard] == ["r3", "r2", "r1", "r0"]
    assert sorted(heard, key=lambda c: c.id) == answers


def test_slots_are_freed_by_ends_and_aborts_at_once():
    engine = Engine(MODEL, slots=2)
    for i in range(4):
        engine.submit(request(i, max_tokens=8))
    engine.step()
    assert (engine.stats()["running"], engine.stats()["waiting"]) == (2, 2)
    cut = engine.abort("r0")
    assert cut.finish == "abort" and cut.tokens == alone(request(0, max_tokens=8)).tokens[:2]
    assert (engine.stats()["running"], engine.stats()["waiting"]) == (1, 2)
    assert engine.abort("r3").tokens == [] and engine.abort("nobody") is None
    engine.step()
    assert (engine.stats()["running"], engine.stats()["waiting"]) == (2, 0)
    tokens: dict[str, list[int]] = {}
    while events := engine.step():
        for e in events:
            tokens.setdefault(e.id, []).append(e.token)
    assert engine.stats()["running"] == 0
    assert tokens["r1"] == alone(request(1, max_tokens=8)).tokens[3:]
    assert tokens["r2"] == alone(request(2, max_tokens=8)).tokens[2:]


def test_aborting_while_reading_ends_that_answer_only():
    engine, seen = Engine(MODEL, slots=4), {}
    for event in engine.generate([request(i, max_tokens=10) for i in range(4)]):
        seen.setdefault(event.id, []).append(event.token)
        if event.id == "r1" and len(seen["r1"]) == 3:
            engine.abort("r1")
    assert {name: len(tokens) for name, tokens in seen.items()} == {"r0": 10, "r1": 3, "r2": 10, "r3": 10}


def test_a_dropped_iterator_or_a_failing_reader_leaves_the_engine_empty():
    engine = Engine(MODEL, slots=2)
    events = engine.generate(request(i) for i in range(5))
    next(events)
    with pytest.raises(RuntimeError, match="busy"):
        engine.complete([request(9)])
    events.close()
    assert engine.stats()["running"] == engine.stats()["waiting"] == 0

    def fail(_):
        raise ValueError("reader")

    with pytest.raises(ValueError, match="reader"):
        engine.complete([request(i) for i in range(5)], on_done=fail)
    assert engine.complete([request(1)])[0].tokens == alone(request(1)).tokens


def test_the_budget_closes_the_thought_with_the_given_ids_and_the_model_goes_on():
    free = alone(request(2, max_tokens=20))
    close = tuple(t for t in range(48) if t not in free.tokens)[:3]
    r = request(2, max_tokens=20, think_budget=6, think_close=close)
    forced = Engine(MODEL, slots=8).complete([request(0), r, request(1)])[1]
    assert forced.forced and not free.forced
    assert forced.tokens[:9] == [*free.tokens[:6], *close] and len(forced.tokens) == 20
    text = torch.tensor([r.prompt + forced.tokens])
    want = MODEL(text)[0].log_softmax(-1)[len(r.prompt) - 1 : -1].gather(1, text[0, len(r.prompt) :, None])[:, 0]
    assert torch.allclose(torch.tensor(forced.logprobs), want, atol=1e-5)
    assert alone(r).tokens == forced.tokens
    at_once = alone(replace(r, think_budget=0))
    assert at_once.tokens[:3] == list(close) and at_once.forced


def test_a_thought_that_the_model_closes_itself_is_not_forced():
    free = alone(request(2, max_tokens=20))
    r = request(2, max_tokens=20, think_budget=6, think_close=(47, free.tokens[3]))
    assert alone(r) == free
    assert alone(replace(r, think_budget=20, think_close=(47,))).forced is False


def test_a_stop_token_among_the_forced_ids_ends_the_answer():
    r = request(2, max_tokens=20, think_budget=2, think_close=(45, 46), stop=(46,))
    answer = alone(r)
    assert (answer.tokens[-2:], answer.finish, answer.forced) == ([45, 46], "stop", True)


def test_requests_that_cannot_be_served_are_refused_with_a_sentence():
    engine = Engine(MODEL, slots=2)
    with pytest.raises(DokjaError, match=r"64 tokens.*context of 64.*Shorten"):
        engine.submit(request(0, prompt=prompt(0, 64)))
    with pytest.raises(DokjaError, match="outside this model's vocabulary of 48"):
        engine.submit(request(0, prompt=[3, 48]))
    engine.submit(request(0))
    with pytest.raises(DokjaError, match="own id"):
        engine.submit(request(0))
    engine.abort("r0")
    with pytest.raises(DokjaError, match="context"):
        engine.complete([request(0), request(1, prompt=prompt(0, 70))])
    assert engine.stats()["waiting"] == 0 and engine.stats()["tokens"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": []}, {"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0},
        {"top_p": 1.1}, {"top_k": -1}, {"think_budget": 5}, {"think_budget": -1, "think_close": (1,)},
    ],
)  # fmt: skip
def test_values_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigError, match="r0"):
        request(0, **wrong)


def test_scores_that_are_not_numbers_stop_the_engine():
    broken = model()
    broken.norm[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        Engine(broken).complete([request(0)])


def test_stats_count_prompts_and_written_tokens():
    engine = Engine(MODEL, slots=2)
    answers = engine.complete([request(i) for i in range(3)])
    stats = engine.stats()
    assert stats["tokens"] == sum(len(a.tokens) for a in answers)
    assert stats["prompt_tokens"] == sum(a.prompt_tokens for a in answers)
    assert stats["tokens_per_second"] == pytest.approx(stats["tokens"] / stats["seconds"])
