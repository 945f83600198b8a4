"""The decoder in C++ (`model/native/decode.cpp`): fp32 on the CPU, where there is a compiler.

`Native` is what `Forward` does in one call instead of dozens, on the same cache. Matrices are packed: 32 outputs side
by side, so that a step reads them in order; `renew` packs them again. Results do not depend, not by a bit, on batch
mates, chunks, threads or the pages that a sequence has.

    legend   R rows (tokens), N of them scored, B sequences, D width, V vocabulary
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.engine.kv import Cache, LayerCache
from dokja.model.attention import NATIVE_WIDTHS
from dokja.model.block import Block
from dokja.model.decoder import Decoder
from dokja.model.native.build import load

_PANEL = 32  # outputs side by side; as in decode.cpp
_LARGEST = 128_000_000  # parameters: beyond, a second copy of the matrices and one thread a row cost too much
_LAYER = ("qkv", "out", "up", "down", "qkv_bias", "q_norm", "k_norm", "attn_norm", "ffn_norm", "kv", "table")
_MODEL = ("embed", "norm", "head", "turns", "layer", "embed_norm", "hidden_norm", "fc", "mtp_norm", "mtp")
_SIZES = ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "vocab", "pre", "gated")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in _LAYER),
        *((n, ctypes.c_int64) for n in ("table_ld", "window", "rope")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in _MODEL),
        *((n, ctypes.c_int64) for n in _SIZES),
        ("eps", ctypes.c_float),
    ]


def pack(w_ND: Tensor) -> Tensor:
    """A matrix as decode.cpp reads it: [N/32, D, 32], zeros behind the last output."""
    return F.pad(w_ND.detach(), (0, 0, 0, -len(w_ND) % _PANEL)).unflatten(0, (-1, _PANEL)).transpose(1, 2).contiguous()


def pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    """Addresses of contiguous tensors, which the caller keeps alive; null for None."""
    return [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]


class Native:
    """A model and its cache as decode.cpp sees them."""

    def __init__(self, model: Decoder, cache: Cache, turns: Tensor, library: ctypes.CDLL):
        self._model, self._cache, self._turns, self._library = model, cache, turns, library
        self._packed: list[Tensor] = []
        self._caches: list[int] = []  # as the structs know them

    @classmethod
    def of(cls, model: Decoder, cache: Cache, turns: Tensor) -> Native | None:
        """The native path, or None where torch's kernels must do: other devices and dtypes, odd or large shapes."""
        s = model.spec
        usual = s.head_dim in NATIVE_WIDTHS and s.width % 16 == s.ffn % 16 == 0 and s.params <= _LARGEST
        usual = usual and s.moe is None and not any(s.clamp)
        if cache.device != "cpu" or cache.dtype != torch.float32 or not usual or (library := load("decode")) is None:
            return None
        return cls(model, cache, turns, library)

    def renew(self) -> None:
        """The parameters have changed, or may have: they are packed anew before the next step."""
        self._packed, self._caches = [], []

    def _refresh(self) -> None:
        """Tells the kernel where the weights are, and the caches, which move when they grow."""
        caches = [*self._cache.layers, self._cache.mtp] if self._cache.mtp else self._cache.layers
        state = [cache.kv.data_ptr() for cache in caches]
        if state == self._caches:
            return
        m, spec, mtp = self._model, self._model.spec, self._cache.mtp
        blocks = [*m.blocks, m.mtp.block] if mtp else m.blocks
        if not self._packed:
            matrices = [w for b in blocks for w in (b.qkv_weight, b.out_weight, b.up_weight, b.down_weight)]
            self._packed = [pack(w) for w in (*matrices, m.head_weight, *([m.mtp.fc_weight] if mtp else []))]
        head, fc = self._packed[4 * len(blocks)], self._packed[-1]
        rows = [self._layer(b, self._packed[4 * i : 4 * i + 4], caches[i]) for i, b in enumerate(blocks)]
        self._layers = (_Layer * len(rows))(*rows)
        where = [*pointers(m.embed, m.norm, head, self._turns), ctypes.addressof(self._layers)]
        if mtp:
            where += pointers(m.mtp.embed_norm, m.mtp.hidden_norm, fc, m.mtp.norm)
            where.append(ctypes.addressof(self._layers) + spec.layers * ctypes.sizeof(_Layer))
        else:
            where += [None] * 5
        flags = (spec.norm == "pre", spec.activation == "swiglu")
        self._struct = _Model(*where, *(getattr(spec, n) for n in _SIZES[:7]), *flags, spec.norm_eps)
        self._caches = state

    def _layer(self, block: Block, matrices: Sequence[Tensor], cache: LayerCache) -> _Layer:
        norms = [block.q_norm, block.k_norm] if block.spec.qk_norm else [None, None]
        bias = block.qkv_bias if block.spec.qkv_bias else None
        where = pointers(*matrices, bias, *norms, block.attn_norm, block.ffn_norm, cache.kv, cache.table)
        return _Layer(*where, cache.table.stride(0), block.layer.window or 0, block.layer.rope)

    def run(
        self, rows: Sequence[Tensor], scored: int, hidden: Tensor | None = None, after: Tensor | None = None
    ) -> Tensor:
        """rows: token, slot (a row of the tables), position, and row of the scores (or -1), int64 [R] each -> scores
        [N, V]. The rows of a sequence stand together and in order.

        With a multi-token head, `hidden` [N, D] takes the stack's normed output of the rows that are scored, and
        `after` [R] is the token behind each row; where that is not known yet, `draft` sets it right.
        """
        self._refresh()
        vocab, rows = self._model.spec.vocab, [row.contiguous() for row in rows]
        scores_NV = torch.empty(scored, -(-vocab // _PANEL) * _PANEL)
        self._library.dokja_decode(
            ctypes.byref(self._struct), *pointers(*rows, after), *_sizes(len(rows[0]), torch.get_num_threads()),
            *pointers(scores_NV), *_sizes(scores_NV.shape[1]), *pointers(hidden),
        )  # fmt: skip
        return scores_NV[:, :vocab]

    def draft(self, token_B: Tensor, slot_B: Tensor, position_B: Tensor, hidden: Tensor, depth: int) -> Tensor:
        """The multi-token head's best `depth` tokens [B, depth] after token_B at position_B of the sequences in slot_B;
        hidden [slots, D] is the stack's output at the tokens before them."""
        self._refresh()
        drafts = torch.empty(len(token_B), depth, dtype=torch.int64)
        self._library.dokja_draft(
            ctypes.byref(self._struct), *pointers(token_B, slot_B, position_B),
            *_sizes(len(token_B), torch.get_num_threads()), *pointers(hidden), *_sizes(depth), *pointers(drafts),
        )  # fmt: skip
        return drafts


def _sizes(*numbers: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(n) for n in numbers]
