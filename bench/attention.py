"""Attention of packed documents on CPU: our kernel beside torch's, forward and backward, microseconds per token.

    python bench/attention.py [--rounds 5]

Both compute the same thing (tests/model/test_decoder.py compares values and gradients); torch's kernel is
`scaled_dot_product_attention` with a dense mask, the only form in which it takes document boundaries. The two
alternate within a round; the ratio has its median and range over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from dokja.model import attention

# rows, tokens a row, query heads, key heads, head width, window, documents a row
SHAPES = [
    (32, 256, 6, 3, 32, 128, 5),
    (32, 256, 6, 3, 32, None, 5),
    (16, 512, 8, 4, 32, None, 1),
    (4, 1024, 10, 5, 64, None, 2),
    (2, 2048, 12, 4, 64, 256, 1),
]


def microseconds(backend, shape, dtype: torch.dtype) -> float:
    """One forward and backward pass, per token."""
    b, length, heads, groups, width, window, documents = shape
    gen = torch.Generator().manual_seed(0)
    docs = torch.randint(1, documents + 1, (b, length), generator=gen).sort(-1).values
    start = attention.document_starts(docs)
    q, k, v = (
        torch.randn(b, length, n, width, generator=gen).to(dtype).requires_grad_() for n in (heads, groups, groups)
    )
    grad = torch.randn(b, length, heads, width, generator=gen).to(dtype)
    backend(q, k, v, start, window).backward(grad)
    began = time.perf_counter()
    backend(q, k, v, start, window).backward(grad)
    return (time.perf_counter() - began) / (b * length) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    attention.prepare(torch.device("cpu"))
    names = ("rows", "tokens", "heads", "kv", "width", "window", "docs", "dtype", "ours µs", "torch µs", "torch / ours")
    table = Table(*names, title="attention, forward and backward, µs per token")
    for shape in SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            pairs = [[microseconds(f, shape, dtype) for f in (attention.native, attention.sdpa)] for _ in range(rounds)]
            ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratios = sorted(b / a for a, b in pairs)
            spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f}–{ratios[-1]:.1f})"
            cells = [str(x) if x else "all" for x in shape]
            table.add_row(*cells, str(dtype).removeprefix("torch."), f"{ours:.2f}", f"{theirs:.2f}", spread)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
