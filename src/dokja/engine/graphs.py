"""Decoding on a GPU as recordings (CUDA graphs): one launch a step in place of hundreds.

A recording has fixed shapes and addresses. So there is one for every power of two of sequences and of pages that the
longest of them has, made when it is first needed. Missing sequences are filled up with the cache's idle row, whose
table is all page 0: what they write there nobody reads with a weight. Recordings made before a cache grew are thrown
away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dokja.engine.kv import Cache
from dokja.engine.pages import PAGE, pages_for

Step = Callable[[], Tensor]


def recorded(step: Step, pool: Any) -> Step:
    """What runs `step` again, on the same addresses; `pool` is the memory that recordings share."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels before the recording; doing a step twice is harmless
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        out = step()

    def again() -> Tensor:
        graph.replay()
        return out

    return again


class Graphs:
    """Recordings of `step(tokens_B, rows_B, position_B, longest) -> logits_BV`, which must not look at values."""

    def __init__(
        self,
        step: Callable[[Tensor, Tensor, Tensor, int], Tensor],
        cache: Cache,
        idle: int,
        record: Callable[[Step, Any], Step] = recorded,
    ):
        """`idle`: a row of the cache that no sequence ever has."""
        self._step, self._cache, self._idle, self._record = step, cache, idle, record
        self._pool = torch.cuda.graph_pool_handle() if record is recorded else None
        # tokens, rows, positions: where every recording finds its input
        self._inputs = torch.zeros(3, cache.rows, dtype=torch.int64, device=cache.device)
        self._made: dict[tuple[int, int], Step] = {}
        self._where: list[int] = []

    def __call__(self, tokens_B: Tensor, rows_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """-> logits_BV, which the next call overwrites."""
        self._cache.sync()
        if (where := [layer.kv.data_ptr() for layer in self._cache.layers]) != self._where:
            self._made, self._where = {}, where
        n = len(tokens_B)
        count = min(_power(n), self._cache.rows)
        pages = min(_power(pages_for(longest)), pages_for(self._cache.room))
        tokens, rows, position = self._inputs[:, :count]
        for kept, new, filler in ((tokens, tokens_B, 0), (rows, rows_B, self._idle), (position, position_B, 0)):
            kept[:n] = new
            kept[n:] = filler
        if (count, pages) not in self._made:
            self._made[count, pages] = self._record(
                lambda: self._step(tokens, rows, position, pages * PAGE), self._pool
            )
        return self._made[count, pages]()[:n]


def _power(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << (n - 1).bit_length()
