"""Tensor names as data: which tensor of an official file is which part of which of our parameters.

A layout is a `Names` (below, in each family's file); `places` walks a spec and yields one `Place` for every tensor of
the file, in the file's order. Import, export and conversion all read this one list.

| ours                                | theirs, by the fields of `Names`                                       |
|-------------------------------------|------------------------------------------------------------------------|
| layers.i.qkv_weight, qkv_bias       | q, k, v, one below the other                                           |
| layers.i.up_weight                  | gate, up, one below the other                                          |
| layers.i.moe.up_weight [E, 2F, D]   | experts.{e}.gate_proj and up_proj, or fused: experts.gate_up_proj      |
| layers.i.moe.down_weight [E, D, F]  | experts.{e}.down_proj, or fused: experts.down_proj                     |
| layers.i.moe.router_weight, _bias   | mlp.gate, mlp.e_score_correction_bias (beside the gate, not below it)  |
| layers.i.moe.shared_*               | mlp.shared_experts.*                                                   |
| mtp.block.*                         | mtp.layers.0.*, named like a layer of the stack                        |
| vision.*                            | model.visual.*                                                         |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dokja.model.spec import LayerSpec, ModelSpec, VisionSpec

Index = tuple[int | slice, ...]


@dataclass(frozen=True)
class Place:
    """One tensor of a file: the part `index` of our parameter `ours` (all of it when empty)."""

    ours: str
    theirs: str
    index: Index = ()
    shape: tuple[int, ...] | None = None
    """of theirs, where it is another view of the same numbers"""


@dataclass(frozen=True)
class Names:
    """Names of a layout, without `.weight`. Defaults are Llama's, which most of the family share."""

    embed: str = "model.embed_tokens"
    norm: str = "model.norm"
    head: str = "lm_head"
    layer: str = "model.layers"
    attention: str = "self_attn"
    out: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    attn_norm: str = "input_layernorm"
    ffn_norm: str = "post_attention_layernorm"


# Tensors that old files carry beside the weights and that follow from config.json.
DERIVED_SUFFIXES = ("rotary_emb.inv_freq", "rotary.inv_freq")


def canonical(name: str) -> str:
    """The official name of a tensor that transformers 5 calls otherwise in memory."""
    return name.replace(".mlp.gate.e_score_correction_bias", ".mlp.e_score_correction_bias")


def places(spec: ModelSpec, names: Names, fused: bool = False) -> Iterator[Place]:
    """Every tensor of the layout, in order. `fused`: the experts of a layer in one tensor, as transformers 5 has them
    in memory, instead of one by one as official files have them."""
    yield Place("embed", f"{names.embed}.weight")
    for i, layer in enumerate(spec.layer_specs):
        yield from _layer(spec, layer, f"layers.{i}", f"{names.layer}.{i}", names, fused)
    yield Place("norm", f"{names.norm}.weight")
    if spec.vision:
        yield from _vision(spec.vision)
    if not spec.tied:
        yield Place("head", f"{names.head}.weight")
    if spec.mtp:
        yield Place("mtp.embed_norm", "mtp.pre_fc_norm_embedding.weight")
        yield Place("mtp.hidden_norm", "mtp.pre_fc_norm_hidden.weight")
        yield Place("mtp.fc_weight", "mtp.fc.weight")
        yield from _layer(spec, LayerSpec(spec.mtp.window, spec.mtp.rope), "mtp.block", "mtp.layers.0", names, fused)
        yield Place("mtp.norm", "mtp.norm.weight")


def _layer(spec: ModelSpec, layer: LayerSpec, ours: str, theirs: str, names: Names, fused: bool) -> Iterator[Place]:
    row = 0
    for part, heads in (("q", spec.heads), ("k", spec.kv_heads), ("v", spec.kv_heads)):
        end = row + heads * spec.head_dim
        yield Place(f"{ours}.qkv_weight", f"{theirs}.{names.attention}.{part}_proj.weight", (slice(row, end),))
        if spec.qkv_bias:
            yield Place(f"{ours}.qkv_bias", f"{theirs}.{names.attention}.{part}_proj.bias", (slice(row, end),))
        row = end
    yield Place(f"{ours}.out_weight", f"{theirs}.{names.out}.weight")
    if spec.qk_norm:
        yield Place(f"{ours}.q_norm", f"{theirs}.{names.attention}.q_norm.weight")
        yield Place(f"{ours}.k_norm", f"{theirs}.{names.attention}.k_norm.weight")
    if layer.experts:
        yield from _experts(spec, f"{ours}.moe", f"{theirs}.mlp", fused)
    else:
        yield Place(f"{ours}.up_weight", f"{theirs}.{names.gate}.weight", (slice(0, spec.ffn),))
        yield Place(f"{ours}.up_weight", f"{theirs}.{names.up}.weight", (slice(spec.ffn, 2 * spec.ffn),))
        yield Place(f"{ours}.down_weight", f"{theirs}.{names.down}.weight")
    yield Place(f"{ours}.attn_norm", f"{theirs}.{names.attn_norm}.weight")
    yield Place(f"{ours}.ffn_norm", f"{theirs}.{names.ffn_norm}.weight")


def _experts(spec: ModelSpec, ours: str, theirs: str, fused: bool) -> Iterator[Place]:
    assert spec.moe is not None
    f, fs = spec.moe.ffn, spec.moe.ffn * spec.moe.shared
    yield Place(f"{ours}.router_weight", f"{theirs}.gate.weight")
    yield Place(f"{ours}.router_bias", f"{theirs}.e_score_correction_bias")
    if fused:
        yield Place(f"{ours}.up_weight", f"{theirs}.experts.gate_up_proj")
        yield Place(f"{ours}.down_weight", f"{theirs}.experts.down_proj")
    else:
        for e in range(spec.moe.experts):
            yield Place(f"{ours}.up_weight", f"{theirs}.experts.{e}.gate_proj.weight", (e, slice(0, f)))
            yield Place(f"{ours}.up_weight", f"{theirs}.experts.{e}.up_proj.weight", (e, slice(f, 2 * f)))
        for e in range(spec.moe.experts):
            yield Place(f"{ours}.down_weight", f"{theirs}.experts.{e}.down_proj.weight", (e,))
    if spec.moe.shared:
        yield Place(f"{ours}.shared_up_weight", f"{theirs}.shared_experts.gate_proj.weight", (slice(0, fs),))
        yield Place(f"{ours}.shared_up_weight", f"{theirs}.shared_experts.up_proj.weight", (slice(fs, 2 * fs),))
        yield Place(f"{ours}.shared_down_weight", f"{theirs}.shared_experts.down_proj.weight")


def _vision(vision: VisionSpec) -> Iterator[Place]:
    theirs, f = "model.visual", vision.ffn
    kernel = (vision.width, vision.channels, vision.temporal_patch, vision.patch, vision.patch)
    yield Place("vision.patch_weight", f"{theirs}.patch_embed.proj.weight", shape=kernel)
    for i in range(vision.layers):
        mine, block = f"vision.blocks.{i}", f"{theirs}.blocks.{i}"
        yield Place(f"{mine}.norm1", f"{block}.norm1.weight")
        yield Place(f"{mine}.norm2", f"{block}.norm2.weight")
        for kind in ("weight", "bias"):
            yield Place(f"{mine}.qkv_{kind}", f"{block}.attn.qkv.{kind}")
            yield Place(f"{mine}.out_{kind}", f"{block}.attn.proj.{kind}")
            yield Place(f"{mine}.up_{kind}", f"{block}.mlp.gate_proj.{kind}", (slice(0, f),))
            yield Place(f"{mine}.up_{kind}", f"{block}.mlp.up_proj.{kind}", (slice(f, 2 * f),))
            yield Place(f"{mine}.down_{kind}", f"{block}.mlp.down_proj.{kind}")
    yield Place("vision.merger_norm", f"{theirs}.merger.ln_q.weight")
    for kind in ("weight", "bias"):
        yield Place(f"vision.merger_up_{kind}", f"{theirs}.merger.mlp.0.{kind}")
        yield Place(f"vision.merger_down_{kind}", f"{theirs}.merger.mlp.2.{kind}")
