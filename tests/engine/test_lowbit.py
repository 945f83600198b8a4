"""Few bits through torch's own kernels: for every family the scores are those of the rounded matrices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families_small import SPECIAL, SPECS, model, weights
from torch.nn import functional as F

from dokja.engine import lowbit
from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.load import load_few_bits
from dokja.engine.lowbit import LowBit, LowBitDecoder, Rounded
from dokja.judge.run import judge_model
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.text.images import Patches
from dokja.text.tokenizer import train_tokenizer

EACH = pytest.mark.parametrize("name", SPECS)
BITS = pytest.mark.parametrize("bits", ["int8", "int4"])


def low(made: Decoder, bits: str) -> LowBitDecoder:
    return LowBitDecoder(made.spec, bits, weights(made).__getitem__)


def kept(decoder: LowBitDecoder, name: str) -> torch.Tensor:
    """The numbers that a parameter of the decoder stands for."""
    owner, _, leaf = name.rpartition(".")
    value = getattr(decoder.get_submodule(owner), leaf)
    if not isinstance(value, LowBit):
        return value
    parts = [part.whole(torch.float32) for part in value.parts]
    return parts[0] if value.ndim == 2 else torch.stack(parts)


def exact(rounded: LowBitDecoder, tokens: torch.Tensor) -> torch.Tensor:
    """Scores of an ordinary decoder with the same numbers."""
    plain = model(rounded.spec)
    for name, p in plain.named_parameters():
        p.data = kept(rounded, name).float()
    return F.linear(plain.hidden(tokens), kept(rounded, "head"))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@BITS
@EACH
@torch.inference_mode()
def test_scores_are_those_of_the_rounded_matrices(name: str, bits: str) -> None:
    made, tokens = model(SPECS[name]), torch.randint(0, 60, (2, 40), generator=torch.Generator().manual_seed(0))
    rounded = low(made, bits)
    got = rounded(tokens)
    assert distance(got, exact(rounded, tokens)) < 1e-5
    assert distance(got, made(tokens)) < {"int8": 0.25, "int4": 0.8}[bits]  # a close choice of experts may flip
    if made.spec.moe is None:
        assert distance(got, made(tokens)) < {"int8": 0.05, "int4": 0.6}[bits]


@BITS
@pytest.mark.parametrize("shape", [(64, 96), (48, 40), (50, 64), (7, 5)])
def test_rounding_costs_at_most_half_a_step(shape: tuple[int, int], bits: str) -> None:
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    w[1] = 0
    whole = Rounded(w, bits).whole(torch.float32)
    if bits == "int8":
        step = w.abs().amax(1, keepdim=True) / 127
    else:
        far = F.pad(w, (0, -shape[1] % 32)).unflatten(1, (-1, 32)).abs().amax(2)
        step = far.repeat_interleave(32, 1)[:, : shape[1]] / 8
    # A step of int4 is a bf16, and what is as far as the furthest on the other side is cut by one step.
    over = 0.501 if bits == "int8" else 0.54
    cut = (w.abs() > 6.9 * step) if bits == "int4" else torch.zeros_like(w, dtype=torch.bool)
    assert ((whole - w).abs() <= over * step + 1e-9)[~cut].all() and ((whole - w).abs() <= 1.1 * step)[cut].all()
    x = torch.randn(3, 2, shape[1])
    assert torch.allclose(Rounded(w, bits).times(x, torch.ones(shape[0])), F.linear(x, whole) + 1, atol=1e-4)


@BITS
@pytest.mark.parametrize("name", ["exaone4 mtp", "exaone_moe groups", "exaone_moe 2.0", "exaone tied"])
def test_an_engine_answers_with_it(name: str, bits: str, capsys) -> None:
    made = model(SPECS[name])
    asked = [Request(str(n), [3 + n, 5, 7], 12, temperature=0.5, seed=n) for n in range(3)]
    engine = Engine(made, slots=2, weights=bits)
    answers = [c.tokens for c in engine.complete(asked)]
    assert f"{bits} weights go through torch's own kernels" in capsys.readouterr().err
    engine.take_weights(model(made.spec, 1))
    other = [c.tokens for c in engine.complete(asked)]
    assert answers != other == [c.tokens for c in Engine(model(made.spec, 1), slots=2, weights=bits).complete(asked)]
    engine.take_weights(made)
    assert [c.tokens for c in engine.complete(asked)] == answers


@BITS
def test_a_model_that_sees_keeps_its_eyes(bits: str) -> None:
    made = model(SPECS["exaone4_5"])
    rounded, vision = low(made, bits), made.spec.vision
    assert vision is not None and not any(
        isinstance(v, LowBit) for m in rounded.vision.modules() for v in vars(m).values()
    )
    values = np.random.default_rng(0).standard_normal((16, vision.patch_values), dtype=np.float32)
    image = Patches(values, (1, 4, 4))
    prompt = [3, *[vision.image_token] * 4, 5]
    a, b = (
        Engine(made, slots=1, weights=bits).complete([Request("a", prompt, 4, images=shown)])[0].logprobs
        for shown in ((image,), (Patches(values * 2, (1, 4, 4)),))
    )
    assert a != b


@BITS
@pytest.mark.parametrize("name", ["exaone_moe", "exaone4_5", "exaone4 mtp"])
def test_a_folder_is_rounded_as_its_model_is(name: str, bits: str, tmp_path: Path, capsys) -> None:
    made, tokens = model(SPECS[name]), torch.arange(1, 30)[None]
    export(made.spec, weights(made), tmp_path, SPECIAL)
    got, sha256 = load_few_bits(tmp_path, bits)
    assert isinstance(got, LowBitDecoder) and len(sha256) == 64
    with torch.inference_mode():
        assert torch.equal(got(tokens), low(made, bits)(tokens))
    assert "this model has" in capsys.readouterr().err


def test_bf16_is_an_ordinary_decoder(tmp_path: Path) -> None:
    made = model(SPECS["exaone_moe"])
    assert lowbit.few_bits(made, "bf16", "cpu") is made
    export(made.spec, weights(made), tmp_path, SPECIAL)
    got, _ = load_few_bits(tmp_path, "bf16")
    assert type(got) is Decoder and got.embed.dtype == torch.bfloat16


def test_the_judge_says_in_what_the_weights_were_kept(tmp_path: Path) -> None:
    read = train_tokenizer(["a word or two and a word more 12"] * 3, 270)
    made = model(replace(SPECS["exaone4 mtp"], vocab=read.vocab_size, context=640))
    export(made.spec, weights(made), tmp_path, SPECIAL)
    read.save(tmp_path)
    asked = dict(tasks=("addsub",), languages=("en",), per_cell=1, max_tokens=8, modes=("direct",))
    judged = judge_model(tmp_path, **asked, weights="int4", draft=2)
    assert judged.folder.name.endswith("-int4") and judged.summary.settings["weights"] == "int4"
    assert {r.sampling.weights for r in judged.records} == {"int4"}
    plain = judge_model(tmp_path, **asked)
    assert plain.folder != judged.folder and {r.sampling.weights for r in plain.records} == {"fp32"}
    assert [r.raw for r in plain.records] != [r.raw for r in judged.records]


def test_without_a_compiler_the_same_shapes_are_served(monkeypatch) -> None:
    spec = ModelSpec(
        vocab=77, width=128, layers=2, heads=4, kv_heads=2, head_dim=32, ffn=192, context=64, pattern="LG", window=8
    )
    made, asked = model(spec), [Request("a", [1, 2, 3], 8, temperature=0.0)]
    fast = Engine(made, weights="int8").complete(asked)[0]
    monkeypatch.setattr("dokja.engine.packed.load", lambda name: None)
    slow = Engine(made, weights="int8").complete(asked)[0]
    assert slow.tokens[0] == fast.tokens[0] and abs(slow.logprobs[0] - fast.logprobs[0]) < 0.1


def test_a_rounded_model_is_as_small_as_it_should_be() -> None:
    w = torch.randn(128, 256)
    eight, four = Rounded(w, "int8"), Rounded(w, "int4")
    assert eight.bytes.nbytes == w.numel() and four.bytes.nbytes == w.numel() // 2
