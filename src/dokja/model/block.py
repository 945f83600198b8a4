"""One layer of the decoder: attention, then a feed-forward or a mixture of experts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.model.attention import attend
from dokja.model.moe import Moe, Routing
from dokja.model.norm import rms_norm
from dokja.model.spec import LayerSpec, ModelSpec
from dokja.model.swiglu import swiglu

Rotation = tuple[Tensor, Tensor]


def frequencies(spec: ModelSpec, device: torch.device | None = None) -> Tensor:
    """Radians a position, [K/2] fp32: RoPE (arXiv 2104.09864), stretched as `RopeScaling` says."""
    k = torch.arange(0, spec.head_dim, 2, dtype=torch.float32, device=device)
    freq = 1.0 / spec.rope_theta ** (k / spec.head_dim)
    if (s := spec.rope_scaling) is None:
        return freq
    turns = s.original * freq / (2 * math.pi)  # in the original context
    kept = ((turns - s.low_freq) / (s.high_freq - s.low_freq)).clamp(0, 1)
    return (1 - kept) * freq / s.factor + kept * freq


def rotation(positions: Tensor, spec: ModelSpec) -> Rotation:
    """cos, sin of shape [..., K/2] (fp32) for integer positions of any shape."""
    angle = positions[..., None].float() * frequencies(spec, positions.device)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rot: Rotation) -> Tensor:
    """Turns x[B,L,N,K] by cos/sin [L or B,L ; K/2]; halves are paired (neox style)."""
    cos, sin = (r.unsqueeze(-2) for r in rot)
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Block(nn.Module):
    """One layer: `qkv` before attention, `finish` after it. Trainer and engine call the same two functions."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec):
        super().__init__()
        self.spec, self.layer = spec, layer
        self.lora: nn.ModuleDict | None = None
        """Low-rank pairs by the name of their matrix, while they are trained (`train.lora`)."""
        d, a, g = spec.width, spec.attn_width, spec.kv_heads * spec.head_dim
        self.qkv_weight = nn.Parameter(torch.empty(a + 2 * g, d))
        if spec.qkv_bias:
            self.qkv_bias = nn.Parameter(torch.empty(a + 2 * g))
        self.out_weight = nn.Parameter(torch.empty(d, a))
        if layer.experts:
            self.moe = Moe(spec, layer.clamp)
        else:
            self.up_weight = nn.Parameter(torch.empty(spec.gated * spec.ffn, d))
            self.down_weight = nn.Parameter(torch.empty(d, spec.ffn))
        self.attn_norm = nn.Parameter(torch.empty(d))
        self.ffn_norm = nn.Parameter(torch.empty(d))
        if spec.qk_norm:
            self.q_norm = nn.Parameter(torch.empty(spec.head_dim))
            self.k_norm = nn.Parameter(torch.empty(spec.head_dim))

    def times(self, x: Tensor, name: str) -> Tensor:
        """x[..., in] times the matrix `name`[out, in] in the dtype of x, and its low-rank pair where it has one."""
        y = F.linear(x, getattr(self, name).to(x.dtype))
        return y + self.lora[name](x) if self.lora is not None and name in self.lora else y

    def qkv(self, x: Tensor, rot: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x[B,L,D] -> q[B,L,H,K], k[B,L,G,K], v[B,L,G,K], normalised and rotated where the layer says so."""
        s = self.spec
        if s.norm == "pre":
            x = rms_norm(x, self.attn_norm, s.norm_eps)
        qkv = self.times(x, "qkv_weight")
        if s.qkv_bias:
            qkv = qkv + self.qkv_bias.to(x.dtype)
        qkv = qkv.unflatten(-1, (s.heads + 2 * s.kv_heads, s.head_dim))
        q, k, v = qkv.split([s.heads, s.kv_heads, s.kv_heads], dim=-2)
        if s.qk_norm:
            q, k = rms_norm(q, self.q_norm, s.norm_eps), rms_norm(k, self.k_norm, s.norm_eps)
        if self.layer.rope:
            q, k = rotate(q, rot), rotate(k, rot)
        return q, k, v

    def finish(self, x: Tensor, o: Tensor) -> tuple[Tensor, Routing | None]:
        """Adds attention's output o[B,L,H,K] and then the feed-forward to the stream x[B,L,D] -> the stream, and which
        experts were chosen where the layer has any."""
        s = self.spec
        y = self.times(o.flatten(-2), "out_weight")
        x = x + (rms_norm(y, self.attn_norm, s.norm_eps) if s.norm == "post" else y)
        y, routing = self.feed_forward(x if s.norm == "post" else rms_norm(x, self.ffn_norm, s.norm_eps))
        return x + (rms_norm(y, self.ffn_norm, s.norm_eps) if s.norm == "post" else y), routing

    def feed_forward(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """x[..., D] -> [..., D], and the experts' routing where there are any."""
        if self.layer.experts:
            return self.moe(x)
        y = self.times(x, "up_weight")
        y = swiglu(y, self.layer.clamp) if self.spec.activation == "swiglu" else F.relu(y).square()
        return self.times(y, "down_weight"), None

    def init_weights(self, gen: torch.Generator) -> None:
        """Fills the layer's parameters as the table in `model.decoder` says."""
        s = self.spec
        post = s.norm == "post"
        self.qkv_weight.normal_(0.0, s.width**-0.5, generator=gen)
        if s.qkv_bias:
            self.qkv_bias.zero_()
        if not self.layer.experts:
            self.up_weight.normal_(0.0, s.width**-0.5, generator=gen)
        self.out_weight.normal_(0.0, s.attn_width**-0.5 if post else 0.0, generator=gen)
        if self.layer.experts:
            self.moe.init_weights(gen, post)
        else:
            self.down_weight.normal_(0.0, s.ffn**-0.5 if post else 0.0, generator=gen)
        for gain in (self.attn_norm, self.ffn_norm):
            gain.fill_((2 * s.layers) ** -0.5 if post else 1.0)
        if s.qk_norm:
            self.q_norm.fill_(1.0)
            self.k_norm.fill_(1.0)


def block_forward(block: Block, x: Tensor, rot: Rotation, seen: Any) -> tuple[Tensor, Routing | None]:
    """One layer over whole rows; the training path compiles this function (see `train.compiled`)."""
    q, k, v = block.qkv(x, rot)
    return block.finish(x, attend(q, k, v, seen, block.layer.window))


BlockFn = Callable[[Block, Tensor, Rotation, Any], tuple[Tensor, Routing | None]]
