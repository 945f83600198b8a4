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
from itertools import chain

import torch
from torch import Tensor

from dokja.engine.kv import Cache
from dokja.engine.native import pointers
from dokja.engine.packed import GROUP, PANEL, Bits, Matrix, Packed
from dokja.model.decoder import Decoder
from dokja.model.native.build import load

_WIDTHS = (16, 32, 64, 80, 96, 128)
_ROWS = 256  # most rows of one call: what a step remembers of a row is some tens of kilobytes


class _Layer(ctypes.Structure):
    _fields_ = [
        *((n, Matrix) for n in ("qkv", "out", "up", "down")),
        *((n, ctypes.c_void_p) for n in ("q_norm", "k_norm", "attn_norm", "ffn_norm", "kv")),
        *((n, ctypes.c_int64) for n in ("capacity", "window", "rope")),
        ("clamp", ctypes.c_float),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in ("embed", "norm", "turns")),
        ("head", Matrix),
        ("layer", ctypes.c_void_p),
        *((n, ctypes.c_int64) for n in ("layers", "D", "H", "G", "K", "F", "slots", "pre")),
        ("eps", ctypes.c_float),
    ]


class Wide:
    """A model and its cache as wide.cpp sees them."""

    def __init__(self, model: Decoder, cache: Cache, turns: Tensor, bits: Bits, library: ctypes.CDLL):
        self._cache, self._turns, self._library, self._spec = cache, turns, library, model.spec
        library.dokja_team.restype = library.dokja_memory.restype = ctypes.c_void_p
        self._team = _team(library, torch.get_num_threads())
        self._memory = ctypes.c_void_p(library.dokja_memory())
        self._embed = model.embed.detach().bfloat16().contiguous()
        last: Bits = "int8" if bits == "int4" else bits  # the output matrix decides most: it keeps eight bits
        self._head = Packed(library, model.head_weight, last)
        self._matrices = [
            [Packed(library, w, bits) for w in (b.qkv_weight, b.out_weight, b.up_weight, b.down_weight)]
            for b in model.blocks
        ]
        self._gains = [
            [None if g is None else g.detach().float() for g in (*norms, b.attn_norm, b.ffn_norm)]
            for b in model.blocks
            for norms in [(b.q_norm, b.k_norm) if model.spec.qk_norm else (None, None)]
        ]
        self._norm = model.norm.detach().float()
        self._caches: list[int] = []
        self.bytes_per_step = self._head.bytes + sum(m.bytes for row in self._matrices for m in row)
        """Bytes of weights that a step reads, however many rows it has."""

    @classmethod
    def of(cls, model: Decoder, cache: Cache, turns: Tensor, bits: Bits) -> Wide | None:
        """The low-bit path, or None where torch's kernels must do: other devices, experts, odd widths, no compiler."""
        s = model.spec
        inner = s.heads // s.kv_heads * s.head_dim
        usual = s.head_dim in _WIDTHS and not any(n % GROUP for n in (s.width, s.ffn, inner))
        usual = usual and s.activation == "swiglu" and s.moe is None and s.mtp is None and s.vision is None
        if cache.device != "cpu" or cache.dtype != torch.bfloat16 or not usual or (library := load("wide")) is None:
            return None
        return cls(model, cache, turns, bits, library)

    def __del__(self) -> None:
        if hasattr(self, "_memory"):
            self._library.dokja_forget(self._memory)

    def begin(self, first: int) -> None:
        """Prompts are about to be read; the weights were packed once and for all."""

    def _refresh(self) -> None:
        """Tells the kernel where the caches are, which move when they grow."""
        if (state := [layer.kv.data_ptr() for layer in self._cache.layers]) == self._caches:
            return
        s, rows = self._spec, []
        for spec, cache, packed, gains in zip(
            s.layer_specs, self._cache.layers, self._matrices, self._gains, strict=True
        ):
            where = pointers(*gains, cache.kv)
            matrices = (m.struct for m in packed)
            rows.append(_Layer(*matrices, *where, cache.capacity, spec.window or 0, spec.rope, spec.clamp))
        self._layers = (_Layer * len(rows))(*rows)
        sizes = (s.layers, s.width, s.heads, s.kv_heads, s.head_dim, s.ffn, self._cache.slots, s.norm == "pre")
        where = pointers(self._embed, self._norm, self._turns)
        self._struct = _Model(*where, self._head.struct, ctypes.addressof(self._layers), *sizes, s.norm_eps)
        self._caches = state

    def run(self, rows: Sequence[Tensor], scored: int) -> Tensor:
        """rows: token, slot, position and row of the scores (or -1), int64 [R] each -> scores [scored, V].

        The rows of a sequence stand together and in order.
        """
        self._refresh()
        vocab, wide = self._spec.vocab, self._head.struct.N
        scores_BV = torch.empty(scored, -(-wide // PANEL) * PANEL)
        for part in zip(*(row.contiguous().split(_ROWS) for row in rows), strict=True):
            self._library.dokja_wide(
                self._team, self._memory, ctypes.byref(self._struct), *pointers(*part), ctypes.c_int64(len(part[0])),
                *pointers(scores_BV), ctypes.c_int64(scores_BV.shape[1]),
            )  # fmt: skip
        return scores_BV[:, :vocab]

    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts into the slots from `first` on -> scores_BV after each."""
        lengths = torch.tensor([len(p) for p in prompts])
        ends = lengths.cumsum(0)
        token = torch.tensor(list(chain.from_iterable(prompts)))
        slot = torch.arange(first, first + len(prompts)).repeat_interleave(lengths)
        position = torch.arange(len(token)) - (ends - lengths).repeat_interleave(lengths)
        score = torch.full_like(token, -1)
        score[ends - 1] = torch.arange(len(prompts))
        return self.run([token, slot, position, score], len(prompts))

    def decode(self, tokens_BL: Tensor, position_BL: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Adds tokens_BL at position_BL to the sequences in slots 0..n-1 -> scores [B*L, V]."""
        n, length = tokens_BL.shape
        row = torch.arange(n * length)
        return self.run([tokens_BL.flatten(), row // length, position_BL.flatten(), row], n * length)


_teams: dict[int, ctypes.c_void_p] = {}


def _team(library: ctypes.CDLL, threads: int) -> ctypes.c_void_p:
    """The threads, shared by all engines of the process."""
    if threads not in _teams:
        _teams[threads] = ctypes.c_void_p(library.dokja_team(ctypes.c_int64(threads)))
    return _teams[threads]
