"""What a model's bits per byte are held against: a compressor, and counting bytes.

    xz      `xz -9` of the held-out bytes alone: it has seen nothing else, but may look back over all of them
    ngram   the next byte from the four before it, counted in the training text, backing off to shorter contexts

Both read raw UTF-8, so a Hangul syllable is three bytes to predict. Neither needs torch.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

START = 256
"""The symbol that fills the context before the first byte of a document; it is never predicted."""
SYMBOL_BITS = 9
LARGEST_ORDER = 7
"""Seven symbols of nine bits fit into one 64-bit key."""
BLOCK = 1 << 22
"""Bytes counted at a time: about 150 MB of working memory."""


def xz_bits_per_byte(data: bytes) -> float:
    """Bits per byte of `data` in the .xz format at preset 9, headers included; 0 for no data."""
    return 8 * len(lzma.compress(data, preset=9)) / len(data) if data else 0.0


@dataclass(frozen=True)
class _Level:
    """Counts of one order. A key packs its symbols, the predicted byte lowest, so that keys of a context adjoin."""

    keys: np.ndarray
    """uint64, ascending"""
    counts: np.ndarray
    contexts: np.ndarray
    """uint64, ascending: the keys without their lowest symbol"""
    totals: np.ndarray
    """sum of `counts` by context"""
    kinds: np.ndarray
    """different bytes seen after each context"""
    discount: float

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray) -> _Level:
        of_key = keys >> np.uint64(SYMBOL_BITS)
        first = _first_of_runs(of_key)
        totals = np.add.reduceat(counts, first, dtype=np.int64) if len(keys) else counts
        once, twice = (int(np.count_nonzero(counts == n)) for n in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        return cls(keys, counts, of_key[first], totals, np.diff(first, append=len(keys)), discount)

    def probability(self, keys: np.ndarray, backed_off: np.ndarray) -> np.ndarray:
        """p(byte | context) of packed keys, given p under the context that is one symbol shorter."""
        if not len(self.keys):
            return backed_off
        at, seen = _find(self.contexts, keys >> np.uint64(SYMBOL_BITS))
        place, known = _find(self.keys, keys)
        counted = np.where(known, np.maximum(self.counts[place] - self.discount, 0.0), 0.0)
        mixed = (counted + self.discount * self.kinds[at] * backed_off) / self.totals[at]
        return np.where(seen, mixed, backed_off)


class ByteNgram:
    """An interpolated Kneser-Ney model over bytes; made by `ByteNgram.train`.

        p(c | h) = (max(N(hc) - D, 0) + D · kinds(h) · p(c | h without its first symbol)) / N(h ·)

    down to 1/256 for every byte. N counts occurrences at the highest order and, below it, the different symbols that
    stand before hc; kinds(h) is the number of different bytes after h; D = n1 / (n1 + 2 n2) of each order, n1 and n2
    being the numbers of grams with N = 1 and 2. Source: Kneser and Ney 1995, interpolated as in Chen and Goodman
    1998 (section 2.7).

    Probabilities of the 256 bytes sum to 1 after any context. Documents are kept apart: the first bytes of each are
    predicted from a start symbol. The end of a document is not predicted.
    """

    def __init__(self, levels: list[_Level], order: int, training_bytes: int) -> None:
        """levels: from order 1 up."""
        self._levels, self.order, self.training_bytes = levels, order, training_bytes

    @classmethod
    def train(cls, documents: Iterable[bytes], order: int = 5) -> ByteNgram:
        """Counts `documents`; order 5 is a context of four bytes. ValueError for an order outside of 1..7.

        Takes about four seconds and 0.3 GB for 100 MB of text on one core.
        """
        if not 1 <= order <= LARGEST_ORDER:
            raise ValueError(f"order {order} is not within 1..{LARGEST_ORDER}")
        keys, counts = np.zeros(0, np.uint64), np.zeros(0, np.uint32)
        size = 0
        for block in _grams(documents, order):
            size += len(block)
            keys, counts = _merge(keys, counts, *_counted(block))
        levels = [_Level.of(keys, counts)]
        for shorter in range(order - 1, 0, -1):
            mask = np.uint64((1 << SYMBOL_BITS * shorter) - 1)
            keys, counts = _counted(keys & mask)
            levels.insert(0, _Level.of(keys, counts))
        return cls(levels, order, size)

    def bits(self, documents: Iterable[bytes]) -> float:
        """Bits that all bytes of `documents` cost together."""
        return -sum(float(np.log2(self._probability(keys)).sum()) for keys in _grams(documents, self.order))

    def bits_per_byte(self, data: bytes) -> float:
        """Bits per byte of one document; 0 for no data."""
        return self.bits([data]) / len(data) if data else 0.0

    def probabilities(self, context: bytes) -> np.ndarray:
        """p [256] of every next byte in a document that begins with `context`; only its last bytes matter."""
        symbols = [START] * self.order + list(context)
        key = 0
        for symbol in symbols[len(symbols) - (self.order - 1) :]:
            key = key << SYMBOL_BITS | symbol
        return self._probability(np.uint64(key << SYMBOL_BITS) | np.arange(256, dtype=np.uint64))

    def _probability(self, keys: np.ndarray) -> np.ndarray:
        """p of the last byte of each packed gram."""
        different, place = np.unique(keys, return_inverse=True)
        p = np.full(len(different), 1 / 256)
        for shorter, level in enumerate(self._levels, 1):
            p = level.probability(different & np.uint64((1 << SYMBOL_BITS * shorter) - 1), p)
        return p[place]


def _grams(documents: Iterable[bytes], order: int) -> Iterator[np.ndarray]:
    """The packed gram (uint64) that ends at each byte of `documents`, about `BLOCK` at a time."""
    start = np.full(order - 1, START, dtype=np.uint16)
    waiting: list[np.ndarray] = []
    size = 0
    for document in documents:
        waiting.append(start)
        for at in range(0, len(document), BLOCK):
            part = np.frombuffer(document, np.uint8)[at : at + BLOCK].astype(np.uint16)
            waiting.append(part)
            size += len(part)
            if size >= BLOCK:
                symbols = np.concatenate(waiting)
                yield _packed(symbols, order)
                waiting, size = [symbols[len(symbols) - (order - 1) :]], 0
    if size:
        yield _packed(np.concatenate(waiting), order)


def _packed(symbols: np.ndarray, order: int) -> np.ndarray:
    """Keys of all windows of `order` symbols that end in a byte; the first window ends at symbol `order` - 1."""
    count = len(symbols) - (order - 1)
    keys = np.zeros(count, dtype=np.uint64)
    for n in range(order):
        keys <<= np.uint64(SYMBOL_BITS)
        keys |= symbols[n : n + count]
    return keys[symbols[order - 1 :] != START]


def _first_of_runs(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    new = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(different keys in order, how often each occurs); as np.unique, which also sorts what need not be kept."""
    keys = np.sort(keys)
    first = _first_of_runs(keys)
    return keys[first], np.diff(first, append=len(keys)).astype(np.uint32)


def _merge(
    keys: np.ndarray, counts: np.ndarray, new_keys: np.ndarray, new_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of two ordered tables."""
    at, known = _find(keys, new_keys)
    counts[at[known]] += new_counts[known]
    fresh = ~known
    before = np.searchsorted(keys, new_keys[fresh])
    return np.insert(keys, before, new_keys[fresh]), np.insert(counts, before, new_counts[fresh])


def _find(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a valid place for each of `wanted`, whether it is really there)."""
    if not len(ordered):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return at, ordered[at] == wanted
