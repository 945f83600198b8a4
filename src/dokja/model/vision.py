"""The vision tower: patches of images in, features of the text's width out (Qwen2.5-VL, arXiv 2502.13923 section 2.1,
with grouped-query attention as in EXAONE 4.5).

    legend   P patches, W tower width, D text width, F ffn width, H query heads, G key heads, K head width, m merge
             S segments of one length, N patches of a segment, M = P / m^2 tokens of the text

| parameter              | shape          | init                          |
|------------------------|----------------|-------------------------------|
| patch_weight           | [W, C*tp*p*p]  | normal, std (C*tp*p*p)^-1/2   |
| blocks.i.norm1, norm2  | [W]            | one                           |
| blocks.i.qkv_weight    | [(H+2G)K, W]   | normal, std W^-1/2            |
| blocks.i.up_weight     | [2F, W]        | normal, std W^-1/2            |
| blocks.i.out_weight    | [W, W]         | zero                          |
| blocks.i.down_weight   | [W, F]         | zero                          |
| merger_norm            | [W]            | one                           |
| merger_up_weight       | [m²W, m²W]     | normal, std (m²W)^-1/2        |
| merger_down_weight     | [D, m²W]       | normal, std (m²W)^-1/2 times that of the text's embedding |
| every bias             |                | zero                          |

Patches lie in the order of `text.images`: the m x m patches of a token together. Blocks named in `full` let every patch
of a frame see the whole frame, the others the patches of its window; frames and images never see one another. For that
the patches are sorted by window once, so that windows and frames are both runs of neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.errors import DataError
from dokja.model.block import Rotation, rotate
from dokja.model.norm import rms_norm
from dokja.model.spec import VisionSpec
from dokja.model.swiglu import swiglu
from dokja.text.images import Grid, ImageConfig, Patches, fit

THETA = 10000.0
"""Base of the rotary frequencies."""


@dataclass(frozen=True)
class Images:
    """Images of a batch, one after the other."""

    values: Tensor
    """[P, C*tp*p*p]"""
    grids: tuple[Grid, ...]

    @classmethod
    def of(cls, images: Sequence[Patches], device: torch.device | str = "cpu") -> Images:
        """Joins images, at least one, and brings them to a device."""
        values = torch.from_numpy(np.concatenate([i.values for i in images])).to(device)
        return cls(values, tuple(i.grid for i in images))


@dataclass(frozen=True)
class Segments:
    """Runs of patches that see one another, grouped by length so that a group is one attention call."""

    groups: tuple[tuple[int, int], ...]
    """(segments, patches of each)"""
    order: Tensor | None
    """[P] which patch comes where among the groups; None when they lie so already"""
    back: Tensor | None
    """[P] its inverse"""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Segments:
        """Runs of these lengths, in order."""
        n = np.asarray(lengths)
        kinds, counts = np.unique(n, return_counts=True)
        groups = tuple((int(c), int(k)) for k, c in zip(kinds, counts, strict=True))
        if (np.diff(n) >= 0).all():
            return cls(groups, None, None)
        starts = np.cumsum(n) - n
        order = np.concatenate([(starts[n == k][:, None] + np.arange(k)).ravel() for k in kinds])
        to = functools.partial(torch.as_tensor, device=device)
        return cls(groups, to(order), to(np.argsort(order)))


@dataclass(frozen=True)
class Layout:
    """What all blocks share about a batch of images."""

    order: Tensor
    """[M] tokens sorted by window"""
    back: Tensor
    """[M] its inverse"""
    rot: Rotation
    """of the sorted patches"""
    windows: Segments
    frames: Segments


@functools.lru_cache(maxsize=512)
def _windows(grid: Grid, merge: int, side: int) -> tuple[np.ndarray, list[int], np.ndarray]:
    """One image's tokens sorted by windows of side x side tokens -> order [M], tokens of each window, and place_P2:
    row and column of every sorted patch."""
    t, h, w = grid[0], grid[1] // merge, grid[2] // merge
    frame, row, column = (a.ravel() for a in np.indices((t, h, w)))
    window = (frame * -(-h // side) + row // side) * -(-w // side) + column // side
    order = np.argsort(window, kind="stable")
    _, lengths = np.unique(window, return_counts=True)
    inner = np.stack([a.ravel() for a in np.indices((merge, merge))], axis=1)
    corner = np.stack((row, column), axis=1)[order] * merge
    return order, lengths.tolist(), (corner[:, None] + inner).reshape(-1, 2)


@functools.lru_cache(maxsize=16)
def layout(grids: tuple[Grid, ...], spec: VisionSpec, device: torch.device) -> Layout:
    """The layout of a batch of images of these grids."""
    with torch.inference_mode(False):  # it is kept: what sampling made must serve training as well
        return _layout(grids, spec, device)


def _layout(grids: tuple[Grid, ...], spec: VisionSpec, device: torch.device) -> Layout:
    unit, side = spec.merge**2, spec.window // spec.patch // spec.merge
    parts = [_windows(grid, spec.merge, side) for grid in grids]
    counts = np.array([len(order) for order, _, _ in parts])
    order = np.concatenate([o + at for (o, _, _), at in zip(parts, np.cumsum(counts) - counts, strict=True)])
    to = functools.partial(torch.as_tensor, device=device)
    k = torch.arange(0, spec.head_dim // 2, 2, dtype=torch.float32, device=device)
    freq = 1.0 / THETA ** (k / (spec.head_dim // 2))
    angle = (to(np.concatenate([place for _, _, place in parts]))[..., None] * freq).flatten(-2)  # rows, then columns
    windows = [n * unit for _, lengths, _ in parts for n in lengths]
    frames = list(chain.from_iterable([h * w] * t for t, h, w in grids))
    return Layout(
        to(order),
        to(np.argsort(order)),
        (angle.cos(), angle.sin()),
        Segments.of(windows, device),
        Segments.of(frames, device),
    )


def training_flops(pixels: Iterable[np.ndarray], spec: VisionSpec, text_width: int) -> tuple[float, float]:
    """FLOPs of training on images [H,W,3]: of the matrices (6 per weight that a patch meets, the merger's per token),
    and of attention (12 per pair of patches that see one another and feature)."""
    config, s = ImageConfig.of(spec), spec
    block = s.width * (2 * s.width + 2 * s.kv_heads * s.head_dim + 3 * s.ffn)
    merged, side = s.width * s.merge**2, s.window // s.patch // s.merge
    matrices = attention = 0.0
    for height, width in (fit(image.shape[0], image.shape[1], config) for image in pixels):
        h, w = height // s.patch, width // s.patch
        matrices += 6 * h * w * (s.patch_values * s.width + s.layers * block)
        matrices += 6 * h * w // s.merge**2 * merged * (merged + text_width)
        _, lengths, _ = _windows((1, h, w), s.merge, side)
        windows = sum((n * s.merge**2) ** 2 for n in lengths)
        attention += 12 * s.width * (len(s.full) * (h * w) ** 2 + (s.layers - len(s.full)) * windows)
    return matrices, attention


def attend_segments(q_PHK: Tensor, k_PGK: Tensor, v_PGK: Tensor, seen: Segments) -> Tensor:
    """Attention of every patch to all patches of its segment, scale K^-0.5 -> o[P,H,K]."""
    qkv = (q_PHK, k_PGK, v_PGK)
    if seen.order is not None:
        qkv = (q_PHK[seen.order], k_PGK[seen.order], v_PGK[seen.order])
    done, start = [], 0
    for count, length in seen.groups:
        rows = slice(start, start + count * length)
        q, k, v = (x[rows].unflatten(0, (count, length)).transpose(1, 2) for x in qkv)
        o_SHNK = F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])
        done.append(o_SHNK.transpose(1, 2).flatten(0, 1))
        start = rows.stop
    o_PHK = torch.cat(done) if len(done) > 1 else done[0]
    return o_PHK if seen.back is None else o_PHK[seen.back]


class TowerBlock(nn.Module):
    """One layer: attention, then SwiGLU, both pre-norm and with biases."""

    def __init__(self, spec: VisionSpec):
        super().__init__()
        self.spec = spec
        w, f, rows = spec.width, spec.ffn, (spec.heads + 2 * spec.kv_heads) * spec.head_dim
        self.norm1 = nn.Parameter(torch.empty(w))
        self.norm2 = nn.Parameter(torch.empty(w))
        self.qkv_weight = nn.Parameter(torch.empty(rows, w))
        self.qkv_bias = nn.Parameter(torch.empty(rows))
        self.out_weight = nn.Parameter(torch.empty(w, w))
        self.out_bias = nn.Parameter(torch.empty(w))
        self.up_weight = nn.Parameter(torch.empty(2 * f, w))
        self.up_bias = nn.Parameter(torch.empty(2 * f))
        self.down_weight = nn.Parameter(torch.empty(w, f))
        self.down_bias = nn.Parameter(torch.empty(w))


def enter(block: TowerBlock, x_PW: Tensor, rot: Rotation) -> tuple[Tensor, Tensor, Tensor]:
    """What a block does before its attention: x[P,W] -> q[P,H,K], k[P,G,K], v[P,G,K]."""
    s = block.spec
    qkv = _linear(rms_norm(x_PW, block.norm1, s.norm_eps), block.qkv_weight, block.qkv_bias)
    q, k, v = qkv.unflatten(-1, (-1, s.head_dim)).split([s.heads, s.kv_heads, s.kv_heads], dim=-2)
    return rotate(q, rot), rotate(k, rot), v


def leave(block: TowerBlock, x_PW: Tensor, o_PHK: Tensor) -> Tensor:
    """What a block does after its attention: x[P,W], o[P,H,K] -> x[P,W]."""
    x_PW = x_PW + _linear(o_PHK.flatten(-2), block.out_weight, block.out_bias)
    y = swiglu(_linear(rms_norm(x_PW, block.norm2, block.spec.norm_eps), block.up_weight, block.up_bias))
    return x_PW + _linear(y, block.down_weight, block.down_bias)


Halves = tuple[Callable[..., tuple[Tensor, Tensor, Tensor]], Callable[..., Tensor]]
HALVES: Halves = (enter, leave)
"""The two halves of a block. A trainer compiles them; attention between them changes its shapes with every batch."""


class Tower(nn.Module):
    """The vision transformer and the merger to `text_width` features."""

    def __init__(self, spec: VisionSpec, text_width: int):
        super().__init__()
        self.spec = spec
        w, merged = spec.width, spec.width * spec.merge**2
        self.patch_weight = nn.Parameter(torch.empty(w, spec.patch_values))
        self.blocks = nn.ModuleList(TowerBlock(spec) for _ in range(spec.layers))
        self.merger_norm = nn.Parameter(torch.empty(w))
        self.merger_up_weight = nn.Parameter(torch.empty(merged, merged))
        self.merger_up_bias = nn.Parameter(torch.empty(merged))
        self.merger_down_weight = nn.Parameter(torch.empty(text_width, merged))
        self.merger_down_bias = nn.Parameter(torch.empty(text_width))

    def init_weights(self, gen: torch.Generator, scale: float = 1.0) -> None:
        """Fills every parameter by the table above; `scale` is the std of the text's embedding."""
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.ndim == 1:
                    p.fill_(0.0 if name.endswith("_bias") else 1.0)
                elif name.endswith((".out_weight", ".down_weight")):
                    p.zero_()
                else:
                    std = p.shape[1] ** -0.5 * (scale if name == "merger_down_weight" else 1.0)
                    p.normal_(0.0, std, generator=gen)

    def forward(
        self, values: Tensor, grids: Sequence[Grid], dtype: torch.dtype = torch.float32, halves: Halves = HALVES
    ) -> Tensor:
        """values[P, C*tp*p*p] of images with these grids -> features [M, D] in `dtype`, image after image. `halves` are
        HALVES or compiled forms of them.

        Raises DataError where the grids do not describe the values.
        """
        s, grids = self.spec, tuple(grids)
        if sum(t * h * w for t, h, w in grids) != len(values) or any(h % s.merge or w % s.merge for _, h, w in grids):
            raise DataError(
                f"Images of {list(grids)} patches do not fit {len(values)} patches that merge {s.merge} x {s.merge}. "
                "Cut them with the image config of this model."
            )
        if values.shape[1] != s.patch_values:
            raise DataError(
                f"A patch of these images holds {values.shape[1]} numbers, and this model reads {s.patch_values}. "
                "Cut them with the image config of this model."
            )
        plan = layout(grids, s, values.device)
        x_PW = F.linear(values.to(dtype), self.patch_weight.to(dtype))
        x_PW = x_PW.unflatten(0, (-1, s.merge**2))[plan.order].flatten(0, 1)
        for i, block in enumerate(cast("list[TowerBlock]", list(self.blocks))):
            q, k, v = halves[0](block, x_PW, plan.rot)
            o = attend_segments(q, k, v, plan.frames if i in s.full else plan.windows)
            x_PW = halves[1](block, x_PW, o)
        y = rms_norm(x_PW, self.merger_norm, s.norm_eps).view(-1, s.width * s.merge**2)
        y = F.gelu(_linear(y, self.merger_up_weight, self.merger_up_bias))
        return _linear(y, self.merger_down_weight, self.merger_down_bias)[plan.back]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))
