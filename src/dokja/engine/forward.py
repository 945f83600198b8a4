"""The decoder over cached sequences: `prefill` reads prompts, `decode` adds one token to every running sequence.

Both go through the same `Block.qkv` and `Block.finish` as training; only attention differs, since its keys come from
the cache. Results agree with the full forward to rounding, for any chunk size and any batch mates. Small fp32 models
on a CPU go through one C++ call a step instead (`engine.native`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.engine.kv import Cache
from dokja.engine.native import Native
from dokja.model.block import Block, rotation
from dokja.model.decoder import Decoder
from dokja.model.norm import rms_norm


def in_dtype(model: Decoder, dtype: torch.dtype, device: str) -> Decoder:
    """The model with its matrices in `dtype` and its gains as they were, which is how training multiplies.

    An fp32 model on its own device is used as it is, not copied.
    """
    if dtype != torch.float32 or torch.device(device) != model.embed.device:
        model = copy.deepcopy(model).to(device)
        for p in model.parameters():
            if p.ndim > 1:
                p.data = p.data.to(dtype)
    return model


def cached_attention(q_BLHK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, mask: Tensor) -> Tensor:
    """Attention of L queries to T cached places -> o[B,L,H,K]. `mask` is added to the scores, [B or 1, 1, L, T].

    The query heads of one key head become queries of their own, so no key is copied for them. fp32 on the CPU goes
    through plain products: about twice as fast as torch's fused kernel for one query a sequence.
    """
    b, length, heads, width = q_BLHK.shape
    groups = k_BGTK.shape[1]
    shared = heads // groups
    if length == 1:
        q = q_BLHK.view(b, groups, shared, width)
    else:
        q = q_BLHK.unflatten(2, (groups, shared)).permute(0, 2, 3, 1, 4).reshape(b, groups, shared * length, width)
        mask = mask.repeat(1, 1, shared, 1)
    if length == 1 and q.dtype == torch.float32 and q.device.type == "cpu":
        scores = torch.matmul(q * width**-0.5, k_BGTK.transpose(2, 3)).add_(mask)
        return torch.matmul(scores.softmax(-1), v_BGTK).view(b, 1, heads, width)
    o = F.scaled_dot_product_attention(q, k_BGTK, v_BGTK, attn_mask=mask)
    if length == 1:
        return o.reshape(b, 1, heads, width)
    return o.unflatten(2, (shared, length)).permute(0, 3, 1, 2, 4).reshape(b, length, heads, width)


class Forward:
    """A model with its caches. Callers hold `torch.inference_mode`."""

    def __init__(self, model: Decoder, slots: int, dtype: torch.dtype, device: str, chunk: int):
        """`chunk`: the most tokens of one prompt in one pass."""
        self.model, self.spec, self.dtype, self.device = in_dtype(model, dtype, device), model.spec, dtype, device
        self.chunk = chunk
        self._blocks = cast("list[Block]", list(self.model.layers))
        self.cache = Cache(self.spec, slots, dtype, device)
        positions = torch.arange(self.spec.context, device=device)
        self._turns = torch.cat(rotation(positions, self.spec), dim=-1)  # cos, sin
        self._native = Native.of(self.model, self.cache, self._turns)

    def _masks(self, start: int, length: int) -> dict[int | None, Tensor]:
        """By window: mask[1,1,L,T] of a chunk at `start`, whose keys are the last T positions up to its end."""
        query = torch.arange(start, start + length, device=self.device)[:, None]
        made: dict[int | None, Tensor] = {}
        for window in {layer.window for layer in self.spec.layer_specs}:
            past = start if window is None else min(window - 1, start)
            key = torch.arange(start - past, start + length, device=self.device)
            hidden = key > query
            if window is not None:
                hidden |= query - key >= window
            zeros = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
            made[window] = zeros.masked_fill_(hidden, -torch.inf)[None, None]
        return made

    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts, longest first, into the slots from `first` on -> logits_BV after the last token of each."""
        lengths = [len(p) for p in prompts]
        longest = lengths[0]
        if lengths != sorted(lengths, reverse=True):
            raise ValueError("prompts must come longest first")
        self.cache.reserve(longest)
        if self._native is not None:
            return self._native.prefill(first, prompts)
        padded = [[*p, *[0] * (longest - len(p))] for p in prompts]
        tokens_BL = torch.tensor(padded, device=self.device)
        ends_B = torch.tensor(lengths, device=self.device)
        last_BD = torch.empty(len(prompts), self.spec.width, dtype=self.dtype, device=self.device)
        for start in range(0, longest, self.chunk):
            rows = sum(n > start for n in lengths)  # shorter prompts are through
            stop = min(start + self.chunk, longest)
            done = sum(n > stop for n in lengths)
            x = self._chunk(first, tokens_BL[:rows, start:stop], start, ends_B[:rows].clamp(max=stop))
            if done < rows:
                at = ends_B[done:rows] - 1 - start
                last_BD[done:rows] = x[torch.arange(done, rows, device=self.device), at]
        return self._logits(last_BD)

    def _chunk(self, first: int, tokens_BL: Tensor, start: int, ends_B: Tensor) -> Tensor:
        """One chunk of the prompts in the slots from `first` on -> stream x[B,L,D] before the final norm."""
        length = tokens_BL.shape[1]
        cos, sin = self._turns[start : start + length].chunk(2, dim=-1)
        masks = self._masks(start, length)
        x = self.model.embedded(tokens_BL, self.dtype)
        for block, cache in zip(self._blocks, self.cache.layers, strict=True):
            q, k, v = block.qkv(x, (cos, sin))
            keys, values = cache.extend(first, k, v, start, ends_B)
            x, _ = block.finish(x, cached_attention(q, keys, values, masks[cache.window]))
        return x

    def decode(self, tokens_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """Adds tokens_B at position_B to the sequences in slots 0..n-1 -> logits_BV.

        `longest` is the length of the longest of them, this token included.
        """
        self.cache.reserve(longest)
        if self._native is not None:
            return self._native.decode(tokens_B, position_B)
        places = self.cache.places(position_B, longest)
        cos, sin = self._turns.index_select(0, position_B)[:, None].chunk(2, dim=-1)
        x = self.model.embedded(tokens_B, self.dtype)[:, None]
        for block, cache in zip(self._blocks, self.cache.layers, strict=True):
            at = places[cache.capacity]
            q, k, v = block.qkv(x, (cos, sin))
            keys, values = cache.append(k, v, at)
            x, _ = block.finish(x, cached_attention(q, keys, values, at.mask_B11T))
        return self._logits(x[:, 0])

    def _logits(self, x_BD: Tensor) -> Tensor:
        return self.model.logits(rms_norm(x_BD, self.model.norm, self.spec.norm_eps)).float()
