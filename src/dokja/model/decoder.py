"""The decoder: one class for every shape that `ModelSpec` can describe.

Features: local/global attention by pattern string, GQA, RMS QK-norm, RoPE on local layers and none on global
ones (on purpose), pre or post norm, SwiGLU or ReLU^2, tied or own output matrix. Matrix products run in the
dtype of the input `x` (bf16 in mixed precision), norms, rotations and the loss in fp32; parameters are fp32
masters.

    legend   B rows, L tokens a row, T = B*L, D width, H query heads, G key heads, K head width, F ffn width, V vocab

| parameter              | shape          | init                                     |
|------------------------|----------------|------------------------------------------|
| embed                  | [V, D]         | normal, std 1 (post norm) or 0.02 (pre)  |
| layers.i.qkv           | [(H+2G)K, D]   | normal, std D^-1/2                       |
| layers.i.out           | [D, HK]        | normal, std (HK)^-1/2; zero with pre norm|
| layers.i.up            | [2F or F, D]   | normal, std D^-1/2                       |
| layers.i.down          | [D, F]         | normal, std F^-1/2; zero with pre norm   |
| layers.i.q_norm,k_norm | [K]            | one                                      |
| layers.i.attn_norm     | [D]            | post: (2*layers)^-1/2, pre: one          |
| layers.i.ffn_norm      | [D]            | post: (2*layers)^-1/2, pre: one          |
| norm                   | [D]            | one                                      |
| head                   | [V, D]         | zero; absent when tied                   |

`up` holds gate then up rows, `qkv` holds q, k, v rows: one product instead of two or three.
Pre-norm layers start as the identity (zero `out`, `down`); post-norm layers cannot (their output is normalised),
so their gains start small and the residual stream keeps the embedding's scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.model.attention import attend, document_starts, visible
from dokja.model.spec import LayerSpec, ModelSpec

Rotation = tuple[Tensor, Tensor]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension in fp32; the weight multiplies after the cast back, as transformers does."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y.to(x.dtype) * weight).to(x.dtype)


def rotation(positions: Tensor, head_dim: int, theta: float) -> Rotation:
    """cos, sin of shape [..., K/2] (fp32) for integer positions of any shape; RoPE, arXiv 2104.09864."""
    freq = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim)
    angle = positions[..., None].float() * freq
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
        d, a, g = spec.width, spec.attn_width, spec.kv_heads * spec.head_dim
        self.qkv_weight = nn.Parameter(torch.empty(a + 2 * g, d))
        self.out_weight = nn.Parameter(torch.empty(d, a))
        self.up_weight = nn.Parameter(torch.empty((2 if spec.activation == "swiglu" else 1) * spec.ffn, d))
        self.down_weight = nn.Parameter(torch.empty(d, spec.ffn))
        self.attn_norm = nn.Parameter(torch.empty(d))
        self.ffn_norm = nn.Parameter(torch.empty(d))
        if spec.qk_norm:
            self.q_norm = nn.Parameter(torch.empty(spec.head_dim))
            self.k_norm = nn.Parameter(torch.empty(spec.head_dim))

    def qkv(self, x: Tensor, rot: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x[B,L,D] -> q[B,L,H,K], k[B,L,G,K], v[B,L,G,K], normalised and rotated where the layer says so."""
        s = self.spec
        if s.norm == "pre":
            x = rms_norm(x, self.attn_norm, s.norm_eps)
        qkv = F.linear(x, self.qkv_weight.to(x.dtype)).unflatten(-1, (s.heads + 2 * s.kv_heads, s.head_dim))
        q, k, v = qkv.split([s.heads, s.kv_heads, s.kv_heads], dim=-2)
        if s.qk_norm:
            q, k = rms_norm(q, self.q_norm, s.norm_eps), rms_norm(k, self.k_norm, s.norm_eps)
        if self.layer.rope:
            q, k = rotate(q, rot), rotate(k, rot)
        return q, k, v

    def finish(self, x: Tensor, o: Tensor) -> Tensor:
        """Adds attention's output o[B,L,H,K] and then the feed-forward to the stream x[B,L,D]."""
        s = self.spec
        y = F.linear(o.flatten(-2), self.out_weight.to(x.dtype))
        x = x + (rms_norm(y, self.attn_norm, s.norm_eps) if s.norm == "post" else y)
        y = x if s.norm == "post" else rms_norm(x, self.ffn_norm, s.norm_eps)
        y = F.linear(y, self.up_weight.to(x.dtype))
        if s.activation == "swiglu":
            gate, up = y.chunk(2, dim=-1)
            y = F.silu(gate) * up
        else:
            y = F.relu(y).square()
        y = F.linear(y, self.down_weight.to(x.dtype))
        return x + (rms_norm(y, self.ffn_norm, s.norm_eps) if s.norm == "post" else y)


def block_forward(block: Block, x: Tensor, rot: Rotation, seen: Any) -> Tensor:
    """One layer over whole rows; the training path compiles this function (see `train.compiled`)."""
    q, k, v = block.qkv(x, rot)
    return block.finish(x, attend(q, k, v, seen, block.layer.window))


BlockFn = Callable[[Block, Tensor, Rotation, Any], Tensor]


class Decoder(nn.Module):
    """The stack. `hidden` gives the normalised stream, `logits` the scores; the loss lives in `model.loss`."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        self.embed = nn.Parameter(torch.empty(spec.vocab, spec.width))
        self.layers = nn.ModuleList(Block(spec, layer) for layer in spec.layer_specs)
        self.norm = nn.Parameter(torch.empty(spec.width))
        if not spec.tied:
            self.head = nn.Parameter(torch.empty(spec.vocab, spec.width))

    @property
    def blocks(self) -> list[Block]:
        """The layers, typed."""
        return cast(list[Block], list(self.layers))

    @property
    def head_weight(self) -> Tensor:
        """Output matrix [V, D], the embedding itself when tied."""
        return self.embed if self.spec.tied else self.head

    def init_weights(self, seed: int) -> Decoder:
        """Fills every parameter by the table above; same seed, same weights. Returns self."""
        s, gen = self.spec, torch.Generator().manual_seed(seed)
        post = s.norm == "post"
        with torch.no_grad():
            self.embed.normal_(0.0, 1.0 if post and not s.tied else 0.02, generator=gen)
            for block in self.blocks:
                block.qkv_weight.normal_(0.0, s.width**-0.5, generator=gen)
                block.up_weight.normal_(0.0, s.width**-0.5, generator=gen)
                block.out_weight.normal_(0.0, s.attn_width**-0.5 if post else 0.0, generator=gen)
                block.down_weight.normal_(0.0, s.ffn**-0.5 if post else 0.0, generator=gen)
                for gain in (block.attn_norm, block.ffn_norm):
                    gain.fill_((2 * s.layers) ** -0.5 if post else 1.0)
                if s.qk_norm:
                    block.q_norm.fill_(1.0)
                    block.k_norm.fill_(1.0)
            self.norm.fill_(1.0)
            if not s.tied:
                self.head.zero_()
        return self

    def hidden(
        self,
        tokens_BL: Tensor,
        docs_BL: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        run_block: BlockFn | None = None,
    ) -> Tensor:
        """Stream after the final norm, [B,L,D] in `dtype`. `docs_BL` numbers the documents of a row from 1 (0 =
        padding); None takes every row as one document. `run_block` is `block_forward` or a compiled form of it."""
        if docs_BL is None:
            docs_BL = torch.ones_like(tokens_BL, dtype=torch.int32)
        start_BL = document_starts(docs_BL)
        seen = {w: visible(start_BL, w) for w in {layer.window for layer in self.spec.layer_specs}}
        at_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        rot = rotation(at_L, self.spec.head_dim, self.spec.rope_theta)
        x = F.embedding(tokens_BL, self.embed).to(dtype)
        for block in self.blocks:
            x = (run_block or block_forward)(block, x, rot, seen[block.layer.window])
        return rms_norm(x, self.norm, self.spec.norm_eps)

    def logits(self, x: Tensor) -> Tensor:
        """Scores [..., V] of a normalised stream [..., D]."""
        return F.linear(x, self.head_weight.to(x.dtype))

    def forward(self, tokens_BL: Tensor, docs_BL: Tensor | None = None) -> Tensor:
        """Scores [B,L,V] in fp32."""
        return self.logits(self.hidden(tokens_BL, docs_BL)).float()
