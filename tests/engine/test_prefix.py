"""What others have read is taken over: as much as possible, never what differs, and no answer is another for it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.kv import PAGE, Cache
from dokja.engine.pages import Pool
from dokja.engine.prefix import Names
from dokja.errors import ConfigError, DokjaError
from dokja.model.decoder import Decoder
from dokja.model.spec import MtpSpec, VisionSpec
from dokja.text.images import ImageConfig, Patches, patches, token_count

LONG = {"context": 400, "window": 40}
PATHS = [pytest.param({}, id="torch"), pytest.param(NATIVE, id="native", marks=needs_compiler)]
SHAPES = {
    "hybrid": {},
    "all global": {"pattern": "G", "window": None},
    "all local": {"pattern": "L", "window": 40},
    "a window a layer": {"window": (0, 33, 3, 70)},
    "head": {"mtp": MtpSpec(window=20)},
}


def ask(engine: Engine, ids: list[int], name: str = "a", **settings) -> Completion:
    return engine.complete([Request(name, ids, **({"max_tokens": 12, "seed": 3} | settings))])[0]


def cold(decoder: Decoder, ids: list[int], **settings) -> Completion:
    return ask(Engine(decoder, slots=1), ids, **settings)


def assert_same(got: Completion, want: Completion, exact: bool) -> None:
    assert got.tokens == want.tokens
    assert got.logprobs == want.logprobs if exact else got.logprobs == pytest.approx(want.logprobs, abs=1e-4)


# --- pages ------------------------------------------------------------------------------------------------------


def filled(keep: int = 0, limit: int | None = None, size: int = 4) -> Pool:
    pool = Pool(keep, limit)
    pool.grow(size)
    return pool


def test_a_page_has_one_owner_until_it_is_shared_and_comes_back_when_the_last_drops_it():
    pool = filled()
    pages = [pool.take() for _ in range(4)]
    assert sorted(pages) == [1, 2, 3, 4] and pool.take() == 0
    pool.share(pages[0])
    pool.drop(pages[0])
    assert pool.take() == 0
    pool.drop(pages[0])
    assert pool.take() == pages[0]


def test_what_is_known_waits_for_its_like_and_the_longest_unused_goes_first():
    pool = filled()
    pages = [pool.take() for _ in range(4)]
    for page, name in zip(pages, (b"a", b"b", b"c"), strict=False):
        pool.tell(page, name)
    for page in (pages[1], pages[0], pages[2]):
        pool.drop(page)
    assert (pool.used, pool.cached) == (1, 3)
    assert pool.find(b"b") == pages[1] and pool.find(b"x") == 0
    pool.share(pages[1])  # used again: the others have been unused for longer
    pool.drop(pages[1])
    assert [pool.take(), pool.take(), pool.take(), pool.take()] == [pages[0], pages[2], pages[1], 0]
    assert not any(map(pool.find, (b"a", b"b", b"c")))


def test_a_name_stands_for_one_page_and_a_page_has_one_name():
    pool = filled()
    first, second = pool.take(), pool.take()
    pool.tell(first, b"a")
    pool.tell(second, b"a")
    pool.tell(first, b"b")
    assert pool.find(b"a") == first and pool.find(b"b") == 0
    pool.drop(second)
    assert pool.cached == 0


def test_a_pool_grows_for_what_is_in_use_and_for_what_it_was_told_to_keep():
    pool = filled(keep=2, size=4)
    for name in (b"a", b"b", b"c"):
        page = pool.take()
        pool.tell(page, name)
        pool.drop(page)
    assert pool.wanted() == 4  # one is free
    pool.take()
    assert pool.wanted() == 4  # three are kept for nobody: one more than need be
    pool.take()
    assert pool.wanted() == 16
    assert replace_limit(pool, 5) == 5 and replace_limit(pool, 4) == 4


def replace_limit(pool: Pool, limit: int) -> int:
    pool.limit = limit
    return pool.wanted()


def test_forgetting_frees_what_is_unused_and_leaves_what_is_used():
    pool = filled()
    kept, dropped = pool.take(), pool.take()
    pool.tell(kept, b"a")
    pool.tell(dropped, b"b")
    pool.drop(dropped)
    pool.forget()
    assert (pool.used, pool.cached) == (1, 0) and not pool.find(b"a") and not pool.find(b"b")
    pool.drop(kept)
    assert pool.cached == 0 and sorted(pool.take() for _ in range(5)) == [0, 1, 2, 3, 4]


# --- names ------------------------------------------------------------------------------------------------------

ids = st.lists(st.integers(0, 3), min_size=0, max_size=4 * PAGE)


@settings(max_examples=60, deadline=None)
@given(ids, ids, st.integers(0, 4 * PAGE), st.booleans())
def test_pages_have_one_name_exactly_where_the_texts_are_equal_up_to_them(a, b, shared, head):
    b = a[:shared] + b
    names = [Names(head).of(text, (len(text) - head) // PAGE) for text in (a, b)]
    for page, (one, other) in enumerate(zip(*names, strict=False)):
        end = (page + 1) * PAGE + head
        assert (one == other) == (a[:end] == b[:end])


def test_names_are_the_same_whether_asked_for_at_once_or_as_the_text_grows():
    text, names = prompt(0, 200), Names(True)
    for length in (10, 33, 34, 100, 199):
        names.of(text[:length], names.known(length))
    copied = names.copy()
    assert names.of(text, 6) == copied.of(text, 6) == Names(True).of(text, 6)
    assert [Names(True).known(n) for n in (0, 32, 33, 64, 65)] == [0, 0, 1, 1, 2]
    assert [Names(False).known(n) for n in (0, 31, 32, 64)] == [0, 0, 1, 2]


# --- taking over ------------------------------------------------------------------------------------------------


def told(cache: Cache, length: int) -> list[bytes]:
    """Row 0 reads a text of `length` tokens and makes it known -> names."""
    names = Names(False).of(prompt(0, length), length // PAGE)
    for stop in range(0, length + 1, 16):
        cache.trim(0, stop)
        assert cache.cover(0, min(stop + 16, length))
        cache.tell(0, names[: stop // PAGE])
    return names


def test_the_longest_run_is_taken_over_and_local_layers_need_their_window_only():
    cache = Cache(spec(**LONG), 3, torch.float32, "cpu", keep=1000)
    names = told(cache, 320)
    assert cache.adopt(1, [*names[:7], b"other", *names[8:]]) == 7
    local, everywhere = cache.groups
    assert (everywhere.first[1], everywhere.end[1]) == (0, 7) and (local.first[1], local.end[1]) == (5, 7)
    assert cache.adopt(2, [b"other", *names]) == 0
    assert not local.table[2].any()
    cache.release(0)
    cache.release(1)
    assert cache.pages()["used"] == 0


def test_where_a_local_layer_has_lost_its_window_a_shorter_run_is_taken():
    cache = Cache(spec(**LONG), 2, torch.float32, "cpu", keep=1000)
    names = told(cache, 320)
    cache.release(0)
    local = cache.groups[0].pool
    for lost in (9, 8):  # needed behind 10 pages, and behind 9 and 10
        pages = [local.find(name) for name in names]
        local.share(pages[lost])
        del local._known[names[lost]]
    assert cache.adopt(1, names) == 8


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("shape", "draft"), [*((name, 0) for name in SHAPES), ("head", 2)])
def test_answers_are_the_same_wherever_the_reused_beginning_ends(path, shape, draft):
    decoder = model(**(path | LONG | SHAPES[shape]))
    engine = Engine(decoder, slots=2, chunk=50, draft=draft)
    text = prompt(1, 200)
    ask(engine, text)
    for shared in (31, 32, 33, 64, 65, 100, 160, 191, 192, 199, 200):
        ids = text[:shared] + [(t + 1) % 48 for t in prompt(2, 20)]
        answer = ask(engine, ids)
        # what the head keeps at a page's end belongs to the token behind it
        assert answer.cached_tokens == (shared - (draft > 0)) // PAGE * PAGE
        assert_same(answer, cold(decoder, ids), path is NATIVE)
    assert ask(engine, text).cached_tokens == 192
    assert engine.stats()["pages"]["used"] == 0


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_reused_in_the_next_turn_and_prompts_by_those_that_come_while_they_are_at_work(path):
    decoder = model(**(path | LONG))
    engine = Engine(decoder, slots=4)
    first = ask(engine, prompt(0, 90), max_tokens=60)
    turn = prompt(0, 90) + first.tokens + prompt(3, 9)
    second = ask(engine, turn)
    assert second.cached_tokens == 128  # of 150, the last of which was never read
    assert_same(second, cold(decoder, turn), path is NATIVE)
    engine.submit(Request("running", prompt(5, 70), 100))
    engine.step()
    engine.submit(Request("later", prompt(5, 70)[:65], 5, seed=3))
    done: list[Completion] = []
    while not done:
        engine.step(done)
    assert done[0].cached_tokens == 64
    assert_same(done[0], cold(decoder, prompt(5, 70)[:65], max_tokens=5), path is NATIVE)


@pytest.mark.parametrize("path", PATHS)
def test_equal_prompts_share_full_pages_and_copy_the_last(path):
    for head in ({}, {"mtp": MtpSpec()}):
        decoder = model(**(path | LONG | head | {"pattern": "G", "window": None}))
        for length in (64, 65, 95, 96):
            engine = Engine(decoder, slots=8, draft=2 * bool(head))
            asked = [Request(f"r{i}", prompt(0, length), 6, seed=i) for i in range(8)]
            for r in asked:
                engine.submit(r)
            done: list[Completion] = []
            engine.step(done)
            shared = (length - bool(head)) // PAGE
            # one page each, or two where drafts reach into the next
            assert shared + 8 <= engine.stats()["pages"]["used"] <= shared + 16
            assert engine.stats()["read_tokens"] == length
            while engine.busy:
                engine.step(done)
            for answer in done:
                want = cold(decoder, prompt(0, length), seed=int(answer.id[1:]), max_tokens=6)
                assert_same(answer, want, path is NATIVE)
            assert engine.stats()["pages"]["used"] == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("learns", [True, False])
def test_nothing_is_reused_after_the_weights_have_changed(path, learns):
    decoder = model(**(path | LONG)).requires_grad_(learns)
    engine, text = Engine(decoder, slots=2), prompt(1, 100)
    ask(engine, text)
    with torch.no_grad():
        torch._foreach_mul_([b.qkv_weight for b in decoder.blocks], 0.7)
    again = ask(engine, text)
    assert again.cached_tokens == 0
    assert_same(again, cold(decoder, text), path is NATIVE)
    assert (ask(engine, text).cached_tokens == 0) == learns  # parameters that are trained cannot say that they were not
    engine.take_weights(model(7, **(path | LONG)))
    again = ask(engine, text)
    assert again.cached_tokens == 0
    assert_same(again, cold(model(7, **(path | LONG)), text), path is NATIVE)


def test_a_private_copy_of_weights_in_training_is_known_not_to_change():
    decoder = model(**LONG).requires_grad_()
    engine, text = Engine(decoder, slots=2, dtype=torch.bfloat16), prompt(1, 100)
    ask(engine, text)
    assert ask(engine, text).cached_tokens == 96
    engine.take_weights(decoder)
    assert ask(engine, text).cached_tokens == 0


@pytest.mark.parametrize("changes", [{}, {"clamp": (0.0, 0.5, 0.0, 0.5)}, {"mtp": MtpSpec()}], ids=str)
@pytest.mark.parametrize("bits", ["bf16", "int8"])
def test_weights_in_few_bits_reuse_and_forget_as_well(changes, bits):
    shape = LONG | changes | {"width": 64, "head_dim": 16, "ffn": 96}
    engine, text = Engine(model(**shape), slots=2, weights=bits), prompt(1, 100)
    first = ask(engine, text)
    again = ask(engine, text)
    assert again.cached_tokens == 96 and again.tokens == first.tokens
    engine.take_weights(model(5, **shape))
    changed = ask(engine, text)
    assert changed.cached_tokens == 0 and changed.tokens != first.tokens
    assert changed.tokens == ask(Engine(model(5, **shape), slots=1, weights=bits), text).tokens


@pytest.mark.parametrize(("keep", "reused"), [(0, 0), (2000, 96)])
def test_prefix_tokens_are_kept_however_much_else_is_read(keep, reused):
    engine = Engine(model(**LONG), slots=1, prefix_tokens=keep)
    ask(engine, prompt(0, 100))
    for i in range(1, 10):
        ask(engine, prompt(i, 150))
    assert ask(engine, prompt(0, 100)).cached_tokens == reused


# --- images -----------------------------------------------------------------------------------------------------

TOKEN = 11
VISION = VisionSpec(layers=2, width=32, heads=4, kv_heads=2, ffn=48, full=(1,), image_token=TOKEN, patch=4, window=16)
SEEING = {"vision": VISION, "mtp": MtpSpec()} | LONG


def picture(height: int, width: int, seed: int = 0) -> Patches:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return patches(pixels, ImageConfig.of(VISION, min_pixels=64))


def text_of(*parts: int | Patches) -> list[int]:
    """Random text of these lengths, and the places of images."""
    out: list[int] = []
    for i, part in enumerate(parts):
        if isinstance(part, Patches):
            out += [TOKEN] * token_count(part.grid, VISION.merge)
        else:
            out += [t if t != TOKEN else 12 for t in prompt(i, part)]
    return out


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("draft", [0, 1])
@pytest.mark.parametrize("chunk", [7, 512])
def test_prompts_with_images_reuse_what_shows_the_same_and_nothing_else(path, draft, chunk):
    decoder = model(**(path | SEEING))
    one, other, small = picture(72, 72), picture(72, 72, 1), picture(16, 16)  # 81, 81 and 4 tokens
    engine = Engine(decoder, slots=3, draft=draft, chunk=chunk)
    parts: list[tuple[tuple[int | Patches, ...], int]] = [
        ((20, one, 9, small, 30), 0),
        ((20, one, 9, small, 30), 128),  # 144 tokens
        ((20, other, 9, small, 30), 0),
        ((20, one, 9, picture(16, 16, 5), 30), 96),  # the second image lies in the fourth page
        ((20, one, 40), 96),
        ((20, one, 2), 96),  # 103: the border lies in the image
        ((20, one), 96),
    ]
    for number, (row, reused) in enumerate(parts):
        shown = tuple(part for part in row if isinstance(part, Patches))
        answer = ask(engine, text_of(*row), images=shown)
        assert answer.cached_tokens == reused, number
        assert_same(answer, cold(decoder, text_of(*row), images=shown), exact=False)
    assert engine.stats()["pages"]["used"] == 0


def test_names_tell_images_apart_and_in_their_order():
    images = [picture(16, 16, i) for i in range(12)]
    text = text_of(5, *images, 40)

    def names(*shown: int) -> list[bytes]:
        return Names(False, [images[i] for i in shown], TOKEN, VISION.merge).of(text, 2)

    plain = names(*range(12))
    assert plain != Names(False).of(text, 2)
    for changed, first in (([1, 0, *range(2, 12)], 0), ([*range(11), 0], 1), ([*range(10), 11, 10], 1)):
        different = [a != b for a, b in zip(plain, names(*changed), strict=True)]
        assert different == [page >= first for page in range(2)]


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("draft", [0, 2])
def test_answers_that_were_put_back_for_lack_of_pages_go_on_with_the_same_tokens(path, draft):
    decoder = model(**(path | LONG | {"mtp": MtpSpec(window=20)}))
    asked = [
        Request(f"r{i}", prompt(i // 2, 20 + 13 * (i // 2)), 40 + 9 * i, seed=i, temperature=i % 2) for i in range(10)
    ]
    plain = Engine(decoder, slots=10).complete(asked)
    for tokens, prefix in ((320, 0), (224, 8192)):
        engine = Engine(decoder, slots=10, chunk=30, draft=draft, kv_tokens=tokens, prefix_tokens=prefix)
        most = 0
        for answer in asked:
            engine.submit(answer)
        done: list[Completion] = []
        while engine.busy:
            engine.step(done)
            everywhere = next(g for g in engine._forward.cache.groups if g.window is None)
            most = max(most, everywhere.pool.size)
        assert engine.stats()["preemptions"] > 0 and most <= tokens // PAGE
        for a, b in zip(sorted(done, key=lambda c: c.id), plain, strict=True):
            assert_same(a, b, path is NATIVE)
        assert engine.stats()["pages"]["used"] == 0


def test_what_a_limited_cache_can_never_hold_is_refused_and_the_rest_ends_with_its_length():
    engine = Engine(model(**LONG), slots=3, kv_tokens=100)
    with pytest.raises(DokjaError, match=r"kv_tokens.*of 96 must hold"):
        engine.submit(Request("a", prompt(0, 96), 4))
    answers = engine.complete([Request(str(i), prompt(i, 80), 100) for i in range(3)])
    assert [(len(a.tokens), a.finish) for a in answers] == [(16, "length")] * 3
    with pytest.raises(ConfigError, match="kv_tokens is 20"):
        Engine(model(), kv_tokens=20)
    assert Engine(model(**(LONG | {"pattern": "L"})), kv_tokens=32).complete([Request("a", prompt(0, 90), 4)])


def test_a_long_prompt_is_read_beside_running_answers_and_stops_none_of_them():
    decoder = model(context=2000)
    engine = Engine(decoder, slots=3, chunk=64, prefill_tokens=64)
    for i in range(2):
        engine.submit(Request(f"r{i}", prompt(i, 9), 50, seed=i))
    engine.step()
    engine.submit(Request("long", prompt(9, 640), 3))
    for _ in range(9):
        events = engine.step()
        assert {e.id for e in events} == {"r0", "r1"} and engine.stats()["reading"] == 1
    assert {e.id for e in engine.step()} == {"r0", "r1", "long"}


def test_an_abort_frees_pages_at_once_in_every_state_and_followers_go_on():
    decoder = model(**LONG)
    engine = Engine(decoder, slots=4, chunk=20, prefill_tokens=20, prefix_tokens=0)
    pages = lambda: engine.stats()["pages"]["used"]  # noqa: E731
    for i in range(6):
        engine.submit(Request(f"r{i}", prompt(0, 100), 5, seed=i))
    engine.step()
    assert engine.stats()["reading"] == 4 and engine.stats()["waiting"] == 2
    before = pages()
    assert engine.abort("r0").tokens == [] and pages() == before  # r1 takes it over
    engine.abort("r5")  # waiting
    engine.abort("r2")  # following
    engine.step()
    assert engine.stats()["read_tokens"] == 40
    done: list[Completion] = []
    while not done:
        engine.step(done)
    engine.abort("r3")  # running or done
    while engine.busy:
        engine.step(done)
    for answer in done:
        assert_same(answer, cold(decoder, prompt(0, 100), seed=int(answer.id[1:]), max_tokens=5), False)
    assert {"r1", "r4"} <= {answer.id for answer in done} and pages() == 0
    engine.submit(Request("alone", prompt(1, 100), 5))
    engine.step()
    assert pages() > 0
    engine.abort("alone")
    assert pages() == 0 and not engine.busy


def test_nothing_of_a_prompt_whose_scores_were_no_numbers_reaches_another():
    decoder = model(**LONG)
    engine = Engine(decoder, slots=2)
    want = ask(engine, prompt(0, 70)).tokens
    good = decoder.embed[7].clone()
    with torch.no_grad():
        decoder.embed[7] = float("nan")
        try:
            with pytest.raises(DokjaError, match="not finite"):
                ask(engine, [7] * 70)
        finally:
            decoder.embed[7] = good
    for ids in ([7] * 70, prompt(0, 70)):
        answer = ask(engine, ids)
        assert answer.cached_tokens == 0
        assert_same(answer, cold(decoder, ids), False)
    assert answer.tokens == want


def test_every_wish_is_answered_the_same_with_reuse_and_without():
    decoder = model(**LONG)
    engine = Engine(decoder, slots=3)
    wishes = [
        {"temperature": 0.0},
        {"top_p": 0.9},
        {"top_k": 4},
        {"presence_penalty": 1.0},
        {"repetition_penalty": 1.3},
    ]
    for i, wish in enumerate(itertools.chain(wishes, wishes)):
        answer = ask(engine, prompt(0, 90), seed=i, **wish)
        assert answer.cached_tokens == (64 if i else 0)
        assert_same(answer, cold(decoder, prompt(0, 90), seed=i, **wish), False)
    assert replace(answer, cached_tokens=0).finish == "length"
