"""The `llama` layout: copies of EXAONE 3.x and Deep under Llama's names, which engines load without remote code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    spec = ModelSpec(layers=layers, pattern="G", norm="pre", qk_norm=False, rope="all", **config.shape(c))
    c.refuse_unread()
    return spec


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; see `Layout`."""
    shape = plain_shape("llama", spec)
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **shape, **token_ids(special)}
