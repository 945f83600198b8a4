"""A release as one GGUF file for llama.cpp, where llama.cpp computes the same numbers; refused with a reason where not.

| our shape                                                    | architecture there |
|--------------------------------------------------------------|--------------------|
| post norm, QK-norm, every layer global with RoPE             | exaone4            |
| the same, LLLG over exactly 64 layers, RoPE on local ones    | exaone4            |
| pre norm, no QK-norm, every layer global with RoPE (3.5)     | exaone             |
| the same with biases on q, k and v, unstretched (Qwen2)      | qwen2              |
| pre norm, QK-norm, every layer global with RoPE, unstretched | qwen3              |

llama.cpp reads what it does not understand without a word: local layers of `exaone4` are switched on by the number 64,
and no key says that RoPE is absent, a window differs by layer or SwiGLU has a limit. Hence `architecture`, which takes
what `bench/gguf_parity.py` has shown to be equal and nothing else. A multi-token head is left out: llama.cpp does not
run it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from dokja.errors import ConfigError
from dokja.model.families.gguf_config import HYBRID_LAYERS, gguf_places
from dokja.model.spec import ModelSpec
from dokja.proof.gguf_vocab import Vocabulary, read_vocabulary
from dokja.proof.licence import UNKNOWN, read_licence

Kind = Literal["f32", "f16", "bf16", "q8_0"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ELSEWHERE = "Serve the release folder itself, which transformers and vLLM read as it is"


def architecture(spec: ModelSpec) -> str:
    """The llama.cpp architecture that computes this shape. ConfigError, saying what to do instead, where none does."""
    if spec.vision:
        raise _refuse("the vision tower (llama.cpp wants it in a file of another kind)", f"{_ELSEWHERE}.")
    if spec.moe:
        raise _refuse("experts: none of its architectures was shown to route as this model does", f"{_ELSEWHERE}.")
    if spec.activation != "swiglu":
        raise _refuse(f"model.activation = {spec.activation!r}", "Set model.activation = 'swiglu' and train again.")
    if any(spec.clamp):
        raise _refuse("model.clamp, and would leave the limits of SwiGLU out without a word", f"{_ELSEWHERE}.")
    if isinstance(spec.window, tuple) and len({w for w in spec.window if w}) > 1:
        raise _refuse("windows that differ by layer, and would take one for all without a word", f"{_ELSEWHERE}.")
    if spec.qkv_bias and (spec.norm == "post" or spec.qk_norm):
        raise _refuse("biases on queries, keys and values with post norm or QK-norm", f"{_ELSEWHERE}.")
    if "L" in spec.layer_pattern:
        return _hybrid(spec)
    if spec.rope != "all":
        raise _refuse(
            "global layers without RoPE, and would turn them without a word",
            f"{_ELSEWHERE}, or set model.rope = 'all' and train again.",
        )
    if spec.norm == "post":
        if not spec.qk_norm:
            raise _refuse("post norm without QK-norm", f"{_ELSEWHERE}, or set model.qk_norm = true and train again.")
        if spec.layers == HYBRID_LAYERS:
            raise _refuse(
                "an exaone4 of 64 layers that are all global, and would make three of four local without a word",
                f"{_ELSEWHERE}.",
            )
        return _square(spec)
    if not spec.qk_norm and not spec.qkv_bias:
        return "exaone"
    arch = "qwen2" if spec.qkv_bias else "qwen3"
    if spec.rope_scaling:
        raise _refuse(
            f"pre norm with {'biases' if spec.qkv_bias else 'QK-norm'} and stretched RoPE: its {arch} has no place for "
            "the stretching",
            f"{_ELSEWHERE}.",
        )
    return arch


def _hybrid(spec: ModelSpec) -> str:
    if spec.norm != "post" or not spec.qk_norm:
        raise _refuse("local layers with pre norm and a dense feed-forward", f"{_ELSEWHERE}.")
    whole = spec.layers == HYBRID_LAYERS and spec.layer_pattern == "LLLG" * (HYBRID_LAYERS // 4)
    if not whole or spec.rope != "local":
        raise _refuse(
            f"{spec.layers} layers of which some are local: it knows LLLG over exactly {HYBRID_LAYERS} layers with "
            "RoPE on the local ones, and would compute all of these as global ones without a word",
            f"{_ELSEWHERE}, or set model.pattern = 'G' and model.rope = 'all' and train again.",
        )
    return _square(spec)


def _square(spec: ModelSpec) -> str:
    if spec.attn_width != spec.width:
        raise _refuse(
            f"heads x head_dim ({spec.attn_width}) other than model.width ({spec.width}) in its exaone4",
            f"{_ELSEWHERE}.",
        )
    return "exaone4"


def _refuse(what: str, instead: str) -> ConfigError:
    return ConfigError(f"llama.cpp cannot compute {what}. {instead}")


def export_gguf(folder: Path, target: Path, kind: Kind = "f16", name: str | None = None) -> str:
    """Writes the checkpoint in `folder` (config.json, safetensors, tokenizer.json) to the file `target`; returns its
    architecture. Matrices in `kind`, gains in fp32; rows that q8_0 cannot cut into 32 are left in f16.

    Memory: one of our parameters. ConfigError for a shape or tokenizer that llama.cpp would compute or read otherwise,
    or a target that exists; CheckpointError and DataError for a folder that is not whole.
    """
    from dokja.model.families.weights import open_checkpoint, parameters_of

    if target.exists():
        raise ConfigError(f"{target} is there already. Remove it, or name another file with --out.")
    checkpoint = open_checkpoint(folder)
    arch = architecture(checkpoint.spec)
    vocabulary = read_vocabulary(folder, checkpoint.spec.vocab)
    read = parameters_of(checkpoint)
    write(checkpoint.spec, read, vocabulary, target, arch, kind, name or folder.name, read_licence(folder).id)
    return arch


def write(
    spec: ModelSpec,
    read: Callable[[str], Any],
    vocabulary: Vocabulary,
    target: Path,
    arch: str,
    kind: Kind,
    name: str,
    licence: str,
) -> None:
    """Writes the file whatever the shape; `architecture` says where that is right. `read` gives our parameters."""
    from dokja.model.families.weights import on_meta, part

    gguf = _package()
    types = {k: getattr(gguf.GGMLQuantizationType, k.upper()) for k in KINDS}
    partial = target.with_name(target.name + ".partial")
    writer = gguf.GGUFWriter(partial, arch)
    _metadata(writer, spec, name, licence)
    writer.add_file_type(getattr(gguf.LlamaFileType, "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"))
    if kind == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocabulary.write(writer)

    entries = list(gguf_places(spec))
    empty = dict(on_meta(spec).named_parameters())
    chosen = []
    for entry in entries:
        shape = list(part(empty[entry.ours], entry).shape)
        one = "f32" if len(shape) == 1 else "f16" if kind == "q8_0" and shape[-1] % 32 else kind
        block, size = gguf.GGML_QUANT_SIZES[types[one]]
        bytes_ = math.prod(shape) // block * size
        writer.add_tensor_info(entry.theirs, shape, np.dtype(np.float32), bytes_, raw_dtype=types[one])
        chosen.append(types[one])
    factors = rope_factors(spec)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for entry, one in zip(entries, chosen, strict=True):
            values = part(read(entry.ours), entry).float().contiguous().numpy()
            writer.write_tensor_data(gguf.quants.quantize(values, one))
        if factors is not None:
            writer.write_tensor_data(factors)
        writer.close()
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def rope_factors(spec: ModelSpec) -> np.ndarray | None:
    """What llama.cpp divides each of RoPE's frequencies by [head_dim / 2], fp32; None where they are not stretched."""
    if spec.rope_scaling is None:
        return None
    from dokja.model.block import frequencies

    factors: np.ndarray = (frequencies(replace(spec, rope_scaling=None)) / frequencies(spec)).numpy()
    return factors


def _metadata(writer: Any, spec: ModelSpec, name: str, licence: str) -> None:
    writer.add_name(name)
    if licence != UNKNOWN:
        writer.add_license(licence)
    writer.add_vocab_size(spec.vocab)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.width)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(spec.ffn)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_rope_dimension_count(spec.head_dim)
    window = next((layer.window for layer in spec.layer_specs if layer.window), None)
    if window:
        writer.add_sliding_window(window)  # LLLG is what llama.cpp takes without a pattern of its own


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise ConfigError("Writing GGUF needs the package gguf. Install it: pip install 'dokja[gguf]'.") from None
    return gguf
