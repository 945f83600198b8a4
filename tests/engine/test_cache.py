"""Cached decode == full forward: any prompt length, chunk, batch mates and shape."""

import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt, spec

from dokja.engine.forward import Chunk, Forward
from dokja.engine.kv import PAGE, Cache
from dokja.model.decoder import Decoder

SHAPES = {
    "post swiglu LLLG": {},
    "pre": {"norm": "pre"},
    "relu2 tied": {"activation": "relu2", "tied": True},
    "rope everywhere": {"rope": "all"},
    "all global": {"pattern": "G", "window": None},
    "LG, window 1": {"pattern": "LG", "window": 1},
    "all local": {"pattern": "L", "layers": 2, "window": 16},
    "no qk norm, no sharing": {"qk_norm": False, "kv_heads": 4},
    "window wider than context": {"window": 100},
    "a window a layer": {"window": (0, 16, 3, 33)},
    "biases on q, k and v": {
        "norm": "pre",
        "qk_norm": False,
        "rope": "all",
        "pattern": "G",
        "window": None,
        "qkv_bias": True,
    },
}
BOTH = [pytest.param(model(), id="torch"), pytest.param(model(**NATIVE), id="native", marks=needs_compiler)]


@torch.inference_mode()
def cached(decoder: Decoder, texts: list[list[int]], steps: int, chunk: int) -> list[torch.Tensor]:
    """Scores after every token from the prompt's last on, for texts fed token by token; longest prompt first."""
    forward = Forward(decoder, len(texts) + 1, torch.float32, "cpu", chunk)
    prompts = [t[:-steps] for t in texts]
    rows = [[scores] for scores in forward.prefill(0, prompts, room=steps)]
    for step in range(steps):
        tokens = torch.tensor([t[len(p) + step] for t, p in zip(texts, prompts, strict=True)])
        position = torch.tensor([len(p) + step for p in prompts])
        for row, scores in zip(rows, forward.decode(tokens, position, len(prompts[0]) + step + 1), strict=True):
            row.append(scores)
    return [torch.stack(row) for row in rows]


def assert_equal_to_full(decoder: Decoder, texts: list[list[int]], steps: int, chunk: int) -> None:
    for text, scores in zip(texts, cached(decoder, texts, steps, chunk), strict=True):
        full = decoder(torch.tensor([text]))[0, -steps - 1 :]
        atol = 1e-5 * max(1.0, float(full.std()))
        assert torch.allclose(scores, full, atol=atol, rtol=1e-5), (scores - full).abs().max()


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_native_path_equals_the_full_forward_for_every_shape(shape):
    decoder = model(**(NATIVE | shape))
    assert Forward(decoder, 1, torch.float32, "cpu", 1)._native is not None
    texts = [prompt(i, n + 20) for i, n in enumerate([37, 30, 23, 9, 8, 7, 1] + [5] * 50)]
    assert_equal_to_full(decoder, sorted(texts, key=len, reverse=True), 20, 64)


@needs_compiler
@pytest.mark.parametrize("head_dim", [16, 32, 48, 64, 80, 96, 128])
def test_the_native_path_serves_every_head_width(head_dim):
    assert_equal_to_full(model(**(NATIVE | {"head_dim": head_dim})), [prompt(0, 40), prompt(1, 20)], 10, 64)


@needs_compiler
@torch.inference_mode()
def test_native_scores_do_not_depend_by_a_bit_on_mates_chunks_or_threads():
    decoder, texts = model(**NATIVE), [prompt(i, 45 - i % 9) for i in range(60)]
    texts.sort(key=len, reverse=True)
    together = Forward(decoder, 60, torch.float32, "cpu", 64).prefill(0, texts)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        alone = Forward(decoder, 60, torch.float32, "cpu", 64)
        alone.prefill(0, [t[:-3] for t in texts], room=3)
        for left in (3, 2, 1):
            position = torch.tensor([len(t) - left for t in texts])
            scores = alone.decode(torch.tensor([t[-left] for t in texts]), position, 45)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(scores, together)


@needs_compiler
@pytest.mark.parametrize("fused", [True, False])
def test_the_native_path_sees_what_an_optimiser_changes(fused):
    decoder = model(**NATIVE).requires_grad_()
    forward = Forward(decoder, 1, torch.float32, "cpu", 64)
    text = prompt(0, 20)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            return forward.prefill(0, [text])[0], decoder(torch.tensor([text]))[0, -1]

    before, _ = both()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=0.01, fused=fused)
    decoder(torch.tensor([text])).square().sum().backward()
    optimizer.step()
    after, full = both()
    assert torch.allclose(after, full, atol=1e-4) and not torch.allclose(after, before, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("chunk", [3, 8, 64])
def test_cached_decode_equals_the_full_forward_for_every_shape(shape, chunk):
    decoder = model(**shape)
    texts = [prompt(i, n + 20) for i, n in enumerate([37, 23, 9, 8, 7, 1])]
    assert_equal_to_full(decoder, texts, 20, chunk)


@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 9, 13])
@pytest.mark.parametrize("length", [6, 7, 8, 9, 15, 16, 17, 40])
def test_no_chunk_size_changes_a_prompt_around_the_window(length, chunk):
    assert_equal_to_full(model(), [prompt(0, length + 3)], 3, chunk)


def test_global_layers_grow_past_their_first_bucket_up_to_the_context():
    decoder = model(context=200)
    texts = [prompt(0, 200), prompt(1, 160)]
    assert_equal_to_full(decoder, texts, 150, 64)


@pytest.mark.parametrize("decoder", BOTH)
@torch.inference_mode()
def test_running_sequences_lie_in_any_rows_in_any_order(decoder):
    texts = [prompt(i, n) for i, n in enumerate((30, 20, 40, 9))]
    forward = Forward(decoder, 4, torch.float32, "cpu", 7)
    forward.prefill(0, [t[:-1] for t in texts], room=1)
    order = [2, 0, 3]
    forward.rows[:3] = torch.tensor(order)
    tokens, position = (torch.tensor([f(texts[i]) for i in order]) for f in (lambda t: t[-1], lambda t: len(t) - 1))
    for i, scores in zip(order, forward.decode(tokens, position, 40), strict=True):
        assert torch.allclose(scores, decoder(torch.tensor([texts[i]]))[0, -1], atol=1e-4)


@pytest.mark.parametrize("decoder", BOTH)
@torch.inference_mode()
def test_a_row_keeps_nothing_of_its_former_sequence(decoder):
    forward = Forward(decoder, 2, torch.float32, "cpu", 64)
    forward.prefill(0, [prompt(0, 50), prompt(1, 30)])
    text = prompt(2, 5)
    forward.prefill(0, [text[:3]], room=2)
    for i in (3, 4):
        scores = forward.decode(torch.tensor([text[i]]), torch.tensor([i]), i + 1)[0]
    assert torch.allclose(scores, decoder(torch.tensor([text]))[0, -1], atol=1e-4)


@pytest.mark.parametrize("decoder", BOTH)
@pytest.mark.parametrize("chunk", [1, 5, 32, 33, 64])
@torch.inference_mode()
def test_chunks_of_many_texts_at_different_places_go_together(decoder, chunk):
    texts = [prompt(i, n) for i, n in enumerate((60, 33, 32, 31, 7, 1))]
    forward = Forward(decoder, 6, torch.float32, "cpu", 64)
    at, got = [0] * 6, {}
    while min(a - len(t) for a, t in zip(at, texts, strict=True)) < 0:
        chunks = []
        for row, text in enumerate(texts):
            size = (row * 7 + at[row]) % chunk + 1  # each goes on by another length
            if at[row] < len(text):
                chunks.append(Chunk(row, text, at[row], min(at[row] + size, len(text))))
                forward.cache.trim(row, at[row])
                assert forward.cache.cover(row, chunks[-1].stop)
                at[row] = chunks[-1].stop
        ended = [c.row for c in chunks if c.stop == len(c.text)]
        got |= dict(zip(ended, forward.read(chunks), strict=True))
    for row, text in enumerate(texts):
        assert torch.allclose(got[row], decoder(torch.tensor([text]))[0, -1], atol=1e-4)


def test_bf16_cache_stays_close_to_the_full_bf16_forward():
    decoder = model()
    text = prompt(0, 40)
    with torch.inference_mode():
        forward = Forward(decoder, 1, torch.bfloat16, "cpu", 16)
        assert forward.cache.layers[0].kv.dtype == torch.bfloat16
        forward.prefill(0, [text[:30]], room=10)
        for i in range(30, 40):
            scores = forward.decode(torch.tensor([text[i]]), torch.tensor([i]), i + 1)[0]
    full = decoder(torch.tensor([text]))[0, -1]
    assert (scores - full).abs().max() < 0.05 * full.std() + 0.1
    assert decoder.embed.dtype == torch.float32  # the caller's model is left as it was


def test_a_local_layer_holds_its_window_and_a_global_one_everything():
    decoder = model(context=1000, window=40)
    forward = Forward(decoder, 2, torch.float32, "cpu", 64)
    with torch.inference_mode():
        forward.prefill(1, [prompt(0, 500)])
    local, everywhere = forward.cache.groups
    assert [layer.window for layer in forward.cache.layers] == [40, 40, 40, None]
    assert everywhere.pool.used == 16
    assert local.pool.used <= -(-(40 + 64) // PAGE) + 2
    assert local.pool.used == (local.table != 0).sum() and not local.table[0].any()
    forward.cache.trim(1, 500)
    assert local.table[1].nonzero()[:, 0].tolist() == [14, 15] and local.pool.used == 2  # positions 460 to 499
    forward.cache.release(1)
    assert forward.cache.pages()["used"] == 0 and not local.table.any() and not everywhere.table.any()


def test_layers_of_one_window_share_a_table_and_pages_are_given_once():
    cache = Cache(spec(window=(0, 16, 5, 16)), 3, torch.float32, "cpu")
    assert [layer.window for layer in cache.layers] == [None, 16, 5, 16]
    assert cache.layers[1].table is cache.layers[3].table and len(cache.groups) == 3
    addresses = [layer.table.data_ptr() for layer in cache.layers]
    assert all(cache.cover(row, 64) for row in range(3))
    for layer in cache.layers:
        pages = layer.table[layer.table > 0].tolist()
        assert len(set(pages)) == len(pages) == 6 and layer.kv.shape[1:] == (2, 2, PAGE, 8) and len(layer.kv) > 6
    assert addresses == [layer.table.data_ptr() for layer in cache.layers]


@torch.inference_mode()
def test_pools_grow_by_doubling_and_keep_what_they_hold():
    cache = Cache(spec(context=4000), 2, torch.float32, "cpu")
    assert cache.cover(0, 32)
    layer, sizes = cache.layers[-1], []
    layer.kv[layer.table[0, 0]] = 7.0
    for stop in range(64, 4000, 32):
        assert cache.cover(0, stop)
        sizes.append(len(layer.kv) - 1)
    assert sorted(set(sizes)) == [16, 32, 64, 128]
    assert (layer.kv[layer.table[0, 0]] == 7.0).all() and not layer.kv[0].any()


def test_a_limited_cache_says_when_it_is_full_and_local_layers_need_no_limit():
    cache = Cache(spec(context=1000), 4, torch.float32, "cpu", tokens=128)
    assert cache.cover(0, 64) and cache.cover(1, 64) and cache.spare == 0
    assert not cache.cover(2, 1)
    cache.release(2)
    cache.release(0)
    assert cache.spare == 2 and cache.cover(2, 64)
    assert Cache(spec(pattern="L", layers=2), 1, torch.float32, "cpu", tokens=32).spare is None
