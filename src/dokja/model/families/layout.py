"""What a family's file offers, and what several of them share when they write config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dokja.errors import ConfigError
from dokja.model.families import config
from dokja.model.families.names import Names
from dokja.model.spec import ModelSpec


class Layout(Protocol):
    """A family's module."""

    NAMES: Names

    def spec_from(self, data: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
        """The spec of a config.json; `mtp`: whether the file has a multi-token head (None: as the config says)."""

    def config_from(self, spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
        """config.json of a spec. ConfigError when the layout cannot say it."""


def refuse(layout: str, key: str, value: object, instead: str) -> ConfigError:
    """The sentence for a spec that a layout cannot say."""
    return ConfigError(f"the {layout} layout cannot say model.{key} = {value!r}. {instead}")


def token_ids(special: Mapping[str, int]) -> dict[str, int]:
    """bos, eos and pad as config.json names them, those that there are."""
    return {f"{name}_token_id": special[name] for name in ("bos", "eos", "pad") if name in special}


def write_shape(spec: ModelSpec) -> dict[str, Any]:
    """The keys that `config.shape` reads, in today's spelling."""
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": spec.ffn,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context,
        "rms_norm_eps": spec.norm_eps,
        "tie_word_embeddings": spec.tied,
        "attention_dropout": 0.0,
        **config.write_rope(spec.rope_theta, spec.rope_scaling),
    }


def write_attention(layout: str, spec: ModelSpec) -> dict[str, Any]:
    """The keys that `config.attention` reads. Layers of several windows are listed, and then no scalar is written."""
    local = "L" in spec.layer_pattern
    if local != (spec.rope == "local"):
        raise refuse(layout, "rope", spec.rope, "It turns local layers only, or every layer of a model without any: "
                     f"set model.rope = {'local' if local else 'all'!r}.")  # fmt: skip
    types = {"layer_types": config.layer_types(spec.layer_pattern)}
    if isinstance(spec.window, tuple):
        return {**types, "sliding_windows": list(spec.window)}
    scalar = {
        "sliding_window": spec.window if local else None,
        "sliding_window_pattern": spec.pattern if local else None,
    }
    return {**types, **scalar}


def write_mtp(layout: str, spec: ModelSpec) -> dict[str, Any]:
    """The keys that `config.mtp` reads."""
    if spec.mtp is None:
        return {}
    if not spec.mtp.rope:
        raise refuse(layout, "mtp.rope", False, "Engines turn the multi-token layer always: set model.mtp.rope = true.")
    window = spec.mtp.window
    kind = "sliding_attention" if window else "full_attention"
    return {"num_nextn_predict_layers": 1, "mtp_layer_types": [kind], "mtp_sliding_windows": [window or 0]}


def require(layout: str, spec: ModelSpec, **wanted: Any) -> None:
    """ConfigError naming the first key of the spec that is not what the layout always has."""
    for key, value in wanted.items():
        if (found := getattr(spec, key)) != value:
            fix = f"Leave model.{key} out" if value in (None, ()) else f"Set model.{key} = {_toml(value)}"
            raise refuse(layout, key, found, f"{fix} to release in it.")


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
