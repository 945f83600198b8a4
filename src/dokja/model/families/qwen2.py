"""The `qwen2` layout (Qwen2 and Qwen2.5; transformers, vLLM, SGLang and llama.cpp read it).

Llama's block with biases on queries, keys and values, which no key of config.json says (arXiv 2407.10671 section
2.2.1). RoPE on every layer, no QK-norm. Releases switch sliding windows off; a config that switches them on is refused,
since only the first `max_window_layers` layers would stay global, and nobody has published such weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dokja.errors import CheckpointError
from dokja.model.families import config
from dokja.model.families.exaone import plain_shape
from dokja.model.families.layout import token_ids
from dokja.model.families.names import Names
from dokja.model.spec import ModelSpec

NAMES = Names()


def spec_from(data: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
    """The spec of a config.json; see `Layout`."""
    c = config.Config(data)
    layers = c.whole("num_hidden_layers")
    c.expect("use_sliding_window", False)
    c.get("sliding_window", "max_window_layers")  # say nothing while the switch above is off
    if set(c.listed("layer_types", layers) or ()) - {"full_attention"}:
        raise CheckpointError(f"{c.where}: layer_types has layers of other kinds than 'full_attention'.")
    shape = {"norm_eps": 1e-6, **config.shape(c)}
    spec = ModelSpec(layers=layers, pattern="G", norm="pre", qk_norm=False, rope="all", qkv_bias=True, **shape)
    c.refuse_unread()
    return spec


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; see `Layout`."""
    shape = plain_shape("qwen2", spec, qkv_bias=True)
    if spec.attn_width == spec.width:
        del shape["head_dim"]  # releases leave it out, and not every engine reads it here
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **shape,
        "use_sliding_window": False,
        **token_ids(special),
    }
