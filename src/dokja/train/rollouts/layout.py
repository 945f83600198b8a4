"""Sampled answers laid into rows: a batch whose tokens know the sequence they belong to.

Sequences that an objective compares (the two answers of a pair) share a micro batch; everything else goes where it
fits. Suffixes: B rows, L slots of a row, S sequences, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dokja.data.batch import IGNORE, PAD, Batch
from dokja.errors import DataError


@dataclass(frozen=True)
class Sampled:
    """One sequence: a prompt and the answer to it, with what the sampling engine said of each answer token."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    logprobs: Sequence[float]
    forced: range = range(0)
    """Answer tokens that were not the policy's choice: read, never learned."""


@dataclass(frozen=True)
class SampleBatch(Batch):
    """A batch of whole sequences. Targets are the tokens the policy chose; `counts` are of the whole batch."""

    sequence_BL: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """int64, the sequence of each target; -1 elsewhere"""
    old_BL: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """fp32, the sampling engine's log-probability of each target"""
    of_sequence: Mapping[str, np.ndarray] = field(default_factory=dict)
    """per sequence [S]: advantage, desirable, mismatched; per pair [P]: chosen, rejected (indices of sequences)"""
    sequences: int = 0
    pairs: int = 0
    fresh: bool = False
    """whether the weights that wrote these answers are still the trainer's"""
    stats: Mapping[str, float] = field(default_factory=dict)
    """what there is to report of the answers, made when they were"""


def lay_out(
    sequences: Sequence[Sampled],
    seq_len: int,
    rows: int,
    units: Sequence[Sequence[int]] | None = None,
    of_sequence: Mapping[str, np.ndarray] | None = None,
    fresh: bool = False,
    stats: Mapping[str, float] | None = None,
) -> SampleBatch:
    """A batch of k micro batches of `rows` rows. `units` lists sequences that must share one (each alone by default).

    Longest units first, each into the first micro batch with room, and there where it leaves least. Raises DataError
    for a sequence longer than a row, or a unit larger than a micro batch.
    """
    units = [[i] for i in range(len(sequences))] if units is None else units
    size = [len(s.prompt) + len(s.tokens) - 1 for s in sequences]
    if size and max(size) > seq_len:
        raise DataError(f"an answer and its prompt take {max(size)} tokens; rows have {seq_len}. Raise seq_len.")
    place: dict[int, tuple[int, int]] = {}  # sequence -> row, first slot
    micros: list[list[int]] = []  # free slots of each row
    for unit in sorted(units, key=lambda unit: -sum(size[i] for i in unit)):
        if not any(_put(unit, size, room, n * rows, place, seq_len) for n, room in enumerate(micros)):
            micros.append([seq_len] * rows)
            if not _put(unit, size, micros[-1], (len(micros) - 1) * rows, place, seq_len):
                raise DataError(f"{len(unit)} answers do not fit into {rows} rows of {seq_len}. Raise seq_len.")
    count = max(1, len(micros)) * rows
    tokens, targets = np.full((count, seq_len), PAD, np.int64), np.full((count, seq_len), IGNORE, np.int64)
    docs, sequence = np.zeros((count, seq_len), np.int32), np.full((count, seq_len), -1, np.int64)
    old = np.zeros((count, seq_len), np.float32)
    number = np.zeros(count, np.int32)
    for i, (row, at) in place.items():
        s = sequences[i]
        ids = np.array([*s.prompt, *s.tokens], np.int64)
        stop, first = at + size[i], at + len(s.prompt) - 1  # `first` predicts the answer's first token
        number[row] += 1
        tokens[row, at:stop], docs[row, at:stop] = ids[:-1], number[row]
        targets[row, first:stop], old[row, first:stop], sequence[row, first:stop] = s.tokens, s.logprobs, i
        for t in s.forced:
            targets[row, first + t], old[row, first + t], sequence[row, first + t] = IGNORE, 0.0, -1
    of_sequence = of_sequence or {}
    return SampleBatch(
        tokens,
        targets,
        docs,
        int(np.count_nonzero(docs)),
        int(np.count_nonzero(targets != IGNORE)),
        (),
        sequence,
        old,
        of_sequence,
        len(sequences) - int(of_sequence["mismatched"].sum() if "mismatched" in of_sequence else 0),
        len(of_sequence.get("chosen", ())),
        fresh,
        stats or {},
    )


def _put(
    unit: Sequence[int], size: list[int], room: list[int], first: int, place: dict[int, tuple[int, int]], seq_len: int
) -> bool:
    """Places a whole unit into rows with `room` free slots, best fit, or nothing of it."""
    left, rows = list(room), []
    for i in unit:
        fits = [(free, row) for row, free in enumerate(left) if free >= size[i]]
        if not fits:
            return False
        free, row = min(fits)
        place[i] = (first + row, seq_len - free)
        left[row] = free - size[i]
        rows.append(row)
    room[:] = left
    return True
