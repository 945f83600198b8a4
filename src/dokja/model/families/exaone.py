"""The `exaone` layout (EXAONE 3.0, 3.5 and Deep, which transformers loads with remote code only).

A Llama block under its own names: `ln_1` and `ln_2` before attention and feed-forward, `c_fc_0` the gate, `c_fc_1` the
other reader of the stream, `c_proj` the way back. RoPE on every layer, no QK-norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dokja.model.families import config
from dokja.model.families.layout import refuse, require, token_ids, write_shape
from dokja.model.families.names import Names
from dokja.model.spec import ModelSpec

NAMES = Names(
    embed="transformer.wte",
    norm="transformer.ln_f",
    layer="transformer.h",
    attention="attn.attention",
    out="attn.attention.out_proj",
    gate="mlp.c_fc_0",
    up="mlp.c_fc_1",
    down="mlp.c_proj",
    attn_norm="ln_1",
    ffn_norm="ln_2",
)
# ours today -> theirs
_KEYS = {
    "num_hidden_layers": "num_layers",
    "hidden_act": "activation_function",
    "rms_norm_eps": "layer_norm_epsilon",
}


def spec_from(data: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
    """The spec of a config.json; see `Layout`."""
    c = config.Config(data)
    c.expect("activation_function", "silu")
    layers = c.whole("num_layers", "num_hidden_layers")
    spec = ModelSpec(layers=layers, pattern="G", norm="pre", qk_norm=False, rope="all", **config.shape(c))
    c.refuse_unread()
    return spec


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; see `Layout`."""
    shape = plain_shape("exaone", spec)
    written = {
        "architectures": ["ExaoneForCausalLM"],
        "model_type": "exaone",
        **{_KEYS.get(key, key): value for key, value in shape.items()},
        "embed_dropout": 0.0,
        **token_ids(special),
    }
    del written["rope_parameters"]  # this layout is older than the key
    return written


def plain_shape(layout: str, spec: ModelSpec, qkv_bias: bool = False) -> dict[str, Any]:
    """What Llama's block can say: pre norm, RoPE everywhere, nothing special in any layer but perhaps biases."""
    if "L" in spec.layer_pattern:
        raise refuse(layout, "pattern", spec.pattern, "Its layers are all global: set model.pattern = 'G'.")
    require(
        layout, spec, norm="pre", activation="swiglu", qk_norm=False, rope="all", moe=None, mtp=None, vision=None,
        clamp=(), qkv_bias=qkv_bias,
    )  # fmt: skip
    return write_shape(spec)
