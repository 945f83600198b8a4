"""GGUF files into models: what our writer and llama.cpp's converter write comes back; what is unknown is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from families_small import SPECIAL, SPECS, model, weights
from gguf_small import F16, F32, Q8_0, about, gguf_bytes, logits, plain, vocabulary, write

from dokja.errors import CheckpointError, ConfigError
from dokja.model.families import export, gguf_weights
from dokja.model.families.gguf_file import KINDS, Entry, read_gguf
from dokja.model.families.gguf_weights import Quantised, load_gguf, open_gguf
from dokja.model.spec import ModelSpec, RopeScaling
from dokja.text.tokenizer import train_tokenizer

QWEN, EXAONE = SPECS["qwen2"], SPECS["exaone"]
FOUR = replace(SPECS["exaone4 tied"], tied=False, head_dim=8, vocab=320)
OURS = {
    "exaone": replace(EXAONE, vocab=320),
    "exaone, stretched, tied": replace(SPECS["exaone tied"], vocab=320),
    "qwen2": replace(QWEN, vocab=320),
    "qwen2, tied": replace(SPECS["qwen2 tied"], vocab=320),
    "qwen3": replace(EXAONE, vocab=320, qk_norm=True),
    "exaone4": FOUR,
    "exaone4, stretched, tied": replace(FOUR, tied=True, rope_scaling=RopeScaling(16.0, original=32)),
    "exaone4, 64 layers": replace(FOUR, layers=64, pattern="LLLG", window=6, rope="local"),
}


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("name", OURS)
def test_our_own_export_loads_again_with_the_same_logits(name, kind, tmp_path):
    pytest.importorskip("gguf")
    from dokja.proof.gguf import export_gguf

    made = model(OURS[name])
    train_tokenizer(["나는 글이다. I am a text of 12 words."] * 3, 300).save(tmp_path)
    export(made.spec, weights(made), tmp_path, SPECIAL)
    assert export_gguf(tmp_path, tmp_path / "m.gguf", kind) == name.split(",")[0]
    loaded = load_gguf(tmp_path / "m.gguf").requires_grad_(False)
    assert loaded.spec == made.spec
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[kind]
    for p in made.parameters():
        if p.ndim > 1:
            p.copy_(p.to(dtype).float())
    assert torch.equal(logits(loaded), logits(made))


def test_llamas_interleaved_rows_come_back_in_order(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    spec = replace(EXAONE, rope_theta=1e4)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=spec.vocab, hidden_size=spec.width, intermediate_size=spec.ffn, num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads, num_key_value_heads=spec.kv_heads, head_dim=spec.head_dim,
            rms_norm_eps=spec.norm_eps, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        )
    )  # fmt: skip
    made = model(spec)
    tensors = plain(made)
    own = weights(made)
    state = {"model.embed_tokens.weight": own["embed"], "model.norm.weight": own["norm"], "lm_head.weight": own["head"]}
    rows = [spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim, spec.kv_heads * spec.head_dim]
    for i in range(spec.layers):
        for part, heads, w in zip(
            "qkv",
            (spec.heads, spec.kv_heads, 0),
            own[f"layers.{i}.qkv_weight"].split(rows),
            strict=True,
        ):
            state[f"model.layers.{i}.self_attn.{part}_proj.weight"] = w
            if heads:  # what llama.cpp's converter does to the halves of a head
                w = w.reshape(heads, 2, spec.head_dim // 2, spec.width).swapaxes(1, 2).reshape(w.shape)
                tensors[f"blk.{i}.attn_{part}.weight"] = (F32, tuple(w.shape), w.contiguous().numpy().tobytes())
        gate, up = own[f"layers.{i}.up_weight"].chunk(2)
        layer = {
            "self_attn.o_proj": own[f"layers.{i}.out_weight"], "mlp.gate_proj": gate, "mlp.up_proj": up,
            "mlp.down_proj": own[f"layers.{i}.down_weight"], "input_layernorm": own[f"layers.{i}.attn_norm"],
            "post_attention_layernorm": own[f"layers.{i}.ffn_norm"],
        }  # fmt: skip
        state |= {f"model.layers.{i}.{name}.weight": value for name, value in layer.items()}
    theirs.load_state_dict(state)
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(about(spec, "llama"), tensors))
    loaded = load_gguf(tmp_path / "m.gguf")
    with torch.inference_mode():
        want = theirs(torch.arange(3, 30)[None]).logits
    assert torch.allclose(logits(loaded), want, atol=1e-5)
    (tmp_path / "n.gguf").write_bytes(gguf_bytes(about(spec, "exaone"), tensors))  # nobody else interleaves
    assert not torch.allclose(logits(load_gguf(tmp_path / "n.gguf")), want, atol=1e-2)


@pytest.mark.parametrize("number", KINDS)
def test_blocks_become_the_numbers_that_ggml_gives_them_however_they_are_cut(number, tmp_path, monkeypatch):
    gguf = pytest.importorskip("gguf")
    name, count, size = KINDS[number]
    rng, rows, width = np.random.default_rng(number), 24, 512
    row = width // count * size
    raw = rng.integers(0, 256, (rows, row), dtype=np.uint8)
    if count == 1:
        values = rng.standard_normal((rows, width)).astype(np.float32)
        raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(rows, row)
    else:  # scales are the fp16 numbers of a block; random bytes would make some of them infinite
        at = {"Q6_K": [size - 2], "Q4_K": [0, 2], "Q5_K": [0, 2]}.get(name, [0])
        blocks = raw.reshape(rows, -1, size)
        for place in at:
            scale = rng.standard_normal((*blocks.shape[:2], 1)).astype(np.float16)
            blocks[..., place : place + 2] = scale.view(np.uint8)
    path = tmp_path / "blocks"
    path.write_bytes(b"before" + raw.tobytes())
    want = torch.from_numpy(gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name]).astype(np.float32))
    assert want.isfinite().all() and want.std() > 0
    for piece in (1, 3 * width, 1 << 20):
        monkeypatch.setattr(gguf_weights, "_PIECE", piece)
        stored = Quantised(path, torch.float32, (rows, width), 6, Entry((rows, width), number, 6))
        assert torch.equal(stored.read(), want)
        swapped = Quantised(path, torch.float32, (rows, width), 6, Entry((rows, width), number, 6), heads=2)
        order = torch.arange(rows).view(2, 2, 6).transpose(1, 2).flatten()
        assert torch.equal(swapped.read()[order], want)


def test_matrices_in_few_bits_are_near_and_can_be_cast(tmp_path):
    gguf = pytest.importorskip("gguf")
    spec = replace(QWEN, width=64, ffn=96)
    made, tensors = model(spec), plain(model(spec))
    for name, (_, shape, data) in tensors.items():
        if len(shape) > 1:
            values = np.frombuffer(data, np.float32).reshape(shape)
            quantised = shape[-1] % 32 == 0
            kind = gguf.GGMLQuantizationType.Q8_0 if quantised else gguf.GGMLQuantizationType.F16
            tensors[name] = (Q8_0 if quantised else F16, shape, gguf.quants.quantize(values, kind).tobytes())
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(about(spec, "qwen2"), tensors))
    near = (logits(load_gguf(tmp_path / "m.gguf")) - logits(made)).norm() / logits(made).norm()
    assert 0 < near < 0.02
    half = load_gguf(tmp_path / "m.gguf", torch.bfloat16)
    assert half.embed.dtype == torch.bfloat16 and half.blocks[0].qkv_bias.dtype == torch.float32


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"general.architecture": "gemma3"}, "architecture 'gemma3'; dokja reads llama, qwen2"),
        ({"qwen2.attention.scale": 0.5}, r"keys that dokja does not know.*attention\.scale"),
        ({"qwen2.rope.scaling.type": "yarn"}, r"rope\.scaling\.type is 'yarn'"),
        ({"qwen2.attention.sliding_window": 16}, r"keys that dokja does not know.*sliding_window"),
        ({"qwen2.expert_count": 8}, "expert_count is 8"),
        ({"qwen2.vocab_size": 81}, "vocab_size is 81"),
        ({"qwen2.rope.dimension_count": 6}, r"rope\.dimension_count is 6"),
        ({"qwen2.attention.value_length": 8}, r"value_length is 8"),
        ({"qwen2.attention.head_count_kv": [2, 2, 2, 2]}, "whole number above zero"),
        ({"qwen2.attention.head_count_kv": 3}, "cannot be.*kv_heads"),
        ({"qwen2.block_count": None}, "lacks 'block_count'"),
        ({"qwen2.block_count": 3}, r"tensors that its metadata does not describe.*blk\.3"),
        ({"qwen2.block_count": 5}, r"lacks 12 tensors, the first blk\.4\.attn_q\.weight"),
        ({"qwen2.feed_forward_length": 41}, r"ffn_gate\.weight has shape \[40, 32\], its metadata says \[41, 32\]"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"general.alignment": 0}, "alignment is 0"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused_by_name(changes, sentence, tmp_path):
    write(tmp_path / "m.gguf", QWEN, "qwen2", **changes)
    with pytest.raises(CheckpointError, match=sentence):
        open_gguf(tmp_path / "m.gguf")


def test_a_tensor_that_nobody_uses_is_refused_and_one_that_is_missing_is_named(tmp_path):
    tensors, path = plain(model(QWEN)), tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(about(QWEN, "llama"), tensors))
    with pytest.raises(CheckpointError, match=r"12 tensors that its metadata does not describe.*attn_k\.bias"):
        open_gguf(path)
    del tensors["blk.2.attn_v.bias"]
    path.write_bytes(gguf_bytes(about(QWEN, "qwen2"), tensors))
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors, the first blk\.2\.attn_v\.bias"):
        open_gguf(path)
    with pytest.raises(CheckpointError, match=r"no token_embd\.weight"):
        path.write_bytes(gguf_bytes(about(QWEN, "qwen2"), {}))
        open_gguf(path)


def test_stretching_that_no_known_rule_gives_is_refused(tmp_path):
    tensors = plain(model(EXAONE))
    factors = np.linspace(1, 3, EXAONE.head_dim // 2, dtype=np.float32)
    tensors["rope_freqs.weight"] = (F32, factors.shape, factors.tobytes())
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(about(EXAONE, "exaone"), tensors))
    with pytest.raises(CheckpointError, match="stretches RoPE"):
        open_gguf(tmp_path / "m.gguf")
    ones = np.ones_like(factors)
    tensors["rope_freqs.weight"] = (F32, ones.shape, ones.tobytes())
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(about(EXAONE, "exaone"), tensors))
    assert open_gguf(tmp_path / "m.gguf").spec == EXAONE


def test_local_layers_are_those_that_the_file_lists(tmp_path):
    spec = replace(FOUR, pattern="LLG", layers=6, window=5, rope="local", vocab=80)
    listed = {
        "exaone4.attention.sliding_window": 5,
        "exaone4.attention.sliding_window_pattern": [True, True, False] * 2,
    }
    made = write(tmp_path / "m.gguf", spec, "exaone4", **listed)
    loaded = load_gguf(tmp_path / "m.gguf")
    assert loaded.spec == spec and torch.equal(logits(loaded), logits(made))
    write(tmp_path / "n.gguf", spec, "exaone4", **{"exaone4.attention.sliding_window": 5})
    with pytest.raises(CheckpointError, match="does not say which are local"):
        open_gguf(tmp_path / "n.gguf")


# --- damage ---------------------------------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "m.gguf"
    made, (_, words) = model(QWEN), vocabulary("qwen2")
    path.write_bytes(gguf_bytes({**about(QWEN, "qwen2"), **words}, plain(made)))
    whole = path.read_bytes()
    assert open_gguf(path).spec == QWEN
    for cut in [0, 3, 4, 10, 23, 24, *range(25, len(whole) - 100, 997), len(whole) - 129]:
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"truncated|no GGUF file"):
            open_gguf(path)


def test_no_damage_of_the_header_ends_in_anything_but_a_sentence(tmp_path):
    path = tmp_path / "m.gguf"
    header = gguf_bytes(about(QWEN, "qwen2"), plain(model(QWEN)))
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.integers(4, 3500, 300):
        path.write_bytes(header[:at] + bytes([header[at] ^ int(rng.integers(1, 256))]) + header[at + 1 :])
        try:
            open_gguf(path)
        except CheckpointError:
            refused += 1
    assert refused > 200  # the rest are other numbers of the same meaning, such as another theta


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (b"GGUF\x00\x00\x00\x03", "version 0x3000000"),
        (b"GGUF\x01\x00\x00\x00", "version 0x1"),
        (b"PK\x03\x04", "no GGUF file"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "truncated"),
    ],
)
def test_other_files_and_versions_are_told_apart(start, sentence, tmp_path):
    (tmp_path / "m.gguf").write_bytes(start + bytes(64))
    with pytest.raises(CheckpointError, match=sentence):
        read_gguf(tmp_path / "m.gguf")


def test_a_kind_that_is_not_read_and_a_missing_package_are_named(tmp_path, monkeypatch):
    tensors = plain(model(QWEN))
    tensors["output.weight"] = (10, (80, 32), bytes(2000))
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(about(QWEN, "qwen2"), tensors))
    with pytest.raises(CheckpointError, match=r"output\.weight is of ggml's kind 10; dokja reads F32, F16, Q4_0"):
        open_gguf(tmp_path / "m.gguf")
    tensors["output.weight"] = (Q8_0, (80, 32), bytes(80 * 34))
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(about(QWEN, "qwen2"), tensors))
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ConfigError, match=r"pip install 'dokja\[gguf\]'"):
        load_gguf(tmp_path / "m.gguf")


def test_numbers_are_what_config_json_would_have(tmp_path):
    write(tmp_path / "m.gguf", replace(QWEN, norm_eps=1e-6, rope_theta=1e6), "qwen2")
    spec: ModelSpec = open_gguf(tmp_path / "m.gguf").spec
    assert (spec.norm_eps, spec.rope_theta) == (1e-6, 1e6)
