"""Large models in few bits: what rounding costs and nothing else; no row's result depends on its neighbours."""

import pytest
import torch
from engine_small import model, prompt

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.kv import Cache
from dokja.engine.packed import Bits, PackedWeights
from dokja.engine.wide import Wide
from dokja.model.block import rotation
from dokja.model.decoder import Decoder
from dokja.model.native.build import load

LARGE = {"width": 128, "head_dim": 32, "ffn": 192, "vocab": 77, "context": 96}
SHAPES = {
    "hybrid, post norm": {**LARGE},
    "windows and clamps by layer": {**LARGE, "window": (0, 16, 5, 0), "clamp": (0.0, 0.7, 0.0, 0.2)},
    "pre norm, head_dim 80, all RoPE": {
        **LARGE, "width": 160, "head_dim": 80, "pattern": "G", "window": None, "norm": "pre", "qk_norm": False,
        "rope": "all", "tied": True,
    },
    "biases on q, k and v": {
        **LARGE, "pattern": "G", "window": None, "norm": "pre", "qk_norm": False, "rope": "all", "qkv_bias": True,
    },
}  # fmt: skip
BITS: tuple[Bits, ...] = ("bf16", "int8", "int4")

pytestmark = pytest.mark.skipif(load("wide") is None, reason="no C++ compiler")


def wide(decoder: Decoder, bits: Bits, slots: int = 4) -> Wide:
    cache = Cache(decoder.spec, slots, torch.bfloat16, "cpu")
    assert all([cache.cover(row, decoder.spec.context) for row in range(slots)])
    turns = torch.cat(rotation(torch.arange(decoder.spec.context), decoder.spec), dim=-1)
    return Wide.of(PackedWeights.of(decoder, bits), cache, turns)


def rounded(decoder: Decoder, bits: Bits) -> Decoder:
    """The decoder whose matrices are what the packed bytes stand for."""
    with torch.no_grad():
        for name, p in decoder.named_parameters():
            if p.ndim > 1 and (name != "embed" or decoder.spec.tied):
                p.copy_(unpacked(p, "int8" if bits == "int4" and name in ("embed", "head") else bits))
    return decoder


def unpacked(w: torch.Tensor, bits: Bits) -> torch.Tensor:
    """Rounding written out once more, matrix by matrix."""
    if bits == "bf16":
        return w.bfloat16().float()
    if bits == "int8":
        scale = w.abs().amax(1, keepdim=True) / 127
        return (w / scale).round() * scale
    groups = w.unflatten(1, (-1, 32))
    far = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    scale = (far / -8).half().float()
    return ((groups / scale).round().clamp(-8, 7) * scale).flatten(1)


def scores(engine: Wide, rows: list[list[int]], pieces: list[int]) -> torch.Tensor:
    """Scores [B, L, V] of all tokens, read in pieces of these lengths."""
    out, at = [], 0
    for length in pieces:
        tokens = torch.tensor([row[at : at + length] for row in rows]).flatten()
        position = torch.arange(at, at + length).repeat(len(rows))
        number = torch.arange(len(tokens))
        got = engine.run([tokens, number // length, position, number], len(tokens))
        out.append(got.view(len(rows), length, -1))
        at += length
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_the_rounded_models_up_to_the_rounding_of_inputs(shape: str, bits: Bits) -> None:
    rows = [prompt(n, 60, 77) for n in (1, 2)]
    got = scores(wide(model(**SHAPES[shape]), bits), rows, [60])
    want = rounded(model(**SHAPES[shape]), bits)(torch.tensor(rows))
    assert (got - want).norm() / want.norm() < 0.04


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_and_batch_mates_change_no_bit(shape: str, bits: Bits) -> None:
    rows = [prompt(n, 40, 77) for n in range(3)]
    decoder = model(**SHAPES[shape])
    together = scores(wide(decoder, bits), rows, [40])
    for pieces in ([13, 1, 1, 25], [1] * 40):
        assert torch.equal(scores(wide(decoder, bits), rows, pieces), together)
    assert torch.equal(scores(wide(decoder, bits), rows[1:2], [40])[0], together[1])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    rows, decoder, before = [prompt(5, 40, 77)], model(**LARGE), torch.get_num_threads()
    want = scores(wide(decoder, "int4"), rows, [40])
    try:
        torch.set_num_threads(threads)
        assert torch.equal(scores(wide(decoder, "int4"), rows, [40]), want)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bits", BITS)
def test_an_engine_answers_the_same_whatever_its_slots(bits: Bits) -> None:
    requests = [
        Request(str(n), prompt(n, 5 + 3 * n, 77), max_tokens=20, temperature=0.8 * (n % 2), seed=n) for n in range(6)
    ]
    answers = [
        [c.tokens for c in Engine(model(**LARGE), slots=slots, weights=bits).complete(requests)] for slots in (1, 2, 6)
    ]
    assert answers[0] == answers[1] == answers[2]
