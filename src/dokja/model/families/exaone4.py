"""The `exaone4` layout (transformers, vLLM and SGLang read it): config keys and tensor names, both ways.

| ours                   | theirs                                                     |
|------------------------|------------------------------------------------------------|
| embed, norm, head      | model.embed_tokens, model.norm, lm_head (absent when tied) |
| layers.i.qkv_weight    | self_attn.{q,k,v}_proj, one below the other                |
| layers.i.out_weight    | self_attn.o_proj                                           |
| layers.i.q_norm, k_norm| self_attn.{q,k}_norm                                       |
| layers.i.up_weight     | mlp.{gate,up}_proj, one below the other                    |
| layers.i.down_weight   | mlp.down_proj                                              |
| layers.i.attn_norm     | post_attention_layernorm                                   |
| layers.i.ffn_norm      | post_feedforward_layernorm                                 |

What the layout can say: post norm, QK-norm, SwiGLU, RoPE on local layers (or everywhere when no layer is local).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dokja.errors import CheckpointError, ConfigError
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec

_IGNORED = {  # keys that do not change what is computed
    "architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "model_type",
    "pad_token_id", "torch_dtype", "transformers_version", "use_cache", "_name_or_path", "sliding_window_pattern",
}  # fmt: skip
_READ = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters",
    "rope_theta", "rope_scaling", "sliding_window", "layer_types", "tie_word_embeddings",
}  # fmt: skip


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; `special` holds bos, eos and pad ids. ConfigError when the layout cannot say it."""
    if spec.norm != "post" or spec.activation != "swiglu" or not spec.qk_norm:
        raise ConfigError(
            "the exaone4 layout has post norm, QK-norm and SwiGLU only. "
            "Set model.norm = 'post', model.qk_norm = true and model.activation = 'swiglu' to release in it."
        )
    local = "L" in spec.layer_pattern
    if local != (spec.rope == "local"):
        raise ConfigError(
            "the exaone4 layout rotates local layers only, or every layer of a model without local ones: "
            f"rope = {spec.rope!r} with pattern {spec.layer_pattern!r} cannot be written in it."
        )
    return {
        "architectures": ["Exaone4ForCausalLM"],
        "model_type": "exaone4",
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
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
        "rope_theta": spec.rope_theta,
        "sliding_window": spec.window if local else None,
        "sliding_window_pattern": spec.pattern if local else None,
        "layer_types": ["sliding_attention" if c == "L" else "full_attention" for c in spec.layer_pattern],
        "tie_word_embeddings": spec.tied,
        "attention_dropout": 0.0,
        "bos_token_id": special["bos"],
        "eos_token_id": special["eos"],
        "pad_token_id": special["pad"],
        "dtype": "float32",
    }


def spec_from(config: Mapping[str, Any]) -> ModelSpec:
    """The spec of a config.json. Unknown keys are refused: a key we do not read may change what is computed."""
    if unknown := sorted(set(config) - _IGNORED - _READ):
        raise CheckpointError(
            f"config.json has keys that dokja does not know: {unknown}. It will not guess what they change."
        )
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(
            f"config.json asks for {rope['rope_type']!r} RoPE scaling, which this version cannot compute."
        )
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"config.json asks for activation {config['hidden_act']!r}; exaone4 is 'silu'.")
    types = config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]
    letters = {"sliding_attention": "L", "full_attention": "G"}
    if set(types) - set(letters) or len(types) != config["num_hidden_layers"]:
        raise CheckpointError(f"config.json: layer_types {types} do not describe {config['num_hidden_layers']} layers.")
    pattern = "".join(letters[t] for t in types)
    heads = config["num_attention_heads"]
    return ModelSpec(
        vocab=config["vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        ffn=config["intermediate_size"],
        context=config["max_position_embeddings"],
        pattern=pattern,
        window=config.get("sliding_window") if "L" in pattern else None,
        norm_eps=config["rms_norm_eps"],
        rope="all" if config.get("sliding_window") is None else "local",
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        tied=bool(config.get("tie_word_embeddings")),
    )


def names(spec: ModelSpec) -> Iterator[tuple[str, str, slice]]:
    """(our parameter, their tensor, rows of ours it is) for every tensor of the layout, in their order."""
    whole, q, g = slice(None), spec.attn_width, spec.kv_heads * spec.head_dim
    yield "embed", "model.embed_tokens.weight", whole
    for i in range(spec.layers):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        yield f"{ours}.qkv_weight", f"{theirs}.self_attn.q_proj.weight", slice(0, q)
        yield f"{ours}.qkv_weight", f"{theirs}.self_attn.k_proj.weight", slice(q, q + g)
        yield f"{ours}.qkv_weight", f"{theirs}.self_attn.v_proj.weight", slice(q + g, q + 2 * g)
        yield f"{ours}.out_weight", f"{theirs}.self_attn.o_proj.weight", whole
        yield f"{ours}.q_norm", f"{theirs}.self_attn.q_norm.weight", whole
        yield f"{ours}.k_norm", f"{theirs}.self_attn.k_norm.weight", whole
        yield f"{ours}.up_weight", f"{theirs}.mlp.gate_proj.weight", slice(0, spec.ffn)
        yield f"{ours}.up_weight", f"{theirs}.mlp.up_proj.weight", slice(spec.ffn, 2 * spec.ffn)
        yield f"{ours}.down_weight", f"{theirs}.mlp.down_proj.weight", whole
        yield f"{ours}.attn_norm", f"{theirs}.post_attention_layernorm.weight", whole
        yield f"{ours}.ffn_norm", f"{theirs}.post_feedforward_layernorm.weight", whole
    yield "norm", "model.norm.weight", whole
    if not spec.tied:
        yield "head", "lm_head.weight", whole


def export(spec: ModelSpec, weights: Mapping[str, Tensor], folder: Path, special: Mapping[str, int]) -> None:
    """Writes config.json and model.safetensors (fp32, official names) of `weights` (our names) into `folder`."""
    config = config_from(spec, special)
    tensors = {theirs: weights[ours][rows].detach().float().contiguous().cpu() for ours, theirs, rows in names(spec)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, config: Mapping[str, Any]) -> Decoder:
    """A Decoder (fp32, CPU) with the weights of `folder`. CheckpointError for a missing, foreign or odd tensor."""
    spec = spec_from(config)
    path = folder / "model.safetensors"
    try:
        found = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the folder holds no weights.") from None
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not safetensors ({error}). Copy it again from its source."
        ) from None
    model = Decoder(spec)
    parameters = dict(model.named_parameters())
    wanted = {theirs: (ours, rows) for ours, theirs, rows in names(spec)}
    if foreign := sorted(set(found) - set(wanted)):
        raise CheckpointError(f"{path} holds tensors that config.json does not describe: {foreign[:4]}.")
    if missing := sorted(set(wanted) - set(found)):
        raise CheckpointError(f"{path} lacks {len(missing)} tensors, the first {missing[0]}: it is not complete.")
    with torch.no_grad():
        for theirs, (ours, rows) in wanted.items():
            target = parameters[ours][rows]
            if target.shape != found[theirs].shape:
                raise CheckpointError(
                    f"{theirs} has shape {list(found[theirs].shape)}, config.json says {list(target.shape)}."
                )
            target.copy_(found[theirs])
    return model
