"""The decoder and the sampler in C++ (`model/native/decode.cpp`): fp32 on the CPU, where there is a compiler.

`Native` is what `Forward` does in one call instead of dozens, on the same cache. Matrices are packed: 32 outputs side
by side, so that a step reads them in order. The packed copies follow the model: whoever changes its parameters in
place while no sequence is running, such as an optimiser, need not say so. Results do not depend, not by a bit, on
batch mates, chunks or threads.

    legend   R rows (tokens), B sequences, L tokens of each, D width, V vocabulary
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.engine.kv import Cache, LayerCache
from dokja.model.attention import NATIVE_WIDTHS
from dokja.model.block import Block
from dokja.model.decoder import Decoder
from dokja.model.native.build import load

_PANEL = 32  # outputs side by side; as in decode.cpp
_BLOCK = 24  # most rows that one thread takes through the layers together; as in decode.cpp
_LARGEST = 128_000_000  # parameters: beyond, a second copy of the matrices and one thread a row cost too much
_LAYER = ("qkv", "out", "up", "down", "q_norm", "k_norm", "attn_norm", "ffn_norm", "kv")
_MODEL = ("embed", "norm", "head", "turns", "layer", "embed_norm", "hidden_norm", "fc", "mtp_norm", "mtp")
_SIZES = ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "vocab", "slots", "pre", "gated")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in _LAYER),
        *((n, ctypes.c_int64) for n in ("capacity", "window", "rope")),
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
        self._parameters = list(model.parameters())
        # Fused optimisers change parameters without counting it, so only frozen ones can be trusted to say so.
        self._counted = not any(p.requires_grad or p.is_inference() for p in self._parameters)
        self._weights: list[tuple[int, int]] = []  # as they were packed
        self._caches: list[int] = []  # as the structs know them
        self._layouts: dict[tuple[int, int, int], tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def of(cls, model: Decoder, cache: Cache, turns: Tensor) -> Native | None:
        """The native path, or None where torch's kernels must do: other devices and dtypes, odd or large shapes."""
        s = model.spec
        usual = s.head_dim in NATIVE_WIDTHS and s.width % 16 == s.ffn % 16 == 0 and s.params <= _LARGEST
        usual = usual and s.moe is None and not any(s.clamp)
        if cache.device != "cpu" or cache.dtype != torch.float32 or not usual or (library := load("decode")) is None:
            return None
        return cls(model, cache, turns, library)

    def begin(self, first: int) -> None:
        """Prompts are about to be read into the slots from `first` on, here or by torch.

        Where nothing was running, the model may have been trained since.
        """
        if first == 0:
            now = [(p.data_ptr(), p._version) for p in self._parameters] if self._counted else []
            if not now or now != self._weights:
                self._weights, self._caches = now, []

    def _refresh(self) -> None:
        """Packs the weights again where `begin` says so or a layer's cache has grown."""
        caches = [*self._cache.layers, self._cache.mtp] if self._cache.mtp else self._cache.layers
        state = [cache.kv.data_ptr() for cache in caches]
        if state == self._caches:
            return
        m, spec = self._model, self._model.spec
        self._packed = [pack(m.head_weight)]
        self._layers = (_Layer * len(m.blocks))(*map(self._layer, m.blocks, self._cache.layers))
        where = [*pointers(m.embed, m.norm, self._packed[0], self._turns), ctypes.addressof(self._layers)]
        if self._cache.mtp:
            mtp = m.mtp
            self._packed.append(pack(mtp.fc_weight))
            where += pointers(mtp.embed_norm, mtp.hidden_norm, self._packed[-1], mtp.norm)
            self._mtp = self._layer(mtp.block, self._cache.mtp)
            where.append(ctypes.addressof(self._mtp))
        else:
            where += [None] * 5
        flags = (self._cache.slots, spec.norm == "pre", spec.activation == "swiglu")
        self._struct = _Model(*where, *(getattr(spec, n) for n in _SIZES[:7]), *flags, spec.norm_eps)
        self._caches = state

    def _layer(self, block: Block, cache: LayerCache) -> _Layer:
        matrices = [pack(w) for w in (block.qkv_weight, block.out_weight, block.up_weight, block.down_weight)]
        self._packed += matrices
        norms = [block.q_norm, block.k_norm] if block.spec.qk_norm else [None, None]
        where = pointers(*matrices, *norms, block.attn_norm, block.ffn_norm, cache.kv)
        return _Layer(*where, cache.capacity, block.layer.window or 0, block.layer.rope)

    def _run(self, rows: Sequence[Tensor], first: Tensor, scored: int, hidden: Tensor | None) -> Tensor:
        """rows: token, slot, position and row of the scores (or -1), int64 [R] each; task t is first[t]..first[t+1].

        With a multi-token head `hidden` [scored, D] takes the stack's normed output of the rows that are scored.
        """
        self._refresh()
        vocab, rows = self._model.spec.vocab, [row.contiguous() for row in rows]
        scores_BV = torch.empty(scored, -(-vocab // _PANEL) * _PANEL)
        self._library.dokja_decode(
            ctypes.byref(self._struct), *pointers(*rows, first), ctypes.c_int64(len(first) - 1),
            *pointers(scores_BV), ctypes.c_int64(scores_BV.shape[1]), *pointers(hidden),
        )  # fmt: skip
        return scores_BV[:, :vocab]

    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts into the slots from `first` on, one thread a prompt -> scores_BV after each."""
        lengths, count = torch.tensor([len(p) for p in prompts]), len(prompts)
        bounds = F.pad(lengths.cumsum(0), (1, 0))
        token = torch.tensor(list(chain.from_iterable(prompts)))
        slot = torch.arange(first, first + count).repeat_interleave(lengths)
        position = torch.arange(len(token)) - bounds[:-1].repeat_interleave(lengths)
        score = torch.full_like(token, -1)
        score[bounds[1:] - 1] = torch.arange(count)
        hidden = None if self._cache.hidden is None else self._cache.hidden[first:]
        return self._run([token, slot, position, score], bounds, count, hidden)

    def decode(self, tokens_BL: Tensor, position_BL: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Adds tokens_BL at position_BL to the sequences in slots 0..n-1 -> scores [B*L, V].

        `hidden` [B*L, D] takes the stack's normed output of every row where there is a multi-token head.
        """
        slot, score, first = self._layout(*tokens_BL.shape)
        return self._run([tokens_BL, slot, position_BL, score], first, len(score), hidden)

    def draft(self, tokens_B: Tensor, position_B: Tensor, hidden: Tensor, depth: int) -> Tensor:
        """The multi-token head's best `depth` tokens [B, depth] after tokens_B at position_B of the sequences in slots
        0..n-1; hidden [slots, D] is the stack's output at the tokens before them."""
        self._refresh()
        slot, _, first = self._layout(len(tokens_B), 1)
        drafts = torch.empty(len(tokens_B), depth, dtype=torch.int64)
        self._library.dokja_draft(
            ctypes.byref(self._struct), *pointers(tokens_B, slot, position_B, first), ctypes.c_int64(len(first) - 1),
            *pointers(hidden), ctypes.c_int64(depth), *pointers(drafts),
        )  # fmt: skip
        return drafts

    def _layout(self, n: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Slots and numbers of n * length rows, and the first rows of the tasks: those of a sequence stay together."""
        threads = torch.get_num_threads()
        if (n, length, threads) not in self._layouts:
            row = torch.arange(n * length)
            tasks = min(n, threads * -(-n * length // (threads * _BLOCK)))
            self._layouts[n, length, threads] = row // length, row, torch.arange(tasks + 1) * n // tasks * length
        return self._layouts[n, length, threads]
