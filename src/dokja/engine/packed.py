"""Matrices in 16, 8 or 4 bits, in the order in which `model/native/wide.cpp` reads them (see matrix.h)."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
from torch import Tensor

from dokja.engine.native import pointers

Bits = Literal["bf16", "int8", "int4"]
PANEL, GROUP = 32, 32  # outputs side by side; inputs with one scale
_KINDS: dict[Bits, int] = {"bf16": 0, "int8": 1, "int4": 2}  # as in matrix.h
_BLOCK4 = 576
_AHEAD = 8192  # bytes behind the last panel that the kernel may fetch, without a use for them
_HUGE = 14  # MADV_HUGEPAGE


class Matrix(ctypes.Structure):
    """As in matrix.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        *((n, ctypes.c_int64) for n in ("n", "N", "kind")),
    ]


class Packed:
    """A matrix [N, n] as the kernel reads it."""

    def __init__(self, library: ctypes.CDLL, w_Nn: Tensor, bits: Bits):
        rows, n = w_Nn.shape
        panels = -(-rows // PANEL)
        size = panels * {"bf16": n * 64, "int8": n * 32, "int4": n // GROUP * _BLOCK4}[bits]
        self.bytes = size
        raw = torch.empty(size + _AHEAD + 64, dtype=torch.uint8)
        _huge_pages(raw)
        self._data = raw[-raw.data_ptr() % 64 :]
        self._scale = torch.zeros(panels * PANEL)
        source = w_Nn.detach().float().contiguous()
        sizes = [ctypes.c_int64(x) for x in (rows, n, _KINDS[bits])]
        library.dokja_pack(*pointers(source), *sizes, *pointers(self._data, self._scale))
        self.struct = Matrix(self._data.data_ptr(), self._scale.data_ptr(), n, rows, _KINDS[bits])


def _huge_pages(x: Tensor) -> None:
    """Asks the kernel for large pages, which spare the processor most look-ups of addresses."""
    try:
        start = -(-x.data_ptr() // 4096) * 4096
        madvise = ctypes.CDLL(None).madvise
        madvise(ctypes.c_void_p(start), ctypes.c_size_t((x.data_ptr() + x.numel() - start) // 4096 * 4096), _HUGE)
    except (OSError, AttributeError):
        pass
