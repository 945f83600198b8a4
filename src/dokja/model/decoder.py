"""The decoder: one class for every shape that `ModelSpec` can describe.

Features: local/global attention by pattern string or list, GQA, RMS QK-norm, RoPE on local layers and none on global
ones (on purpose), pre or post norm, SwiGLU (clamped where the spec says so) or ReLU^2, a mixture of experts
(`model.moe`), a head that predicts two tokens ahead (`model.mtp`), images (`model.vision`), tied or own output
matrix. Matrix products run in the dtype of the input `x` (bf16 in mixed precision), norms, rotations and the loss in
fp32; parameters are fp32 masters while training.

    legend   B rows, L tokens a row, T = B*L, D width, H query heads, G key heads, K head width, F ffn width, V vocab

| parameter              | shape          | init                                     |
|------------------------|----------------|------------------------------------------|
| embed                  | [V, D]         | normal, std 1 (post norm) or 0.02 (pre)  |
| layers.i.qkv_weight    | [(H+2G)K, D]   | normal, std D^-1/2                       |
| layers.i.qkv_bias      | [(H+2G)K]      | zero; only where the spec asks for it    |
| layers.i.out_weight    | [D, HK]        | normal, std (HK)^-1/2; zero with pre norm|
| layers.i.up_weight     | [2F or F, D]   | normal, std D^-1/2                       |
| layers.i.down_weight   | [D, F]         | normal, std F^-1/2; zero with pre norm   |
| layers.i.moe.*         | see model.moe  | as up and down                           |
| layers.i.q_norm,k_norm | [K]            | one                                      |
| layers.i.attn_norm     | [D]            | post: (2*layers)^-1/2, pre: one          |
| layers.i.ffn_norm      | [D]            | post: (2*layers)^-1/2, pre: one          |
| norm                   | [D]            | one                                      |
| head                   | [V, D]         | zero; absent when tied                   |
| mtp.*, vision.*        | see there      |                                          |

`up_weight` holds gate then up rows, `qkv_weight` holds q, k, v rows: one product instead of two or three.
Pre-norm layers start as the identity (zero `out`, `down`); post-norm layers cannot (their output is normalised),
so their gains start small and the residual stream keeps the embedding's scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.errors import DataError
from dokja.model.attention import document_starts, visible
from dokja.model.block import Block, BlockFn, Rotation, block_forward, rotation
from dokja.model.moe import Routing
from dokja.model.mtp import Mtp
from dokja.model.norm import rms_norm
from dokja.model.spec import ModelSpec
from dokja.model.vision import Images, Tower


@dataclass(frozen=True)
class Rows:
    """What all layers share about a batch of rows: where documents begin, and the rotations."""

    seen: dict[int | None, Any]
    """by window; see `model.attention.visible`"""
    rot: Rotation


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
        if spec.mtp:
            self.mtp = Mtp(spec)
        if spec.vision:
            self.vision = Tower(spec.vision, spec.width)

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
        std = 1.0 if s.norm == "post" and not s.tied else 0.02
        with torch.no_grad():
            self.embed.normal_(0.0, std, generator=gen)
            for block in self.blocks:
                block.init_weights(gen)
            self.norm.fill_(1.0)
            if not s.tied:
                self.head.zero_()
            if s.mtp:
                self.mtp.init_weights(gen)
            if s.vision:
                self.vision.init_weights(gen, std)
        return self

    def rows(self, tokens_BL: Tensor, docs_BL: Tensor | None = None) -> Rows:
        """The layout of a batch. `docs_BL` numbers the documents of a row from 1 (0 = padding); None takes every row
        as one document."""
        if docs_BL is None:
            docs_BL = torch.ones_like(tokens_BL, dtype=torch.int32)
        start_BL = document_starts(docs_BL)
        windows = {layer.window for layer in self.spec.layer_specs}
        if self.spec.mtp:
            windows.add(self.spec.mtp.window)
        at_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        return Rows({w: visible(start_BL, w) for w in windows}, rotation(at_L, self.spec))

    def embedded(self, tokens: Tensor, dtype: torch.dtype = torch.float32, images: Images | None = None) -> Tensor:
        """Tokens of any shape [...] -> the stream that enters the first layer, [..., D].

        Places that hold `spec.vision.image_token` take the features of `images`, in order. Raises DataError where they
        are not as many as the features.
        """
        x = F.embedding(tokens, self.embed).to(dtype)
        return x if images is None else self.placed(x, tokens, self.features(images, dtype))

    def features(self, images: Images, dtype: torch.dtype = torch.float32) -> Tensor:
        """What the images' places hold, [M, D] in `dtype`. Raises DataError where this model cannot see."""
        if self.spec.vision is None:
            raise DataError(
                "This model has no vision tower and cannot take images. Remove them or name a vision model."
            )
        return self.vision(images.values, images.grids, dtype)

    def placed(self, x: Tensor, tokens: Tensor, features_MD: Tensor) -> Tensor:
        """The stream x[..., D] with the features of images at their places, which `tokens` [...] tell."""
        assert self.spec.vision is not None
        places = tokens == self.spec.vision.image_token
        if (count := int(places.sum())) != len(features_MD):
            raise DataError(
                f"The tokens keep {count} places for images whose features take {len(features_MD)}. "
                "Expand each image's marker to its token_count, and give the images in the same order."
            )
        return x.masked_scatter(places[..., None], features_MD)

    def stack(
        self, x_BLD: Tensor, rows: Rows, run_block: BlockFn = block_forward, routings: list[Routing] | None = None
    ) -> Tensor:
        """All layers and the final norm, [B,L,D] in the dtype of `x`. `run_block` is `block_forward` or a compiled
        form of it; `routings` receives what each layer with experts decided."""
        for block in self.blocks:
            x_BLD, routing = run_block(block, x_BLD, rows.rot, rows.seen[block.layer.window])
            if routings is not None and routing is not None:
                routings.append(routing)
        return rms_norm(x_BLD, self.norm, self.spec.norm_eps)

    def hidden(
        self,
        tokens_BL: Tensor,
        docs_BL: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        images: Images | None = None,
    ) -> Tensor:
        """Stream after the final norm, [B,L,D] in `dtype`; `docs_BL` as in `rows`, `images` as in `embedded`."""
        return self.stack(self.embedded(tokens_BL, dtype, images), self.rows(tokens_BL, docs_BL))

    def logits(self, x: Tensor) -> Tensor:
        """Scores [..., V] of a normalised stream [..., D]."""
        return F.linear(x, self.head_weight.to(x.dtype))

    def forward(self, tokens_BL: Tensor, docs_BL: Tensor | None = None, images: Images | None = None) -> Tensor:
        """Scores [B,L,V] in fp32."""
        return self.logits(self.hidden(tokens_BL, docs_BL, images=images)).float()
