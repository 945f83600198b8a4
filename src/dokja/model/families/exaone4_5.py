"""The `exaone4_5` layout (EXAONE 4.5): text as `exaone4`, a vision tower, and a multi-token head.

config.json holds two tables, `text_config` and `vision_config`. transformers writes no multi-token tensors: a file
without them loads as a model without the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dokja.errors import ConfigError
from dokja.model.families import config, exaone4
from dokja.model.families.layout import refuse, token_ids
from dokja.model.families.names import Names
from dokja.model.spec import ModelSpec, VisionSpec

NAMES = Names(
    embed="model.language_model.embed_tokens",
    norm="model.language_model.norm",
    layer="model.language_model.layers",
    attn_norm="post_attention_layernorm",
    ffn_norm="post_feedforward_layernorm",
)
_EPS = 1e-6  # of the tower's norms: in every engine's code, in no config
_THETA = 10000.0  # of the tower's axial RoPE


def spec_from(data: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
    """The spec of a config.json; see `Layout`."""
    c = config.Config(data)
    text, vision = c.part("text_config"), c.part("vision_config")
    text.expect("model_type", "exaone4", "exaone4_5_text")
    spec = exaone4.text_spec(text, mtp)
    tied = bool(c.get("tie_word_embeddings", default=spec.tied))
    tower = _vision(vision, c.whole("image_token_id"), c.get("video_token_id", default=-1), spec.width)
    for table in (c, text, vision):
        table.refuse_unread()
    return replace(spec, tied=tied, vision=tower)


def _vision(c: config.Config, image_token: int, video_token: int, text_width: int) -> VisionSpec:
    c.expect("hidden_act", "silu")
    c.expect("out_hidden_size", text_width)
    c.expect("rms_norm_eps", _EPS)
    c.get("tokens_per_second")  # of videos under M-RoPE, which this family does not have
    axial = c.part("rope_parameters") if c.get("rope_parameters") is not None else config.Config({})
    axial.expect("rope_type", "axial", "default")
    axial.expect("rope_theta", _THETA)
    axial.refuse_unread()
    heads = c.whole("num_heads", "num_attention_heads")
    return VisionSpec(
        layers=c.whole("depth", "num_hidden_layers"),
        width=c.whole("hidden_size"),
        heads=heads,
        kv_heads=c.whole("num_key_value_heads", default=heads),
        ffn=c.whole("intermediate_size"),
        full=tuple(c.need("fullatt_block_indexes")),  # never a default: the class default of transformers is wrong here
        image_token=image_token,
        video_token=video_token,
        patch=c.whole("patch_size", default=14),
        temporal_patch=c.whole("temporal_patch_size", default=2),
        merge=c.whole("spatial_merge_size", default=2),
        window=c.whole("window_size", default=112),
        channels=c.whole("in_channels", "in_chans", default=3),
        norm_eps=_EPS,
    )


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; see `Layout`."""
    v = spec.vision
    if v is None:
        raise ConfigError("the exaone4_5 layout needs a vision tower: set [model.vision], or release as exaone4.")
    if v.norm_eps != _EPS:
        raise refuse("exaone4_5", "vision.norm_eps", v.norm_eps, f"Set it to {_EPS}.")
    return {
        "architectures": ["Exaone4_5_ForConditionalGeneration"],
        "model_type": "exaone4_5",
        "image_token_id": v.image_token,
        "video_token_id": v.video_token,
        "tie_word_embeddings": spec.tied,
        "text_config": {**exaone4.text_config(spec), **token_ids(special)},
        "vision_config": {
            "model_type": "exaone4_5_vision",
            "depth": v.layers,
            "hidden_size": v.width,
            "hidden_act": "silu",
            "intermediate_size": v.ffn,
            "num_heads": v.heads,
            "num_key_value_heads": v.kv_heads,
            "in_channels": v.channels,
            "patch_size": v.patch,
            "spatial_merge_size": v.merge,
            "temporal_patch_size": v.temporal_patch,
            "window_size": v.window,
            "out_hidden_size": spec.width,
            "fullatt_block_indexes": list(v.full),
        },
        **token_ids(special),
    }
