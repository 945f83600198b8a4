"""Documents laid into rows of `seq_len` input slots, so that every target token is trained exactly once an epoch.

A document of n tokens makes n - 1 (input, target) pairs; a piece is a run of pairs, and the piece (document, start,
length) reads tokens start .. start + length - 1 and predicts start + 1 .. start + length. A document with more than
`seq_len` pairs is cut into full pieces and a rest. Consecutive pieces share one token: the last target of the one is
the first input of the next, so no target is lost at a cut.

Placing is best-fit (each piece goes where it leaves least room) over a seeded shuffle with at most `OPEN_ROWS` rows
open, after "Fewer Truncations Improve Language Modeling" (Ding et al. 2024), who sort by length instead: a shuffle
with a bounded buffer keeps long and short documents mixed and needs one pass. The cost is one short Python step per
document, none per token.
"""

from dataclasses import dataclass

import numpy as np

from dokja.data.shuffle import permutation

OPEN_ROWS = 256
PACKING_VERSION = 1
"""Raised when the same arguments would give other rows; part of the loader's fingerprint."""


@dataclass(frozen=True)
class Rows:
    """One epoch. Row r holds the pieces row_offsets[r] : row_offsets[r + 1], from slot 0 on without gaps."""

    row_offsets: np.ndarray
    """int64, one more than there are rows"""
    doc: np.ndarray
    """int32, index of the piece's document"""
    start: np.ndarray
    """int32, first token of the piece inside its document"""
    length: np.ndarray
    """int32, input tokens of the piece"""
    seq_len: int

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def fill(self) -> float:
        """Share of slots that hold a token."""
        return float(self.length.sum(dtype=np.int64)) / max(1, len(self) * self.seq_len)


def pack(lengths: np.ndarray, seq_len: int, seed: int, epoch: int) -> Rows:
    """Rows for documents of `lengths` tokens (fewer than two tokens make no pair and no piece). Pure; the order of
    the rows is random, so the pieces of one long document lie far apart."""
    doc, start, length = _pieces(np.asarray(lengths), seq_len)
    order = permutation(len(doc), "pieces", seed, epoch)
    row = np.empty(len(doc), dtype=np.int64)
    row[order], count = _best_fit(length[order].tolist(), seq_len)
    place = permutation(count, "rows", seed, epoch)
    row = place[row]
    by_row = order[np.argsort(row[order], kind="stable")]
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=count), out=offsets[1:])
    return Rows(offsets, doc[by_row], start[by_row], length[by_row], seq_len)


def _pieces(lengths: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(document, start, length) of every piece, in the order of the documents."""
    pairs = np.maximum(lengths.astype(np.int64) - 1, 0)
    pieces = -(-pairs // seq_len)
    doc = np.repeat(np.arange(len(lengths), dtype=np.int32), pieces)
    nth = np.arange(len(doc)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = nth * seq_len
    length = np.minimum(pairs[doc] - start, seq_len)
    return doc, start.astype(np.int32), length.astype(np.int32)


def _best_fit(lengths: list[int], seq_len: int) -> tuple[np.ndarray, int]:
    """Row of each piece, and the number of rows."""
    by_room: list[list[int]] = [[] for _ in range(seq_len + 1)]
    rooms = 0  # bit n is set while some open row has exactly n free slots: the best fit is one shift and one low bit
    row_of, rows, open_rows = [], 0, 0
    for length in lengths:
        fits = rooms >> length
        if fits:
            room = length + (fits & -fits).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = seq_len, rows
            rows += 1
            open_rows += 1
        row_of.append(row)
        room -= length
        if room == 0:
            open_rows -= 1
            continue
        by_room[room].append(row)
        rooms |= 1 << room
        if open_rows > OPEN_ROWS:  # close the fullest
            room = (rooms & -rooms).bit_length() - 1
            by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
            open_rows -= 1
    return np.array(row_of, dtype=np.int64), rows
