"""Prompts with images: cached == full forward wherever chunks cut them, in groups, beside mates without any."""

import dataclasses

import numpy as np
import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt, wish

from dokja.engine.answers import encode_prompt
from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.forward import Forward
from dokja.engine.sampler import Sampler
from dokja.errors import ConfigError, DataError, DokjaError
from dokja.model.spec import VisionSpec
from dokja.model.vision import Images
from dokja.text.chat import IMAGE, Message, render
from dokja.text.images import ImageConfig, Patches, patches, token_count
from dokja.text.tokenizer import train_tokenizer

TOKEN = 11
VISION = VisionSpec(layers=2, width=32, heads=4, kv_heads=2, ffn=48, full=(1,), image_token=TOKEN, patch=4, window=16)
CONFIG = ImageConfig.of(VISION, min_pixels=64)
TORCH, CPP = model(vision=VISION), model(**NATIVE, vision=VISION)
BOTH = pytest.mark.parametrize("decoder", [TORCH, pytest.param(CPP, marks=needs_compiler)], ids=["torch", "native"])


def picture(height: int, width: int, seed: int = 0) -> Patches:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return patches(pixels, CONFIG)


SMALL, WIDE = picture(16, 16), picture(24, 40)  # 4 and 15 tokens; the second's windows are cut


def text(*parts: int | Patches) -> list[int]:
    """Ids: numbers are lengths of random text without the image token, images their places."""
    ids = []
    for i, part in enumerate(parts):
        if isinstance(part, Patches):
            ids += [TOKEN] * token_count(part.grid, VISION.merge)
        else:
            ids += [t if t != TOKEN else 12 for t in prompt(i, part)]
    return ids


def full(decoder, ids, images):
    shown = Images.of(images) if images else None
    return decoder(torch.tensor([ids]), images=shown)[0]


@BOTH
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 64])
@torch.inference_mode()
def test_cached_decode_equals_the_full_forward_whatever_a_chunk_cuts(decoder, chunk):
    rows = [(text(3, SMALL, 2, WIDE, 5, 6), (SMALL, WIDE)), (text(30), ()), (text(2, WIDE, 6), (WIDE,)), (text(7), ())]
    rows.sort(key=lambda row: -len(row[0]))
    steps = 4
    forward = Forward(decoder, len(rows), torch.float32, "cpu", chunk)
    scores = [forward.prefill(0, [ids[:-steps] for ids, _ in rows], [images for _, images in rows], room=steps)]
    for step in range(steps):
        at = [len(ids) - steps + step for ids, _ in rows]
        tokens = torch.tensor([ids[i] for (ids, _), i in zip(rows, at, strict=True)])
        scores.append(forward.decode(tokens, torch.tensor(at), max(at) + 1))
    for row, (ids, images) in enumerate(rows):
        want = full(decoder, ids, images)[-steps - 1 :]
        torch.testing.assert_close(torch.stack([s[row] for s in scores]), want, atol=1e-4, rtol=1e-4)


@BOTH
def test_answers_are_those_of_the_full_forward_and_never_hold_a_place_for_an_image(decoder):
    with torch.no_grad():
        loud = decoder.head
        kept = loud[TOKEN].clone()
        loud[TOKEN] = loud.abs().sum(0) * 3  # often the best token by far
    try:
        ids, images = text(2, WIDE, 3), (WIDE,)
        requests = [Request(str(t), ids, 6, temperature=t, images=images) for t in (0.0, 1.0, 2.0)]
        answers = Engine(decoder, slots=4).complete(requests)
        assert all(TOKEN not in a.tokens for a in answers)
        with torch.inference_mode():
            scores = full(decoder, ids + answers[0].tokens, images)
        logp = scores.log_softmax(-1)[len(ids) - 1 : -1]
        assert TOKEN in logp.argmax(-1)
        assert logp[range(6), answers[0].tokens].tolist() == pytest.approx(answers[0].logprobs, abs=1e-3)
        logp[:, TOKEN] = -torch.inf
        assert logp.argmax(-1).tolist() == answers[0].tokens
    finally:
        with torch.no_grad():
            loud[TOKEN] = kept


@BOTH
def test_a_group_is_read_once_only_where_the_images_are_the_same_too(decoder):
    other = picture(24, 40, seed=1)
    ids = text(2, WIDE, 3)
    same = dataclasses.replace(WIDE, values=WIDE.values.copy())
    requests = [Request(str(i), ids, 5, images=(image,)) for i, image in enumerate((WIDE, other, same, other, WIDE))]
    read = []
    engine = Engine(decoder, slots=8)
    look = engine._forward.model.features
    engine._forward.model.features = lambda images, *more: read.append(images) or look(images, *more)
    try:
        answers = engine.complete(requests)
    finally:
        engine._forward.model.features = look
    assert [len(images.grids) for images in read] == [1, 1]
    assert engine.stats()["read_tokens"] == 2 * len(ids)
    for request, answer in zip(requests, answers, strict=True):
        alone = Engine(decoder, slots=1).complete([request])[0]
        assert (alone.tokens, alone.logprobs) == (answer.tokens, pytest.approx(answer.logprobs, abs=1e-4))
    assert answers[0].logprobs != pytest.approx(answers[1].logprobs, abs=1e-4)


@needs_compiler
def test_the_native_path_sees_what_an_optimiser_changed_before_a_prompt_with_images():
    decoder = model(**NATIVE, vision=VISION, seed=3).requires_grad_()
    engine, request = Engine(decoder, slots=1), Request("a", text(2, SMALL, 3), 5, images=(SMALL,))
    assert engine._forward._native is not None
    engine.complete([request])
    with torch.no_grad():
        torch._foreach_mul_([b.down_weight for b in decoder.blocks], -1.0)
    changed = engine.complete([request])[0]
    fresh = Engine(decoder, slots=1).complete([request])[0]
    assert (changed.tokens, changed.logprobs) == (fresh.tokens, pytest.approx(fresh.logprobs, abs=1e-5))


def test_bf16_serves_images_as_well():
    answer = Engine(TORCH, slots=1, dtype=torch.bfloat16).complete([Request("a", text(2, WIDE), 4, images=(WIDE,))])[0]
    assert len(answer.tokens) == 4


def test_images_that_do_not_fit_their_prompt_are_refused_with_a_sentence():
    engine = Engine(TORCH, slots=1)
    for ids, images, words in (
        (text(2, SMALL), (), "keeps 4 places for images, and its images take 0"),
        (text(2, SMALL), (WIDE,), "keeps 4 places for images, and its images take 15"),
        (text(4), (SMALL,), "keeps 0 places"),
        (text(2, SMALL), (Patches(SMALL.values[:, :-1], SMALL.grid),), "another model"),
    ):
        with pytest.raises(DokjaError, match=words):
            engine.submit(Request("a", ids, 4, images=images))
    with pytest.raises(DokjaError, match="no vision tower"):
        Engine(model(), slots=1).submit(Request("a", text(4), 4, images=(SMALL,)))


def test_the_sampler_never_draws_a_banned_token():
    logits = torch.zeros(6, 20)
    logits[:, 7] = 50.0
    for device_library in (True, False):
        sampler = Sampler(6, "cpu", banned=7)
        if not device_library:
            sampler._library = None
        for slot, (t, p, k) in enumerate(
            [(0.0, 1.0, 0), (1.0, 1.0, 0), (1.0, 0.5, 0), (1.0, 1.0, 3), (2.0, 0.9, 5), (0.5, 1.0, 0)]
        ):
            sampler.put(slot, wish(t, p, k, slot))
        tokens, logprobs = sampler.draw(logits, 0, torch.arange(6), sampler.needs(0, 6))
        assert 7 not in tokens.tolist()
        assert logprobs.tolist() == pytest.approx([-50.0] * 6, abs=1e-3)
        assert float(logits[0, 7]) == 50.0


def test_a_conversation_becomes_ids_with_every_place_in_full_and_patches_in_order():
    tokenizer = train_tokenizer(["무엇이 보이나요? What is it? 3"] * 20, 300)
    pixels = [np.zeros((16, 16, 3), np.uint8), np.full((24, 40, 3), 9, np.uint8)]
    talk = [
        Message("user", "무엇?", images=(pixels[0],)),
        Message("assistant", "A"),
        Message("tool", images=(pixels[1],)),
    ]
    ids, shown = encode_prompt(talk, tokenizer, CONFIG, True)
    assert shown == (patches(pixels[0], CONFIG), patches(pixels[1], CONFIG))
    assert ids.count(tokenizer.special_id(IMAGE)) == 4 + 15
    short, _ = tokenizer.encode_segments(render(talk, add_generation_prompt=True))
    assert len(ids) == len(short) - 2 + 19
    plain = [Message("user", "무엇?")]
    assert encode_prompt(plain, tokenizer, None, False)[1] == ()
    with pytest.raises(DataError, match="text alone"):
        encode_prompt(talk, tokenizer, None, True)
    with pytest.raises(ConfigError, match="max_pixels"):
        ImageConfig.of(VISION, 64, 32)
