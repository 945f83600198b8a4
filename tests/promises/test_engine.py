"""Promise: what an engine does besides, and how it does it, never changes an answer; and it loses nothing.

Reading in chunks, batch mates, prefix reuse, preemption and speculation; beside the plain decoder without any cache;
under random aborts: one end for every request, every page back in its pool, memory that does not grow.
"""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt

from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.kv import PAGE, Group
from dokja.model.decoder import Decoder
from dokja.model.spec import MtpSpec

LONG = {"context": 300, "window": 24, "mtp": MtpSpec(window=40)}
PATHS = [pytest.param({}, id="torch"), pytest.param(NATIVE, id="native", marks=needs_compiler)]
SHAPES = {
    "hybrid": {},
    "all global": {"pattern": "G", "window": None, "mtp": MtpSpec()},
    "a window a layer, pre norm": {"window": (0, 33, 3, 24), "norm": "pre"},
}
WISHES = [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 5}]


def requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts of up to 200 tokens, most of which begin like others, and of all sorts of lengths and wishes."""
    chance, made = random.Random(seed), []
    stems = [prompt(100 + i, 150) for i in range(3)]
    for i in range(count):
        ids = chance.choice(stems)[: chance.choice((0, 31, 32, 33, 64, 100, 150))] + prompt(i, chance.randrange(1, 50))
        made.append(Request(f"r{i}", ids, chance.randrange(1, 40), seed=i, **WISHES[i % 4]))
    return made


def settings() -> Iterator[dict[str, object]]:
    """Ways to serve the same requests."""
    yield {"slots": 1}
    yield {"slots": 20, "chunk": 7, "prefill_tokens": 20}
    yield {"slots": 4, "chunk": 33, "prefill_tokens": 64, "prefix_tokens": 0}
    yield {"slots": 12, "chunk": 50, "kv_tokens": 10 * PAGE, "prefix_tokens": 0}
    yield {"slots": 12, "chunk": 32, "kv_tokens": 12 * PAGE, "draft": 3}
    yield {"slots": 5, "chunk": 16, "draft": 1}
    yield {"slots": 7, "draft": 4, "drafter": "lookup", "kv_tokens": 9 * PAGE}


def assert_same(got: list[Completion], want: list[Completion], exact: bool) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a.id, a.tokens, a.finish) == (b.id, b.tokens, b.finish)
        assert a.logprobs == b.logprobs if exact else a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_no_way_of_serving_changes_a_token(path, shape):
    decoder, asked = model(**(path | LONG | shape)), requests(16)
    plain = [Engine(decoder, slots=1).complete([request])[0] for request in asked]
    seen = Counter()
    for how in settings():
        engine, order = Engine(decoder, **how), asked[:]
        random.Random(len(seen)).shuffle(order)
        answers = {answer.id: answer for answer in engine.complete(order)}
        assert_same([answers[request.id] for request in asked], plain, path is NATIVE)
        stats = engine.stats()
        for name in ("reused_tokens", "preemptions", "accepted"):
            seen[name] += stats[name]
        assert stats["pages"]["used"] == 0
    assert min(seen[name] for name in ("reused_tokens", "preemptions", "accepted")) > 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@torch.inference_mode()
def test_answers_are_those_of_the_decoder_without_any_cache(path, shape):
    decoder = model(**(path | LONG | shape))
    engine = Engine(decoder, slots=3, chunk=50, kv_tokens=12 * PAGE)
    asked = [Request(f"r{i}", prompt(i // 2, 90 + 40 * (i // 2)), 60, float(i % 2), seed=i) for i in range(6)]
    for request, answer in zip(asked, engine.complete(asked), strict=True):
        scores = decoder(torch.tensor([request.prompt + answer.tokens]))[0, len(request.prompt) - 1 : -1]
        logp = scores.log_softmax(-1)[range(len(answer.tokens)), answer.tokens]
        assert logp.tolist() == pytest.approx(answer.logprobs, abs=1e-4)
        if request.temperature == 0:
            assert scores.argmax(-1).tolist() == answer.tokens
    assert engine.stats()["preemptions"] > 0


def test_a_long_beginning_that_is_known_costs_under_a_twentieth():
    decoder = model(context=2200, window=64)
    engine, stem = Engine(decoder, slots=2), prompt(0, 2048)
    engine.complete([Request("first", stem + prompt(1, 30), 4)])
    before = engine.stats()["read_tokens"]
    answer = engine.complete([Request("second", stem + prompt(2, 30), 4)])[0]
    read = engine.stats()["read_tokens"] - before
    assert before == 2078 and read == 2078 - answer.cached_tokens == 30 < before / 20


# --- losing nothing -------------------------------------------------------------------------------------------


def users_by_table(group: Group) -> Counter:
    """How often each page stands in the table."""
    return Counter(group.table[group.table > 0].tolist())


def check_books(engine: Engine) -> None:
    """Every page is where the books say, and only there."""
    for group in engine._forward.cache.groups:
        pool, used = group.pool, users_by_table(group)
        free, unused = Counter(pool._free), Counter(list(pool._unused))
        assert {page: n for page, n in enumerate(pool._users[1:], 1) if n} == dict(used)
        assert max((*free.values(), *unused.values()), default=1) == 1
        assert set(free) | set(unused) | set(used) == set(range(1, pool.size + 1))
        assert len(free) + len(unused) + len(used) == pool.size
        assert not any(layer.kv[0].any() for layer in group.layers)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def storm(engine: Engine, count: int, seed: int, every: int, after: dict[int, int] | None = None) -> Counter:
    """Requests that come and are given up at random -> ends of each. `after` takes memory after so many requests."""
    chance, ends, alive = random.Random(seed), Counter(), []
    stems, submitted, steps = [prompt(i, 100) for i in range(4)], 0, 0
    longest = engine._context - 1
    while submitted < count or engine.busy:
        for _ in range(chance.randrange(6)):
            if submitted < count:
                ids = chance.choice(stems)[: chance.randrange(0, 100)] + prompt(submitted % 50, chance.randrange(1, 9))
                name = f"r{submitted}"
                engine.submit(Request(name, ids[:longest], chance.randrange(1, 25), seed=submitted, stop=(7,)))
                alive.append(name)
                submitted += 1
                if after is not None and submitted in after:
                    after[submitted] = resident()
        events = engine.step()
        for event in events:
            assert not ends[event.id], "something came after the end"
            ends[event.id] += event.finish is not None
        if chance.random() < 0.4 and alive:
            name = alive.pop(chance.randrange(len(alive)))
            cut = engine.abort(name)
            assert (cut is None) == bool(ends[name])
            ends[name] += cut is not None
        steps += 1
        if steps % every == 0:
            check_books(engine)
            alive = [name for name in alive if not ends[name]]
    check_books(engine)
    return ends


def build(path: dict[str, object], **changes: object) -> Decoder:
    return model(**(path | {"layers": 2, "pattern": "LG", "context": 140} | changes))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", [{}, {"kv_tokens": 256, "prefix_tokens": 0}, {"draft": 2, "kv_tokens": 320}], ids=str)
def test_every_request_ends_once_and_every_page_comes_back_under_random_aborts(path, how):
    decoder = build(path, window=24, **({"mtp": MtpSpec(window=10)} if "draft" in how else {}))
    engine = Engine(decoder, slots=6, chunk=20, prefill_tokens=50, **how)
    ends = storm(engine, 150, 1, 1)
    assert sorted(ends) == sorted(f"r{i}" for i in range(150)) and set(ends.values()) == {1}
    stats = engine.stats()
    assert stats["pages"]["used"] == stats["running"] == stats["waiting"] == stats["reading"] == 0
    assert bool(stats["preemptions"]) == bool(how)
    request = Request("after", prompt(1, 90), 20)
    assert engine.complete([request])[0].tokens == Engine(decoder).complete([request])[0].tokens


@needs_compiler
def test_memory_is_as_large_after_10000_requests_as_after_2000():
    engine = Engine(build(NATIVE, window=24), slots=16, chunk=64, prefix_tokens=1024, kv_tokens=1500)
    after = {2000: 0, 10_000: 0}
    ends = storm(engine, 10_000, 2, 500, after)
    assert len(ends) == 10_000 and set(ends.values()) == {1}
    assert engine.stats()["pages"]["used"] == 0
    assert after[10_000] - after[2000] < 4_000_000  # the ends are counted here
    local, everywhere = engine._forward.cache.groups
    assert everywhere.pool.size <= 1500 // PAGE
    assert local.pool.size <= 2 * (1024 // PAGE + 16 * 4)
