"""The `exaone4` layout (EXAONE 4.0; transformers, vLLM, SGLang and llama.cpp read it).

Post norm: `post_attention_layernorm` is the gain after attention, where Llama's same name stands before the
feed-forward. A multi-token head goes into the same file under `mtp.`, as EXAONE 4.5 has it; transformers leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dokja.model.families import config
from dokja.model.families.layout import require, token_ids, write_attention, write_mtp, write_shape
from dokja.model.families.names import Names
from dokja.model.spec import ModelSpec

NAMES = Names(attn_norm="post_attention_layernorm", ffn_norm="post_feedforward_layernorm")


def spec_from(data: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
    """The spec of a config.json; see `Layout`."""
    c = config.Config(data)
    spec = text_spec(c, mtp)
    c.refuse_unread()
    return spec


def text_spec(c: config.Config, mtp: bool | None) -> ModelSpec:
    """The spec of the text decoder that `c` describes, which EXAONE 4.5 shares."""
    layers = c.whole("num_hidden_layers")
    seen = config.attention(c, layers)
    return ModelSpec(
        layers=layers, norm="post", qk_norm=True, **config.shape(c), **seen,
        mtp=config.mtp(c, seen["window"] if seen["pattern"].startswith("L") else None, mtp),
    )  # fmt: skip


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; see `Layout`."""
    require("exaone4", spec, vision=None)
    return {"architectures": ["Exaone4ForCausalLM"], **text_config(spec), **token_ids(special)}


def text_config(spec: ModelSpec) -> dict[str, Any]:
    """What `text_spec` reads, without token ids."""
    require("exaone4", spec, norm="post", activation="swiglu", qk_norm=True, moe=None, clamp=(), qkv_bias=False)
    if isinstance(spec.window, tuple):
        require("exaone4", spec, window=min(w for w in spec.window if w))
    return {
        "model_type": "exaone4",
        **write_shape(spec),
        **write_attention("exaone4", spec),
        **write_mtp("exaone4", spec),
    }
