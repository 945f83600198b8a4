"""GGUF's metadata as a spec, and its tensor names as places (no torch).

| architecture | block                                             | written by                   |
|--------------|---------------------------------------------------|------------------------------|
| llama        | pre norm; rows of q and k in another order        | llama.cpp                    |
| qwen2        | pre norm, biases on q, k and v                    | llama.cpp, `dokja export`    |
| qwen3        | pre norm, QK-norm                                 | llama.cpp, `dokja export`    |
| exaone       | pre norm (3.0, 3.5, Deep)                         | llama.cpp, `dokja export`    |
| exaone4      | post norm, QK-norm; LLLG over 64 layers, or global| llama.cpp, `dokja export`    |

Every key of the architecture is read, known to change nothing, or refused, as in `config.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from dokja.errors import CheckpointError, ConfigError
from dokja.model.families.config import Config, shortest_pattern
from dokja.model.families.gguf_file import GgufFile
from dokja.model.families.names import Place
from dokja.model.spec import ModelSpec

_PRE: dict[str, Any] = {"norm": "pre", "qk_norm": False}
BLOCKS: dict[str, dict[str, Any]] = {
    "llama": _PRE,
    "qwen2": {**_PRE, "qkv_bias": True},
    "qwen3": {"norm": "pre", "qk_norm": True},
    "exaone": _PRE,
    "exaone4": {"norm": "post", "qk_norm": True},
}
FREQUENCIES = "rope_freqs.weight"
"""What RoPE's frequencies are divided by, where they are stretched."""
HYBRID_LAYERS = 64
"""llama.cpp takes an exaone4 of so many layers for LLLG, where it has a window."""


def spec_of(file: GgufFile) -> ModelSpec:
    """The spec of a file, without the stretching of RoPE, which a tensor tells (`gguf_weights.stretching`).

    CheckpointError for an architecture, key or value that is not what it should be.
    """
    arch, embed = file.architecture, file.tensors.get("token_embd.weight")
    if arch not in BLOCKS:
        raise CheckpointError(
            f"{file.path} is of the architecture {arch!r}; dokja reads {', '.join(BLOCKS)} from GGUF files. Use the "
            "model's official folder, or another engine: dokja serve --engine llama.cpp."
        )
    if embed is None or len(embed.shape) != 2:
        raise CheckpointError(f"{file.path} has no token_embd.weight: it holds no whole model. Copy it again.")
    own = {key.removeprefix(f"{arch}."): v for key, v in file.metadata.items() if key.startswith(f"{arch}.")}
    c = Config(own, f"{file.path.name}, {arch}")
    layers, width, heads = c.whole("block_count"), c.whole("embedding_length"), c.whole("attention.head_count")
    head_dim = c.whole("attention.key_length", default=width // heads)
    c.expect("attention.value_length", head_dim)
    c.expect("rope.dimension_count", head_dim)
    c.expect("vocab_size", embed.shape[0])
    c.expect("rope.scaling.type", "none")
    c.expect("attention.causal", True)
    for key in ("expert_count", "expert_used_count"):
        c.expect(key, 0)
    c.get("tensor_data_layout")  # how its writer calls the order of rows
    try:
        spec = ModelSpec(
            vocab=embed.shape[0],
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=c.whole("attention.head_count_kv", default=heads),
            head_dim=head_dim,
            ffn=c.whole("feed_forward_length"),
            context=c.whole("context_length"),
            norm_eps=_exact(c.need("attention.layer_norm_rms_epsilon")),
            rope_theta=_exact(c.get("rope.freq_base", default=10000.0)),
            tied="output.weight" not in file.tensors,
            **BLOCKS[arch],
            **(_seen(c, layers) if arch == "exaone4" else {"pattern": "G", "rope": "all"}),
        )
    except ConfigError as error:  # what ModelSpec refuses is the file's fault here
        raise CheckpointError(f"{file.path} describes a model that cannot be: {error}") from None
    c.refuse_unread()
    return spec


def _seen(c: Config, layers: int) -> dict[str, Any]:
    """pattern, window and rope of an exaone4."""
    window, local = c.get("attention.sliding_window"), c.listed("attention.sliding_window_pattern", layers)
    if not window:
        if local and any(local):
            raise CheckpointError(f"{c.where} has local layers but no attention.sliding_window. Copy it again.")
        return {"pattern": "G", "rope": "all"}
    if local is None and layers != HYBRID_LAYERS:
        raise CheckpointError(
            f"{c.where} has a window of {window} over {layers} layers and does not say which are local; llama.cpp "
            "would take none. Use the model's official folder."
        )
    letters = "LLLG" * (layers // 4) if local is None else "".join("L" if one else "G" for one in local)
    if "L" not in letters:
        return {"pattern": "G", "rope": "all"}
    return {"pattern": shortest_pattern(letters), "window": window, "rope": "local"}


def _exact(value: Any) -> float:
    """The shortest decimal that is this number in fp32, as config.json would have it: 9.999999974752427e-07 is 1e-6."""
    for digits in range(1, 10):
        if struct.pack("<f", short := float(f"{value:.{digits}g}")) == struct.pack("<f", value):
            return short
    return float(value)


def gguf_places(spec: ModelSpec) -> Iterator[Place]:
    """Every tensor of a file but RoPE's factors, in order; a tied output matrix has none."""
    yield Place("embed", "token_embd.weight")
    before, after = ("post_attention_norm", "post_ffw_norm") if spec.norm == "post" else ("attn_norm", "ffn_norm")
    keys = spec.kv_heads * spec.head_dim
    for i in range(spec.layers):
        there, here = f"blk.{i}", f"layers.{i}"
        row = 0
        for part, count in (("q", spec.attn_width), ("k", keys), ("v", keys)):
            rows = (slice(row, row + count),)
            yield Place(f"{here}.qkv_weight", f"{there}.attn_{part}.weight", rows)
            if spec.qkv_bias:
                yield Place(f"{here}.qkv_bias", f"{there}.attn_{part}.bias", rows)
            row += count
        yield Place(f"{here}.out_weight", f"{there}.attn_output.weight")
        if spec.qk_norm:
            yield Place(f"{here}.q_norm", f"{there}.attn_q_norm.weight")
            yield Place(f"{here}.k_norm", f"{there}.attn_k_norm.weight")
        yield Place(f"{here}.attn_norm", f"{there}.{before}.weight")
        yield Place(f"{here}.up_weight", f"{there}.ffn_gate.weight", (slice(0, spec.ffn),))
        yield Place(f"{here}.up_weight", f"{there}.ffn_up.weight", (slice(spec.ffn, 2 * spec.ffn),))
        yield Place(f"{here}.down_weight", f"{there}.ffn_down.weight")
        yield Place(f"{here}.ffn_norm", f"{there}.{after}.weight")
    yield Place("norm", "output_norm.weight")
    if not spec.tied:
        yield Place("head", "output.weight")
