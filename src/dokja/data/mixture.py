"""Which source a global row comes from, in O(1) and without state.

Rows are dealt in blocks of `BLOCK`. Each block gives every source the same number of rows (its share of the weights,
rounded by largest remainder, at least one), spread evenly over the block by a seeded jitter: any stretch of rows is
close to the weights, and a source's n-th row is found by counting whole blocks.
"""

from functools import lru_cache

import numpy as np

from dokja.data.shuffle import uniform
from dokja.errors import ConfigError

BLOCK = 4096


class Mixture:
    """Weights are shares of rows, thus nearly of tokens; only their ratios matter."""

    def __init__(self, weights: list[float], seed: int) -> None:
        if not weights or not all(0 < w < float("inf") for w in weights):
            raise ConfigError(f"Mixture weights {weights} must be above zero. Leave a source out to give it nothing.")
        if len(weights) > BLOCK // 4:
            raise ConfigError(f"{len(weights)} sources are more than the {BLOCK // 4} a mixture can deal. Join some.")
        self.per_block = _shares(np.array(weights, dtype=np.float64))
        self._block = lru_cache(maxsize=2)(lambda block: _deal(self.per_block, seed, block))

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(source, index of the row among the rows of this source) of each global row; int64 both."""
        source = np.empty(len(rows), dtype=np.int64)
        index = np.empty(len(rows), dtype=np.int64)
        blocks, places = np.divmod(np.asarray(rows, dtype=np.int64), BLOCK)
        for block in np.unique(blocks).tolist():
            here = blocks == block
            dealt, nth = self._block(block)
            source[here] = dealt[places[here]]
            index[here] = nth[places[here]] + block * self.per_block[source[here]]
        return source, index


def _shares(weights: np.ndarray) -> np.ndarray:
    """Rows of each source per block, summing to BLOCK."""
    exact = weights / weights.sum() * BLOCK
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    rest = BLOCK - int(counts.sum())
    if rest >= 0:
        counts[np.argsort(np.floor(exact) - exact, kind="stable")[:rest]] += 1
    for _ in range(-rest):  # very small sources were lifted to one row: the largest pay for it
        counts[np.argmax(counts)] -= 1
    return counts


def _deal(per_block: np.ndarray, seed: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """For each place of a block: the source, and how many rows of this source the block has dealt before."""
    source = np.repeat(np.arange(len(per_block)), per_block)
    nth = np.arange(BLOCK) - np.repeat(np.cumsum(per_block) - per_block, per_block)
    order = np.argsort((nth + uniform(BLOCK, "mixture", seed, block)) / per_block[source], kind="stable")
    return source[order], nth[order]
