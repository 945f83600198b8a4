"""The `exaone_moe` layout (K-EXAONE 236B-A23B, K-EXAONE 2.0): pre norm, QK-norm, experts, per-layer windows and clamps.

| key                                                      | read as                                              |
|----------------------------------------------------------|------------------------------------------------------|
| mlp_layer_types, is_moe_layer, else first_k_dense_replace| moe.dense: the first layers that have no experts     |
| sliding_windows, else layer_types + sliding_window       | window and pattern                                   |
| swiglu_limits                                            | clamp                                                |
| mtp_layer_types, mtp_sliding_windows, else full attention| mtp.window                                           |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dokja.errors import CheckpointError
from dokja.model.families import config
from dokja.model.families.layout import require, token_ids, write_attention, write_mtp, write_shape
from dokja.model.families.names import Names
from dokja.model.spec import ModelSpec, MoeSpec

NAMES = Names()
_ROUTING = ("routed_scaling_factor", "norm_topk_prob", "n_group", "topk_group")


def spec_from(data: Mapping[str, Any], mtp: bool | None = None) -> ModelSpec:
    """The spec of a config.json; see `Layout`."""
    c = config.Config(data)
    layers = c.whole("num_hidden_layers")
    seen = config.attention(c, layers, lists=True)
    limits = [float(limit or 0) for limit in c.listed("swiglu_limits", layers) or []]
    c.expect("scoring_func", "sigmoid")
    c.expect("topk_method", "noaux_tc")
    spec = ModelSpec(
        layers=layers,
        norm="pre",
        qk_norm=True,
        **config.shape(c),
        **seen,
        clamp=tuple(limits) if any(limits) else (),
        moe=_experts(c, layers),
        mtp=config.mtp(c, None, mtp),
    )
    c.refuse_unread()
    return spec


def _experts(c: config.Config, layers: int) -> MoeSpec | None:
    dense = _dense(c, layers)
    sizes = {
        "experts": ("num_experts", "n_routed_experts"),
        "active": ("num_experts_per_tok",),
        "ffn": ("moe_intermediate_size",),
    }
    if dense == layers:  # the keys may be there and say nothing
        for names in (*sizes.values(), ("num_shared_experts", "n_shared_experts"), *((key,) for key in _ROUTING)):
            c.get(*names)
        return None
    return MoeSpec(
        dense=dense,
        shared=c.get("num_shared_experts", "n_shared_experts", default=1),
        scale=float(c.get("routed_scaling_factor", default=2.5)),
        normalize=bool(c.get("norm_topk_prob", default=True)),
        groups=c.whole("n_group", default=1),
        group_active=c.whole("topk_group", default=1),
        **{key: c.whole(*names) for key, names in sizes.items()},
    )


def _dense(c: config.Config, layers: int) -> int:
    """How many layers come before the first with experts; lists before the scalar, and they must agree."""
    kinds, flags = c.listed("mlp_layer_types", layers), c.listed("is_moe_layer", layers)
    first = c.get("first_k_dense_replace", default=1)
    listed = [[kind == "sparse" for kind in kinds]] if kinds is not None else []
    listed += [[bool(flag) for flag in flags]] if flags is not None else []
    sparse = listed[0] if listed else [i >= first for i in range(layers)]
    if any(other != sparse for other in listed) or (kinds is not None and set(kinds) - {"dense", "sparse"}):
        raise CheckpointError(f"{c.where}: mlp_layer_types {kinds} and is_moe_layer {flags} contradict each other.")
    dense = layers - sum(sparse)
    if sparse != [i >= dense for i in range(layers)]:
        raise CheckpointError(f"{c.where} has dense layers between layers with experts, which dokja cannot build.")
    return dense


def config_from(spec: ModelSpec, special: Mapping[str, int]) -> dict[str, Any]:
    """config.json of a spec; see `Layout`."""
    require("exaone_moe", spec, norm="pre", activation="swiglu", qk_norm=True, qkv_bias=False, vision=None)
    kinds = ["sparse" if layer.experts else "dense" for layer in spec.layer_specs]
    written = {
        "architectures": ["ExaoneMoeForCausalLM"],
        "model_type": "exaone_moe",
        **write_shape(spec),
        **write_attention("exaone_moe", spec),
        "mlp_layer_types": kinds,
        "first_k_dense_replace": kinds.count("dense"),
        **write_mtp("exaone_moe", spec),
        **token_ids(special),
    }
    if isinstance(spec.window, int) and "L" in spec.layer_pattern:
        written["sliding_windows"] = [layer.window or 0 for layer in spec.layer_specs]
    if spec.clamp:
        written["swiglu_limits"] = list(spec.clamp)
    if m := spec.moe:
        written |= {
            "num_experts": m.experts,
            "num_experts_per_tok": m.active,
            "moe_intermediate_size": m.ffn,
            "num_shared_experts": m.shared,
            "norm_topk_prob": m.normalize,
            "routed_scaling_factor": m.scale,
            "n_group": m.groups,
            "topk_group": m.group_active,
            "scoring_func": "sigmoid",
            "topk_method": "noaux_tc",
        }
    return written
