"""Rows -> arrays. Whole batches at a time: no Python per token or per document, only per shard file touched.

Shape suffixes: B rows, L = seq_len slots.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dokja.data.packing import Rows, pack
from dokja.data.shards import ShardSet
from dokja.errors import DataError

IGNORE = -100
"""A target that bears no loss (the default `ignore_index` of cross entropy in torch)."""
PAD = 0


@dataclass(frozen=True)
class Batch:
    """tokens_BL  int64: input tokens; 0 in padding
    targets_BL int64: the next token of the same document; -100 in padding and where the target's loss flag is 0
    docs_BL    int32: number of the document inside its row, from 1; 0 is padding
    tokens     real input tokens; targets: slots that bear loss; sources: rows taken from each source
    images     for each row its images, uint8 [height, width, 3], in the order of their places; None for text alone
    """

    tokens_BL: np.ndarray
    targets_BL: np.ndarray
    docs_BL: np.ndarray
    tokens: int
    targets: int
    sources: tuple[int, ...]
    images: tuple[tuple[np.ndarray, ...], ...] | None = field(default=None, kw_only=True)


Wanted = list[tuple[ShardSet, Rows, np.ndarray, np.ndarray]]
"""(shards, plan, which rows of the plan, and in which rows of the batch they go)"""


def assemble(wanted: Wanted, rows: int, seq_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens_BL, targets_BL, docs_BL) with B = rows. Rows nobody asked for are padding."""
    tokens = np.full(rows * seq_len, PAD, dtype=np.int64)
    targets = np.full(rows * seq_len, IGNORE, dtype=np.int64)
    docs = np.zeros(rows * seq_len, dtype=np.int32)
    for shards, plan, picked, places in wanted:
        counts = plan.row_offsets[picked + 1] - plan.row_offsets[picked]
        nth = _ranges(counts)  # number of the piece inside its row
        piece = np.repeat(plan.row_offsets[picked], counts) + nth
        length = plan.length[piece].astype(np.int64)
        before = np.cumsum(length) - length  # slots used by earlier pieces of all these rows
        begin = before - np.repeat(before[np.cumsum(counts) - counts], counts) + np.repeat(places * seq_len, counts)
        doc = plan.doc[piece]
        source = shards.starts[doc] + plan.start[piece]
        files = shards.file_of(doc)
        for file in np.unique(files).tolist():
            here = files == file
            slot, token = _spans(begin[here], length[here]), _spans(source[here], length[here])
            ids = shards.token_files[file]
            tokens[slot] = ids[token]
            token += 1  # a piece never holds the last token of its document as an input, so this stays inside
            if shards.has_loss:
                targets[slot] = np.where(shards.loss_files[file][token], ids[token].astype(np.int64), IGNORE)
            else:
                targets[slot] = ids[token]
            docs[slot] = np.repeat((nth[here] + 1).astype(np.int32), length[here])
    shape = (rows, seq_len)
    return tokens.reshape(shape), targets.reshape(shape), docs.reshape(shape)


def images_of(wanted: Wanted, rows: int) -> tuple[tuple[np.ndarray, ...], ...] | None:
    """The images of every row of a batch, in order; None where no source has any."""
    if not any(shards.has_images for shards, *_ in wanted):
        return None
    found: list[tuple[np.ndarray, ...]] = [()] * rows
    for shards, plan, picked, places in wanted:
        if shards.has_images:
            for row, place in zip(picked.tolist(), places.tolist(), strict=True):
                documents = plan.doc[plan.row_offsets[row] : plan.row_offsets[row + 1]].tolist()
                found[place] = tuple(image for n in documents for image in shards.images(n))
    return tuple(found)


def make_batch(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    sources: tuple[int, ...],
    images: tuple[tuple[np.ndarray, ...], ...] | None = None,
) -> Batch:
    """The arrays of `assemble` with their counts, and what `images_of` gives."""
    tokens, targets, docs = arrays
    real, learned = int(np.count_nonzero(docs)), int(np.count_nonzero(targets != IGNORE))
    return Batch(tokens, targets, docs, real, learned, sources, images=images)


def refuse_cuts(shards: ShardSet, seq_len: int) -> None:
    """DataError where a document with images is longer than a row: a cut could part an image from its tokens."""
    longest = shards.longest_with_images
    if longest - 1 > seq_len:
        raise DataError(
            f"{shards.path} holds a conversation with images of {longest} tokens, and rows have {seq_len}. "
            f"Raise seq_len to {longest - 1}, or make the images smaller."
        )


def sweep(shards: ShardSet, seq_len: int, rows_per_batch: int, seed: int = 0) -> Iterator[Batch]:
    """Every target of `shards` exactly once, for held-out loss. All batches have `rows_per_batch` rows (shapes stay
    compiled); the last one ends in padding rows, which count neither as tokens nor in `sources`."""
    refuse_cuts(shards, seq_len)
    plan = pack(shards.lengths, seq_len, seed, epoch=0)
    for first in range(0, len(plan), rows_per_batch):
        picked = np.arange(first, min(first + rows_per_batch, len(plan)))
        wanted: Wanted = [(shards, plan, picked, picked - first)]
        yield make_batch(assemble(wanted, rows_per_batch, seq_len), (len(picked),), images_of(wanted, rows_per_batch))


def _ranges(counts: np.ndarray) -> np.ndarray:
    """0 .. n-1 for each n of counts, one after the other; int64."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def _spans(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """begin .. begin + length - 1 for each piece, one after the other; int64."""
    return np.arange(int(length.sum())) + np.repeat(begin - (np.cumsum(length) - length), length)
