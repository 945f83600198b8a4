"""The decoder over cached sequences: `prefill` reads prompts, `decode` adds one token to every running sequence.

With drafts, `draft` asks the multi-token head how each sequence goes on, `verify` adds the newest token and the drafts
in one pass, and `accept` says how many of them stayed.

All go through the same `Block.qkv` and `Block.finish` as training; only attention differs, since its keys come from the
cache. Results agree with the full forward to rounding, for any chunk size and any batch mates. Small fp32 models on a
CPU go through one C++ call a step instead (`engine.native`), but for prompts with images, which are read here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.engine.kv import Cache
from dokja.engine.native import Native
from dokja.engine.packed import Bits
from dokja.engine.wide import Wide
from dokja.model.block import Block, rotation
from dokja.model.decoder import Decoder
from dokja.model.norm import rms_norm
from dokja.model.vision import Images
from dokja.text.images import Patches


def in_dtype(model: Decoder, dtype: torch.dtype, device: str) -> Decoder:
    """The model with its matrices in `dtype` and its gains as they were, which is how training multiplies.

    A model that is so already, on its own device, is used as it is, not copied.
    """
    fits = all(p.dtype == dtype for p in model.parameters() if p.ndim > 1)
    if not fits or torch.device(device) != model.embed.device:
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


@dataclass(frozen=True)
class _Sight:
    """Features of the images in some prompts."""

    places_BL: Tensor
    """where the prompts hold an image's token"""
    index_BL: Tensor
    """which of the features belongs there"""
    features_MD: Tensor

    def placed(self, x_BLD: Tensor, columns: slice) -> Tensor:
        """The stream of the first rows at these columns, with the features in it."""
        rows = len(x_BLD)
        places = self.places_BL[:rows, columns]
        return x_BLD.masked_scatter(places[..., None], self.features_MD[self.index_BL[:rows, columns][places]])


class Forward:
    """A model with its caches. Callers hold `torch.inference_mode`."""

    def __init__(
        self,
        model: Decoder,
        slots: int,
        dtype: torch.dtype,
        device: str,
        chunk: int,
        ahead: int = 0,
        weights: Bits | None = None,
    ):
        """`chunk`: the most tokens of one prompt in one pass. `ahead`: the most drafts of a sequence in one step.
        `weights`: see `engine.wide`; they need bf16."""
        self.model, self.spec, self.dtype, self.device = in_dtype(model, dtype, device), model.spec, dtype, device
        self.chunk = chunk
        self._blocks = cast("list[Block]", list(self.model.layers))
        self.cache = Cache(self.spec, slots, dtype, device, ahead)
        # The stack's output at the rows of the last `verify`
        self._verified = torch.zeros(slots * (ahead + 1), self.spec.width, dtype=dtype, device=device)
        positions = torch.arange(self.spec.context + ahead, device=device)
        self._turns = torch.cat(rotation(positions, self.spec), dim=-1)  # cos, sin
        self._native: Native | Wide | None = (
            Wide.of(self.model, self.cache, self._turns, weights)
            if weights
            else Native.of(self.model, self.cache, self._turns)
        )

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

    def prefill(self, first: int, prompts: Sequence[Sequence[int]], images: Sequence[Sequence[Patches]] = ()) -> Tensor:
        """Reads prompts, longest first, into the slots from `first` on -> logits_BV after the last token of each.

        `images` of every prompt, in order, where any has some.
        """
        lengths = [len(p) for p in prompts]
        longest = lengths[0]
        if lengths != sorted(lengths, reverse=True):
            raise ValueError("prompts must come longest first")
        self.cache.reserve(longest)
        shown = [image for row in images for image in row]
        if self._native is not None:
            self._native.begin(first)
            if not shown:
                return self._native.prefill(first, prompts)
        padded = [[*p, *[0] * (longest - len(p) + 1)] for p in prompts]
        tokens_BL = torch.tensor(padded, device=self.device)
        ends_B = torch.tensor(lengths, device=self.device)
        last_BD = torch.empty(len(prompts), self.spec.width, dtype=self.dtype, device=self.device)
        sight = self._sight(tokens_BL, shown) if shown else None
        for start in range(0, longest, self.chunk):
            rows = sum(n > start for n in lengths)  # shorter prompts are through
            stop = min(start + self.chunk, longest)
            done = sum(n > stop for n in lengths)
            x = self._chunk(first, tokens_BL[:rows, start : stop + 1], start, ends_B[:rows].clamp(max=stop), sight)
            if done < rows:
                at = ends_B[done:rows] - 1 - start
                last_BD[done:rows] = x[torch.arange(done, rows, device=self.device), at]
        if self.cache.hidden is not None:
            self.cache.hidden[first : first + len(prompts)] = last_BD
        return self.model.logits(last_BD).float()

    def _sight(self, tokens_BL: Tensor, images: Sequence[Patches]) -> _Sight:
        """Features of the images, and where in the prompts they belong."""
        assert self.spec.vision is not None
        places_BL = tokens_BL == self.spec.vision.image_token
        index_BL = places_BL.flatten().cumsum(0).view_as(tokens_BL) - 1
        return _Sight(places_BL, index_BL, self.model.features(Images.of(images, self.device), self.dtype))

    def _chunk(self, first: int, tokens_BL: Tensor, start: int, ends_B: Tensor, sight: _Sight | None = None) -> Tensor:
        """One chunk of the prompts in the slots from `first` on, and the token after it -> normed stream x[B,L,D]."""
        length = tokens_BL.shape[1] - 1
        cos, sin = self._turns[start : start + length].chunk(2, dim=-1)
        masks = self._masks(start, length)
        embedded = self.model.embedded(tokens_BL, self.dtype)
        if sight is not None:
            embedded = sight.placed(embedded, slice(start, start + length + 1))
        x = embedded[:, :-1].contiguous()  # products of rows that lie apart are slower
        for block, cache in zip(self._blocks, self.cache.layers, strict=True):
            q, k, v = block.qkv(x, (cos, sin))
            keys, values = cache.extend(first, k, v, start, ends_B)
            x, _ = block.finish(x, cached_attention(q, keys, values, masks[cache.window]))
        x = rms_norm(x, self.model.norm, self.spec.norm_eps)
        if self.cache.mtp is not None:  # keys and values are all that later drafts need of these positions
            _, k, v = self.model.mtp.block.qkv(self.model.mtp.enter(x, embedded[:, 1:]), (cos, sin))
            self.cache.mtp.extend(first, k, v, start, ends_B)
        return x

    def decode(self, tokens_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """Adds tokens_B at position_B to the sequences in slots 0..n-1 -> logits_BV.

        `longest` is the length of the longest of them, this token included.
        """
        self.cache.reserve(longest)
        if self._native is not None:
            return self._native.decode(tokens_B[:, None], position_B)
        return self.model.logits(self._step(tokens_B[:, None], position_B[:, None], longest)[:, 0]).float()

    def verify(self, tokens_BL: Tensor, position_BL: Tensor, longest: int) -> Tensor:
        """Adds the newest token of each sequence and its drafts, at position_BL -> logits [B*L, V] after each of them.

        `longest` counts the drafts as well. `accept` must follow.
        """
        self.cache.reserve(longest)
        if self._native is not None:
            return self._native.decode(tokens_BL, position_BL, self._verified)
        x = self._step(tokens_BL, position_BL, longest)
        if self.cache.mtp is not None:
            # The drafts stand for the tokens after each; what is refused is written anew before it is seen, and so is
            # the last row, whose next token is not known yet.
            self._verified[: x.shape[0] * x.shape[1]] = x.flatten(0, 1)
            at = self.cache.places(position_BL, longest, [self.cache.mtp])[self.cache.mtp.window]
            after = self.model.embedded(tokens_BL.roll(-1, dims=1), self.dtype)
            _, k, v = self.model.mtp.block.qkv(self.model.mtp.enter(x, after), self._rotation(position_BL))
            self.cache.mtp.append(k, v, at)
        return self.model.logits(x).float().flatten(0, 1)

    def accept(self, row_B: Tensor) -> None:
        """`row_B`: the last of each sequence's rows in the last `verify` that stayed."""
        if self.cache.hidden is not None:
            torch.index_select(self._verified, 0, row_B, out=self.cache.hidden[: len(row_B)])

    def _rotation(self, position_BL: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self._turns[position_BL].chunk(2, dim=-1)
        return cos, sin

    def _step(self, tokens_BL: Tensor, position_BL: Tensor, longest: int) -> Tensor:
        """Tokens of the sequences in slots 0..n-1 through all layers -> normed stream x[B,L,D]."""
        places, rot = self.cache.places(position_BL, longest, self.cache.layers), self._rotation(position_BL)
        x = self.model.embedded(tokens_BL, self.dtype)
        for block, cache in zip(self._blocks, self.cache.layers, strict=True):
            at = places[cache.window]
            q, k, v = block.qkv(x, rot)
            keys, values = cache.append(k, v, at)
            x, _ = block.finish(x, cached_attention(q, keys, values, at.mask_B1LT))
        return rms_norm(x, self.model.norm, self.spec.norm_eps)

    def draft(self, tokens_B: Tensor, position_B: Tensor, longest: int, depth: int) -> Tensor:
        """The multi-token head's best `depth` tokens [B, depth] after tokens_B, which stand at position_B of the
        sequences in slots 0..n-1 and have not been added yet. `longest` as in `verify`."""
        mtp, cache, n = self.model.mtp, self.cache.mtp, len(tokens_B)
        assert cache is not None and self.cache.hidden is not None
        self.cache.reserve(longest)
        if self._native is not None:
            assert isinstance(self._native, Native)
            return self._native.draft(tokens_B, position_B, self.cache.hidden, depth)
        x, drafts = self.cache.hidden[:n], torch.empty(n, depth, dtype=torch.int64, device=self.device)
        for i in range(depth):
            at = position_B[:, None] + (i - 1)
            places = self.cache.places(at, longest, [cache])[cache.window]
            entered = mtp.enter(x, self.model.embedded(tokens_B, self.dtype))[:, None]
            q, k, v = mtp.block.qkv(entered, self._rotation(at))
            keys, values = cache.append(k, v, places)
            x = mtp.leave(mtp.block.finish(entered, cached_attention(q, keys, values, places.mask_B1LT))[0][:, 0])
            drafts[:, i] = tokens_B = self.model.logits(x).argmax(-1)
        return drafts
