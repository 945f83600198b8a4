"""Attention over packed documents: one function, three ways to compute it.

    attend(q_BLHK, k_BLGK, v_BLGK, visible(start_BL, window), window) -> o_BLHK

A query sees the keys of its own document, not after itself, and at most `window` of them counting itself (the
same rule as transformers' sliding mask). `start_BL` holds, per token, the index in the row of its document's
first token.

| backend | where | how |
|---|---|---|
| native | CPU with a C++ compiler, head widths 16..128 | model/native/attention.cpp, only pairs that exist |
| flex   | CUDA | torch FlexAttention with a block mask, inside the compiled layer |
| sdpa   | everywhere else, and the reference in tests | dense boolean mask |
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.model.native.build import load

NATIVE_WIDTHS = (16, 32, 48, 64, 80, 96, 128)
_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}


def document_starts(docs_BL: Tensor) -> Tensor:
    """start_BL (int32): index of the first token of each token's document; padding (0) stands alone."""
    length = docs_BL.shape[1]
    at_L = torch.arange(length, dtype=torch.int32, device=docs_BL.device)
    new_BL = torch.ones_like(docs_BL, dtype=torch.bool)
    new_BL[:, 1:] = (docs_BL[:, 1:] != docs_BL[:, :-1]) | (docs_BL[:, 1:] == 0)
    return torch.where(new_BL, at_L, 0).cummax(dim=1).values.to(torch.int32)


def allowed(start_BL: Tensor, window: int | None) -> Tensor:
    """Dense mask_B1LL, True where the query (row) sees the key (column)."""
    at = torch.arange(start_BL.shape[1], device=start_BL.device)
    mask = (at[None, None, :] >= start_BL[:, :, None]) & (at[None, :] <= at[:, None])[None]
    if window:
        mask &= (at[:, None] - at[None, :] < window)[None]
    return mask[:, None]


def sdpa(q: Tensor, k: Tensor, v: Tensor, start_BL: Tensor, window: int | None) -> Tensor:
    """Dense-mask attention through torch; shapes as `attend`."""
    o = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=allowed(start_BL, window), enable_gqa=True
    )
    return o.transpose(1, 2)


@functools.cache
def _make_block_mask() -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask)


def visible(start_BL: Tensor, window: int | None) -> Any:
    """What `attend` needs to know of a batch for one window: the starts themselves on a CPU, a BlockMask on a GPU.

    Made once a batch and shared by all layers of that window.
    """
    if start_BL.device.type != "cuda":
        return start_BL
    return _make_block_mask()(_seen(start_BL, window), len(start_BL), None, *[start_BL.shape[1]] * 2, device="cuda")


def _seen(start_BL: Tensor, window: int | None) -> Any:
    """The rule as FlexAttention asks for it: a function of (batch, head, query, key)."""

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        ok = (k >= start_BL[b, q]) & (k <= q)
        return ok & (q - k < window) if window else ok

    return seen


def flex(q: Tensor, k: Tensor, v: Tensor, block_mask: Any) -> Tensor:
    """FlexAttention under a block mask of `visible`; fast inside torch.compile only."""
    from torch.nn.attention.flex_attention import flex_attention

    o = flex_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), block_mask=block_mask, enable_gqa=True)
    assert isinstance(o, Tensor)
    return o.transpose(1, 2)


# --- native ---------------------------------------------------------------------------------------------------


_compiled_here: bool | None = None


def prepare(device: torch.device) -> None:
    """Compiles the kernel ahead of a torch.compile trace, which could not follow the build."""
    global _compiled_here
    if _compiled_here is None and device.type == "cpu":
        _compiled_here = load("attention") is not None


def native_ready(q: Tensor) -> bool:
    """Whether the C++ kernel can take this query tensor."""
    if q.device.type != "cpu" or q.dtype not in _SUFFIX or q.shape[-1] not in NATIVE_WIDTHS:
        return False
    if _compiled_here is None:
        prepare(q.device)
    return bool(_compiled_here)


def _packed(x: Tensor) -> Tensor:
    """x[B,L,N,K] as the kernel reads it: heads side by side, rows one stride apart (slices of fused qkv qualify)."""
    b, length, _, width = x.shape
    s = x.stride()
    if s[3] == 1 and s[2] == width and (b == 1 or s[0] == length * s[1]):
        return x
    return x.contiguous()


def _call(direction: str, tensors: list[Tensor], strided: list[Tensor], window: int) -> None:
    q, k = strided[0], strided[1]
    batch, length, heads, width = q.shape
    strides = (ctypes.c_int64 * 3)(*(t.stride(1) for t in strided))
    fn = getattr(load("attention"), f"dokja_attention_{direction}_{_SUFFIX[q.dtype]}")
    sizes = [ctypes.c_int64(n) for n in (batch, length, heads, k.shape[2], width, window)]
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    fn(*pointers, strides, *sizes, ctypes.c_float(width**-0.5))


@torch.library.custom_op("dokja::attention", mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor, start: Tensor, window: int) -> tuple[Tensor, Tensor]:
    q, k, v = _packed(q), _packed(k), _packed(v)
    o = torch.empty(q.shape, dtype=q.dtype)
    lse = torch.empty(q.shape[:3], dtype=torch.float32)
    _call("forward", [q, k, v, o, lse, start.contiguous()], [q, k, v], window)
    return o, lse


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, start: Tensor, window: int) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("dokja::attention_backward", mutates_args=())
def _attention_backward(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, go: Tensor, lse: Tensor, start: Tensor, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v, go = _packed(q), _packed(k), _packed(v), go.contiguous()
    grads = [torch.empty(t.shape, dtype=t.dtype) for t in (q, k, v)]
    _call("backward", [q, k, v, o, go, lse, start.contiguous(), *grads], [q, k, v], window)
    return grads[0], grads[1], grads[2]


@_attention_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, go: Tensor, lse: Tensor, start: Tensor, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, start, ctx.window = inputs
    ctx.save_for_backward(q, k, v, output[0], output[1], start)


def _backward(ctx: Any, go: Tensor, _: Tensor) -> tuple[Any, ...]:
    q, k, v, o, lse, start = ctx.saved_tensors
    return *torch.ops.dokja.attention_backward(q, k, v, o, go, lse, start, ctx.window), None, None


_attention.register_autograd(_backward, setup_context=_setup)


def native(q: Tensor, k: Tensor, v: Tensor, start_BL: Tensor, window: int | None) -> Tensor:
    """The C++ kernel; fp32 inside, fp32 or bf16 outside."""
    return torch.ops.dokja.attention(q, k, v, start_BL, window or 0)[0]


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Any, window: int | None) -> Tensor:
    """Causal attention inside documents, scale K^-0.5; `seen` comes from `visible`. See the table above."""
    if not isinstance(seen, Tensor):
        return flex(q, k, v, seen)
    return native(q, k, v, seen, window) if native_ready(q) else sdpa(q, k, v, seen, window)
