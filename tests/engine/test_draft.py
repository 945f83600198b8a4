"""Speculation changes how many steps an answer takes and nothing else: drafts good, bad and mixed, on both paths."""

import itertools
import random

import numpy as np
import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt

from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.kv import PAGE
from dokja.errors import ConfigError
from dokja.model.block import block_forward
from dokja.model.decoder import Decoder
from dokja.model.spec import MtpSpec
from dokja.train.compiled import Runner

PATHS = [pytest.param({}, id="torch"), pytest.param(NATIVE, id="native", marks=needs_compiler)]
SHAPES = {
    "post, global head": {"mtp": MtpSpec()},
    "pre, local head": {"norm": "pre", "mtp": MtpSpec(window=8)},
    "tied relu2, head without positions": {"activation": "relu2", "tied": True, "mtp": MtpSpec(rope=False)},
    "windows of 1, head of 3": {"pattern": "LG", "window": 1, "mtp": MtpSpec(window=3)},
    "all global": {"pattern": "G", "window": None, "rope": "all", "mtp": MtpSpec()},
    "a window a layer": {"window": (0, 16, 3, 5), "mtp": MtpSpec(window=100)},
}
WISHES = [{}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}]


def requests(count: int, **settings) -> list[Request]:
    """Prompts on both sides of the window, of several wishes, lengths and ends."""
    made = []
    for i in range(count):
        base = {"id": f"r{i}", "prompt": prompt(i, 1 + i * 5 % 23), "max_tokens": 3 + i * 7 % 26, "seed": i}
        made.append(Request(**(base | WISHES[i % 4] | settings)))
    return made


def assert_same(got: list[Completion], want: list[Completion], exact: bool) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a.id, a.tokens, a.finish, a.forced) == (b.id, b.tokens, b.finish, b.forced)
        assert a.logprobs == b.logprobs if exact else a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


class Script:
    """A drafter that knows the answers and errs where it is told to: every acceptance count comes up."""

    def __init__(self, depth: int, answers: list[Completion], wrong: float):
        self.depth, self.answers, self.wrong = depth, {a.id: a.tokens for a in answers}, wrong
        self.chance = random.Random(0)

    def propose(self, running, last_B, position_B, longest):
        rows = []
        for sequence in running:
            written = len(sequence.tokens)
            known = [*self.answers[sequence.request.id][written : written + self.depth], *[0] * self.depth]
            rows.append([(t + 1) % 48 if self.chance.random() < self.wrong else t for t in known[: self.depth]])
        assert position_B.tolist() == [s.length - 1 for s in running]
        assert longest == max(s.length for s in running) + self.depth
        return torch.tensor(rows)


def scripted(engine: Engine, answers: list[Completion], wrong: float) -> Engine:
    engine._drafter = Script(engine._drafter.depth, answers, wrong)
    return engine


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_answers_with_drafts_are_those_without(shape, path):
    decoder, asked = model(**(path | shape)), requests(13)
    plain = Engine(decoder, slots=5).complete(asked)
    for draft, chunk in ((1, 512), (3, 4)):
        engine = Engine(decoder, slots=5, chunk=chunk, draft=draft)
        assert (engine._forward._native is not None) == (path is NATIVE)
        assert_same(engine.complete(asked), plain, path is NATIVE)
        stats = engine.stats()
        assert stats["accepted"] <= stats["drafted"] and stats["tokens"] == sum(len(a.tokens) for a in plain)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("window", [1, 2, 7, 8, 9])
def test_no_mix_of_right_and_wrong_drafts_changes_an_answer_around_the_window(path, window):
    decoder = model(**(path | {"window": window, "mtp": MtpSpec(window=window), "pattern": "LLG"}))
    asked = [
        Request(f"r{n}", prompt(n, n), 30, temperature=n % 2, seed=n) for n in {1, window, window + 1, 3 * window + 2}
    ]
    plain = Engine(decoder, slots=4).complete(asked)
    for draft in (1, 4, 11):
        for wrong in (0.0, 0.3, 1.0):
            engine = scripted(Engine(decoder, slots=4, chunk=1 + draft, draft=draft), plain, wrong)
            assert_same(engine.complete(asked), plain, path is NATIVE)
            assert wrong != 1.0 or engine.stats()["accepted"] == 0


@pytest.mark.parametrize("path", PATHS)
def test_what_the_head_proposes_does_not_depend_on_how_the_text_was_made(path):
    decoder = model(**(path | {"mtp": MtpSpec(window=6)}))
    asked = [Request(f"r{n}", prompt(n, n), 15, seed=n) for n in (12, 7, 1)]
    plain, depth, seen = Engine(decoder).complete(asked), 3, 0
    engine = Engine(decoder, slots=4, chunk=4, draft=depth)
    script = scripted(engine, plain, 0.4)._drafter
    proposed = script.propose

    def compare(running, last_B, position_B, longest):
        nonlocal seen
        drafts = engine._forward.draft(last_B, position_B, longest, depth)
        for row, sequence in enumerate(running):
            want = naive_drafts(decoder, [*sequence.request.prompt, *sequence.tokens], depth)
            assert drafts[row].tolist() == want
            seen += 1
        return proposed(running, last_B, position_B, longest)

    script.propose = compare
    engine.complete(asked)
    assert seen > 12


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", [{}, {"chunk": 13}, {"kv_tokens": 192, "prefix_tokens": 0}], ids=str)
def test_nor_on_whose_pages_it_stands_and_on_what_was_read_twice(path, how):
    decoder, depth = model(**(path | {"context": 160, "mtp": MtpSpec(window=40)})), 2
    stem = prompt(0, 100)
    asked = [Request(f"same{i}", stem[:64], 12 + i, seed=i) for i in range(3)]
    asked += [Request(f"like{i}", stem[: 32 * i] + prompt(i, 5), 8, seed=i) for i in range(4)]
    plain = Engine(decoder).complete(asked)
    engine = Engine(decoder, slots=3, draft=depth, **how)
    script, seen = scripted(engine, plain, 0.3)._drafter, 0
    proposed = script.propose

    def compare(running, last_B, position_B, longest):
        nonlocal seen
        drafts = engine._forward.draft(last_B, position_B, longest, depth)
        for row, sequence in enumerate(running):
            assert drafts[row].tolist() == naive_drafts(decoder, [*sequence.request.prompt, *sequence.tokens], depth)
            seen += 1
        return proposed(running, last_B, position_B, longest)

    script.propose = compare
    assert_same(engine.complete(asked), plain, path is NATIVE)
    stats = engine.stats()
    assert seen > 20 and stats["reused_tokens"] > 0 and bool(stats["preemptions"]) == ("kv_tokens" in how)


@torch.inference_mode()
def naive_drafts(decoder: Decoder, text: list[int], depth: int) -> list[int]:
    """Without any cache: the head over the whole text, then over its own drafts."""
    mtp, tokens = decoder.mtp, torch.tensor([text])
    entered = mtp.enter(decoder.hidden(tokens)[:, :-1], decoder.embedded(tokens[:, 1:]))
    drafts = []
    for _ in range(depth):
        rows = decoder.rows(torch.zeros(1, entered.shape[1], dtype=torch.int64))
        x = mtp.leave(block_forward(mtp.block, entered, rows.rot, rows.seen[mtp.block.layer.window])[0][:, -1:])
        drafts.append(int(decoder.logits(x)[0, -1].argmax()))
        entered = torch.cat((entered, mtp.enter(x, decoder.embedded(torch.tensor([[drafts[-1]]])))), 1)
    return drafts


@pytest.fixture(scope="module")
def counting() -> Decoder:
    """A model taught to count upwards in steps of 1 to 3, which its head foresees well."""
    torch.manual_seed(0)
    changes = {"vocab": 24, "window": 8, "layers": 2, "pattern": "LG", "mtp": MtpSpec(window=8)}
    decoder = Decoder(model(**(NATIVE | changes)).spec).init_weights(0)
    runner = Runner(decoder, torch.float32, compile=False, rows=32, mtp_loss=0.5)
    optimizer, gen = torch.optim.AdamW(decoder.parameters(), 3e-3), np.random.default_rng(0)
    for _ in range(120):
        steps, starts = gen.integers(1, 4, (32, 1)), gen.integers(0, 24, (32, 1))
        text = (starts + steps * np.arange(25)) % 24
        weights = np.full((32, 24), 1 / (32 * 24), np.float32)
        runner.backward(text[:, :-1], np.ones((32, 24), np.int32), text[:, 1:], weights)
        optimizer.step()
        optimizer.zero_grad()
    return decoder.requires_grad_(False)


@needs_compiler
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_head_that_foresees_well_saves_steps_and_changes_nothing(counting, temperature):
    asked = [
        Request(f"r{i}", [i % 24, (i + 1 + i % 3) % 24, (i + 2 * (1 + i % 3)) % 24], 40, temperature, seed=i)
        for i in range(12)
    ]
    plain = Engine(counting)
    want = plain.complete(asked)
    for draft in (1, 3):
        engine = Engine(counting, draft=draft)
        assert_same(engine.complete(asked), want, exact=True)
        assert engine.stats()["acceptance"] > 0.8
        assert engine.stats()["steps"] < plain.stats()["steps"] / (1 + 0.5 * draft)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_stops_limits_and_the_end_of_the_context_cut_inside_drafts(path, wrong):
    decoder = model(**(path | {"mtp": MtpSpec()}))
    free = Engine(decoder).complete(requests(12, max_tokens=60))
    asked = [
        Request(r.id, r.prompt, (60, 1, 5)[i % 3], r.temperature, r.top_p, r.top_k, r.seed, (free[i].tokens[i],))
        for i, r in enumerate(requests(12))
    ]
    asked.append(Request("long", prompt(50, 58), 40, seed=5))  # six places to the end of the context
    asked.append(Request("last", prompt(51, 63), 40, seed=5))
    plain = Engine(decoder).complete(asked)
    assert {a.finish for a in plain} == {"stop", "length"} and [len(a.tokens) for a in plain[-2:]] == [6, 1]
    engine = scripted(Engine(decoder, slots=6, draft=4), plain, wrong)
    assert_same(engine.complete(asked), plain, path is NATIVE)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_a_budget_forces_the_same_ids_at_the_same_places(path, wrong):
    decoder = model(**(path | {"mtp": MtpSpec()}))
    free, asked = Engine(decoder).complete(requests(16, max_tokens=25)), []
    for i, r in enumerate(requests(16)):
        own = free[i].tokens[3]  # some close the thought themselves, inside the budget or right at its end
        close = ((46, 47), (45, own), (44, 45, 46), (own,))[i % 4]
        settings = {"think_budget": (0, 6, 4, 3)[i // 4], "think_close": close, "stop": (46,) if i == 2 else ()}
        asked.append(Request(r.id, r.prompt, 25, r.temperature, r.top_p, r.top_k, r.seed, **settings))
    plain = Engine(decoder).complete(asked)
    assert {a.forced for a in plain} == {True, False}
    for draft in (1, 4):
        engine = scripted(Engine(decoder, slots=7, draft=draft), plain, wrong)
        assert_same(engine.complete(asked), plain, path is NATIVE)


@pytest.mark.parametrize("path", PATHS)
def test_answers_that_share_a_prompt_and_move_between_slots_go_on_as_they_would(path):
    decoder = model(**(path | {"mtp": MtpSpec(window=5)}))
    asked = [Request(f"r{i}", prompt(i % 3, 5 + 20 * (i % 3)), 4 + i, seed=i) for i in range(18)]
    plain = Engine(decoder).complete(asked)
    for slots in (18, 5):
        engine = scripted(Engine(decoder, slots=slots, draft=2), plain, 0.3)
        assert_same(engine.complete(asked), plain, path is NATIVE)


def test_events_come_in_order_also_several_a_step_and_an_abort_silences_the_rest():
    decoder = model(mtp=MtpSpec())
    asked = requests(7, max_tokens=21)
    plain = Engine(decoder).complete(asked)
    events = list(scripted(Engine(decoder, slots=3, draft=4), plain, 0.2).generate(asked))
    for a in plain:
        own = [e for e in events if e.id == a.id]
        assert [e.token for e in own] == a.tokens
        assert [e.finish for e in own] == [None] * (len(own) - 1) + [a.finish]
    engine, heard = scripted(Engine(decoder, slots=7, draft=4), plain, 0.0), []
    for event in engine.generate(asked):
        heard.append(event)
        if event.id == "r1" and sum(e.id == "r1" for e in heard) == 3:
            cut = engine.abort("r1")
    assert cut.finish == "abort" and cut.tokens == plain[1].tokens[: len(cut.tokens)]
    assert sum(e.id == "r1" for e in heard) == 3 and sum(e.id == "r2" for e in heard) == 21


def test_drafts_have_pages_and_the_head_a_layer_in_the_group_of_its_window():
    decoder = model(context=1000, mtp=MtpSpec(window=16))
    engine = Engine(decoder, slots=2, draft=3)
    cache = engine._forward.cache
    assert [group.window for group in cache.groups] == [8, None, 16] and cache.mtp.group is cache.groups[2]
    assert cache.layers[0].table.shape == (2, -(-1003 // PAGE))
    engine.submit(Request("a", prompt(0, 62), 5))
    engine.step()
    assert cache.covered(0) == 96  # the newest token stands at 62, its drafts up to 65
    shared = Engine(model(mtp=MtpSpec(window=8)), draft=1)._forward.cache
    assert len(shared.groups) == 2 and shared.mtp.table is shared.layers[0].table
    bare = Engine(decoder, slots=2)._forward.cache
    assert bare.mtp is None and bare.hidden is None


@pytest.mark.parametrize("path", PATHS)
def test_a_drafter_may_propose_less_than_it_could_or_nothing(path):
    decoder = model(**(path | {"mtp": MtpSpec()}))
    asked = requests(9)
    plain = Engine(decoder, slots=4).complete(asked)
    for wrong in (0.0, 0.4):
        engine = scripted(Engine(decoder, slots=4, draft=4), plain, wrong)
        whole, widths = engine._drafter.propose, itertools.cycle((4, 0, 2, 0, 0, 1, 3))
        engine._drafter.propose = lambda *asked, whole=whole, widths=widths: whole(*asked)[:, : next(widths)]
        assert_same(engine.complete(asked), plain, path is NATIVE)
        assert 0 < engine.stats()["drafted"] < 4 * engine.stats()["steps"] * 4


def test_bf16_drafts_run_and_tell_their_acceptance():
    decoder = model(mtp=MtpSpec())
    engine = Engine(decoder, dtype=torch.bfloat16, draft=2)
    assert all(a.tokens for a in engine.complete(requests(5)))
    stats = engine.stats()
    assert stats["drafted"] > 0 and stats["acceptance"] == stats["accepted"] / stats["drafted"]


@pytest.mark.parametrize("path", PATHS)
def test_look_up_needs_no_head_and_leaves_one_alone(path):
    asked = [Request(f"r{i}", prompt(i % 2, 4) * 6, 20, 0.8 * (i % 2), seed=i) for i in range(5)]
    for changes, drafter in (({}, None), ({"mtp": MtpSpec()}, "lookup")):
        decoder = model(**(path | changes))
        plain = Engine(decoder, slots=3).complete(asked)
        engine = Engine(decoder, slots=1, draft=3, drafter=drafter)
        assert engine._forward.cache.mtp is None
        assert_same(engine.complete(asked), plain, path is NATIVE)
        assert engine.stats()["drafted"] > 0


def test_a_model_without_the_head_and_a_negative_draft_are_refused():
    with pytest.raises(ConfigError, match="this one has none"):
        Engine(model(), draft=2, drafter="mtp")
    with pytest.raises(ConfigError, match="draft is -1"):
        Engine(model(mtp=MtpSpec()), draft=-1)
