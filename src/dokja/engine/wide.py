"""Large decoders on the CPU with weights in 16, 8 or 4 bits: `model/native/wide.cpp`, one call a step.

A step costs what reading the weights costs, so they are kept small and read once for all rows. Keys and values are
bf16. What a row gives does not depend, not by a bit, on batch mates, chunks or threads.

| weights | bits a weight | rounding                                                                      |
|---------|---------------|-------------------------------------------------------------------------------|
| bf16    | 16            | inputs to bf16                                                                |
| int8    | 8             | a scale an output; inputs to int8, a scale for 32                             |
| int4    | 4.5           | a scale for 32 inputs of an output; inputs as for int8; the output matrix int8 |

    legend   R rows (tokens), B sequences, V vocabulary
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from dokja.engine.kv import Cache
from dokja.engine.native import pointers
from dokja.engine.packed import PANEL, Matrix, PackedWeights
from dokja.model.native.build import load

_ROWS = 256  # most rows of one call: what a step remembers of a row is some tens of kilobytes


class _Layer(ctypes.Structure):
    _fields_ = [
        *((n, Matrix) for n in ("qkv", "out", "up", "down")),
        *((n, ctypes.c_void_p) for n in ("q_norm", "k_norm", "attn_norm", "ffn_norm", "qkv_bias", "kv", "table")),
        *((n, ctypes.c_int64) for n in ("table_ld", "kv_heads", "head_dim", "window", "rope")),
        ("clamp", ctypes.c_float),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in ("embed", "norm", "turns")),
        ("head", Matrix),
        ("layer", ctypes.c_void_p),
        *((n, ctypes.c_int64) for n in ("layers", "D", "H", "G", "K", "F", "pre")),
        ("eps", ctypes.c_float),
    ]


class Wide:
    """A model and its cache as wide.cpp sees them."""

    def __init__(self, weights: PackedWeights, cache: Cache, turns: Tensor, library: ctypes.CDLL):
        self._weights, self._cache, self._turns, self._library = weights, cache, turns, library
        library.dokja_team.restype = library.dokja_memory.restype = ctypes.c_void_p
        self._team = _team(library, torch.get_num_threads())
        self._memory = ctypes.c_void_p(library.dokja_memory())
        self._places: list[int] = []  # as the structs know them

    @classmethod
    def of(cls, weights: PackedWeights, cache: Cache, turns: Tensor) -> Wide:
        """The low-bit path; where `packed.obstacle` finds nothing against it, there is the library."""
        library = load("wide")
        assert library is not None and cache.dtype == torch.bfloat16
        return cls(weights, cache, turns, library)

    def __del__(self) -> None:
        if hasattr(self, "_memory"):
            self._library.dokja_forget(self._memory)

    def _refresh(self) -> None:
        """Tells the kernel where weights and caches are: those may settle once, these move when they grow."""
        w, body, s = self._weights, self._weights.body, self._weights.spec
        caches = [x.data_ptr() for layer in self._cache.layers for x in (layer.kv, layer.table)]
        if (state := [body.data_ptr(), *caches]) == self._places:
            return
        rows = []
        for i, (spec, cache) in enumerate(zip(s.layer_specs, self._cache.layers, strict=True)):
            matrices, vectors = w.layer(i)
            where, heads = pointers(*vectors, cache.kv, cache.table), (s.kv_heads, s.head_dim)
            rows.append(
                _Layer(*matrices, *where, cache.table.stride(0), *heads, spec.window or 0, spec.rope, spec.clamp)
            )
        self._layers = (_Layer * len(rows))(*rows)
        sizes = (s.layers, s.width, s.heads, s.kv_heads, s.head_dim, s.ffn, s.norm == "pre")
        where = pointers(w.embed, w.norm, self._turns)
        self._struct = _Model(*where, w.head, ctypes.addressof(self._layers), *sizes, s.norm_eps)
        self._places, self._body = state, body

    def run(self, rows: Sequence[Tensor], scored: int) -> Tensor:
        """rows: token, slot, position and row of the scores (or -1), int64 [R] each -> scores [scored, V].

        The rows of a sequence stand together and in order.
        """
        self._refresh()
        vocab, wide = self._weights.spec.vocab, self._weights.head.N
        scores_BV = torch.empty(scored, -(-wide // PANEL) * PANEL)
        for part in zip(*(row.contiguous().split(_ROWS) for row in rows), strict=True):
            self._library.dokja_wide(
                self._team, self._memory, ctypes.byref(self._struct), *pointers(*part), ctypes.c_int64(len(part[0])),
                *pointers(scores_BV), ctypes.c_int64(scores_BV.shape[1]),
            )  # fmt: skip
        return scores_BV[:, :vocab]


_teams: dict[int, ctypes.c_void_p] = {}


def _team(library: ctypes.CDLL, threads: int) -> ctypes.c_void_p:
    """The threads, shared by all engines of the process."""
    if threads not in _teams:
        _teams[threads] = ctypes.c_void_p(library.dokja_team(ctypes.c_int64(threads)))
    return _teams[threads]
