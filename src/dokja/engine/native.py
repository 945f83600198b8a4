"""The decoder and the sampler in C++ (`model/native/decode.cpp`): fp32 on the CPU, where there is a compiler.

`Native` is what `Forward` does in one call instead of dozens, on the same cache. Matrices are packed: 32 outputs side
by side, so that a step reads them in order. The packed copies follow the model: whoever changes its parameters in
place while no sequence is running, such as an optimiser, need not say so. Results do not depend, not by a bit, on
batch mates, chunks or threads.

    legend   R rows (tokens), B sequences, V vocabulary
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.engine.kv import Cache
from dokja.model.attention import NATIVE_WIDTHS
from dokja.model.decoder import Decoder
from dokja.model.native.build import load

_PANEL = 32  # outputs side by side; as in decode.cpp
_BLOCK = 24  # most rows that one thread takes through the layers together; as in decode.cpp
_LARGEST = 128_000_000  # parameters: beyond, a second copy of the matrices and one thread a row cost too much
_LAYER = ("qkv", "out", "up", "down", "q_norm", "k_norm", "attn_norm", "ffn_norm", "kv")
_MODEL = ("embed", "norm", "head", "turns", "layer")
_SIZES = ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "vocab", "slots", "pre", "gated")


class _Layer(ctypes.Structure):
    _fields_ = [*((n, ctypes.c_void_p) for n in _LAYER), ("capacity", ctypes.c_int64), ("rope", ctypes.c_int64)]


class _Model(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in _MODEL),
        *((n, ctypes.c_int64) for n in _SIZES),
        ("eps", ctypes.c_float),
    ]


def pack(w_ND: Tensor) -> Tensor:
    """A matrix as decode.cpp reads it: [N/32, D, 32], zeros behind the last output."""
    return F.pad(w_ND.detach(), (0, 0, 0, -len(w_ND) % _PANEL)).unflatten(0, (-1, _PANEL)).transpose(1, 2).contiguous()


def pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    """Addresses of contiguous tensors, which the caller keeps alive."""
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]


class Native:
    """A model and its cache as decode.cpp sees them."""

    def __init__(self, model: Decoder, cache: Cache, turns: Tensor, library: ctypes.CDLL):
        self._model, self._cache, self._turns, self._library = model, cache, turns, library
        self._parameters = list(model.parameters())
        # Fused optimisers change parameters without counting it, so only frozen ones can be trusted to say so.
        self._counted = not any(p.requires_grad or p.is_inference() for p in self._parameters)
        self._state: list[tuple[int, int]] = []
        self._rows = torch.arange(cache.slots)

    @classmethod
    def of(cls, model: Decoder, cache: Cache, turns: Tensor) -> Native | None:
        """The native path, or None where torch's kernels must do: other devices and dtypes, odd or large shapes."""
        s = model.spec
        usual = s.head_dim in NATIVE_WIDTHS and s.width % 16 == s.ffn % 16 == 0 and s.params <= _LARGEST
        usual = usual and s.moe is None and not any(s.clamp)
        if cache.device != "cpu" or cache.dtype != torch.float32 or not usual or (library := load("decode")) is None:
            return None
        return cls(model, cache, turns, library)

    def _refresh(self) -> None:
        """Packs the weights again where a parameter or a layer's cache has changed since."""
        state = [(p.data_ptr(), p._version if self._counted else 0) for p in self._parameters]
        state += [(layer.kv.data_ptr(), 0) for layer in self._cache.layers]
        if state == self._state:
            return
        m, spec, layers = self._model, self._model.spec, []
        self._packed = [pack(m.head_weight)]
        for block, cache in zip(m.blocks, self._cache.layers, strict=True):
            matrices = [pack(w) for w in (block.qkv_weight, block.out_weight, block.up_weight, block.down_weight)]
            self._packed += matrices
            norms = [block.q_norm, block.k_norm] if spec.qk_norm else []
            a, b, c, d, *rest = pointers(*matrices, *norms, block.attn_norm, block.ffn_norm, cache.kv)
            rest = rest if norms else [ctypes.c_void_p(), ctypes.c_void_p(), *rest]
            layers.append(_Layer(a, b, c, d, *rest, cache.capacity, block.layer.rope))
        sizes = [getattr(spec, n) for n in _SIZES[:7]]
        flags = (self._cache.slots, spec.norm == "pre", spec.activation == "swiglu")
        self._layers = (_Layer * len(layers))(*layers)
        where = pointers(m.embed, m.norm, self._packed[0], self._turns)
        self._struct = _Model(*where, ctypes.addressof(self._layers), *sizes, *flags, spec.norm_eps)
        self._state = state

    def _run(self, rows: Sequence[Tensor], first: Tensor, scored: int) -> Tensor:
        """rows: token, slot, position and row of the scores (or -1), int64 [R] each; task t is first[t]..first[t+1]."""
        self._refresh()
        vocab = self._model.spec.vocab
        scores_BV = torch.empty(scored, -(-vocab // _PANEL) * _PANEL)
        self._library.dokja_decode(
            ctypes.byref(self._struct), *pointers(*rows, first), ctypes.c_int64(len(first) - 1),
            *pointers(scores_BV), ctypes.c_int64(scores_BV.shape[1]),
        )  # fmt: skip
        return scores_BV[:, :vocab]

    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts into the slots from `first` on, one thread a prompt -> scores_BV after each."""
        if first == 0 and not self._counted:
            self._state = []  # nothing was running, so the model may have been trained since
        lengths, count = torch.tensor([len(p) for p in prompts]), len(prompts)
        bounds = F.pad(lengths.cumsum(0), (1, 0))
        token = torch.tensor(list(chain.from_iterable(prompts)))
        slot = torch.arange(first, first + count).repeat_interleave(lengths)
        position = torch.arange(len(token)) - bounds[:-1].repeat_interleave(lengths)
        score = torch.full_like(token, -1)
        score[bounds[1:] - 1] = torch.arange(count)
        return self._run([token, slot, position, score], bounds, count)

    def decode(self, tokens_B: Tensor, position_B: Tensor) -> Tensor:
        """Adds tokens_B at position_B to the sequences in slots 0..n-1 -> scores_BV."""
        n, threads = len(tokens_B), torch.get_num_threads()
        tasks = min(n, threads * -(-n // (threads * _BLOCK)))
        rows = self._rows[:n]
        return self._run([tokens_B, rows, position_B, rows], torch.arange(tasks + 1) * n // tasks, n)
