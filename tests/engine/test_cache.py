"""Cached decode == full forward: any prompt length, chunk, batch mates and shape."""

import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt, spec

from dokja.engine.forward import Forward
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
}


@torch.inference_mode()
def cached(decoder: Decoder, texts: list[list[int]], steps: int, chunk: int) -> list[torch.Tensor]:
    """Scores after every token from the prompt's last on, for texts fed token by token; longest prompt first."""
    forward = Forward(decoder, len(texts) + 1, torch.float32, "cpu", chunk)
    prompts = [t[:-steps] for t in texts]
    rows = [[scores] for scores in forward.prefill(0, prompts)]
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
        alone.prefill(0, [t[:-3] for t in texts])
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


def test_a_sequence_goes_on_after_moving_to_another_slot():
    decoder = model()
    texts = [prompt(0, 30), prompt(1, 20)]
    with torch.inference_mode():
        forward = Forward(decoder, 3, torch.float32, "cpu", 7)
        forward.prefill(0, [t[:-1] for t in texts])
        forward.cache.move(1, 0, len(texts[1]) - 1)
        scores = forward.decode(torch.tensor(texts[1][-1:]), torch.tensor([19]), 20)[0]
    assert torch.allclose(scores, decoder(torch.tensor([texts[1]]))[0, -1], atol=1e-5)


def test_a_slot_keeps_nothing_of_its_former_sequence():
    decoder = model()
    with torch.inference_mode():
        forward = Forward(decoder, 2, torch.float32, "cpu", 64)
        forward.prefill(0, [prompt(0, 50), prompt(1, 30)])
        text = prompt(2, 5)
        forward.prefill(0, [text[:3]])
        for i in (3, 4):
            scores = forward.decode(torch.tensor([text[i]]), torch.tensor([i]), i + 1)[0]
    assert torch.allclose(scores, decoder(torch.tensor([text]))[0, -1], atol=1e-5)


def test_bf16_cache_stays_close_to_the_full_bf16_forward():
    decoder = model()
    text = prompt(0, 40)
    with torch.inference_mode():
        forward = Forward(decoder, 1, torch.bfloat16, "cpu", 16)
        assert forward.cache.layers[0].kv.dtype == torch.bfloat16
        forward.prefill(0, [text[:30]])
        for i in range(30, 40):
            scores = forward.decode(torch.tensor([text[i]]), torch.tensor([i]), i + 1)[0]
    full = decoder(torch.tensor([text]))[0, -1]
    assert (scores - full).abs().max() < 0.05 * full.std() + 0.1
    assert decoder.embed.dtype == torch.float32  # the caller's model is left as it was


def test_a_local_layer_holds_its_window_and_a_global_one_what_is_needed():
    forward = Forward(model(context=1000), 2, torch.float32, "cpu", 64)
    assert [layer.capacity for layer in forward.cache.layers] == [8, 8, 8, 64]
    forward.cache.reserve(65)
    assert [layer.capacity for layer in forward.cache.layers] == [8, 8, 8, 128]
    assert spec().layer_pattern == "LLLG"
