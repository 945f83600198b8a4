"""Batches as a pure function of (seed, step): nothing to save, nothing to restore, for any number of processes.

Global row r of the run is row r % rows_per_batch of step r // rows_per_batch. `Mixture` says which source it comes
from and that it is this source's i-th row; `pack` lays out the source epoch by epoch, and i falls into one of them.
Epochs differ a little in their number of rows, so finding epoch e packs the e - 1 before it once per process: that
costs about a microsecond per document, a thousandth of what training on it took.
"""

import threading
from collections import OrderedDict

import numpy as np

from dokja.data.batch import Batch, Wanted, assemble, images_of, make_batch, refuse_cuts
from dokja.data.mixture import Mixture
from dokja.data.packing import PACKING_VERSION, Rows, pack
from dokja.data.prefetch import Prefetch
from dokja.data.shards import ShardSet
from dokja.data.shuffle import random_bits
from dokja.errors import ConfigError, DataError
from dokja.ledger.hashing import sha256_json

_PLANS_KEPT = 2


class Loader:
    """`Loader(sources, seq_len, rows_per_batch, seed)` where sources are pairs (ShardSet, weight).

    Weights are shares of rows. A source that is used up begins its next epoch, freshly shuffled and packed."""

    def __init__(self, sources: list[tuple[ShardSet, float]], seq_len: int, rows_per_batch: int, seed: int = 0) -> None:
        if seq_len < 1 or rows_per_batch < 1:
            raise ConfigError(f"seq_len {seq_len} and rows per batch {rows_per_batch} must be at least 1.")
        for shards, _ in sources:
            if not (shards.lengths > 1).any():
                raise DataError(f"{shards.path} holds no document of two tokens or more. Give this source some text.")
            refuse_cuts(shards, seq_len)
        self.seq_len, self.rows_per_batch, self.seed = seq_len, rows_per_batch, seed
        self._weights = [weight for _, weight in sources]
        self._mixture = Mixture(self._weights, seed)
        self._epochs = [_Epochs(shards, seq_len, seed, n) for n, (shards, _) in enumerate(sources)]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Step `step` (from 0), or the part of process `rank` of `world`: contiguous rows, so that concatenating the
        parts in the order of the ranks gives the batch of world = 1."""
        if self.rows_per_batch % world:
            raise ConfigError(f"{world} processes cannot share {self.rows_per_batch} rows per batch. Change either.")
        rows = self.rows_per_batch // world
        first = step * self.rows_per_batch + rank * rows
        source, index = self._mixture.locate(np.arange(first, first + rows))
        wanted: Wanted = []
        for n, epochs in enumerate(self._epochs):
            places = np.flatnonzero(source == n)
            for plan, picked, of_these in epochs.rows(index[places]):
                wanted.append((epochs.shards, plan, picked, places[of_these]))
        counts = np.bincount(source, minlength=len(self._epochs))
        return make_batch(assemble(wanted, rows, self.seq_len), tuple(counts.tolist()), images_of(wanted, rows))

    def open(self, step: int, rank: int = 0, world: int = 1) -> Prefetch:
        """The batches from `step` on, prepared ahead of their use; close it, or use `with`."""
        return Prefetch(self.batch, step, rank, world)

    def state(self) -> dict[str, object]:
        """Nothing: a step's batch follows from its number."""
        return {}

    def load(self, state: dict[str, object]) -> None:
        """Takes back what `state` gave."""

    def fingerprint(self) -> str:
        """Hash of all that decides what `batch` returns (not of where the shards lie). A resumed run compares it."""
        return sha256_json(
            {
                "packing": PACKING_VERSION,
                "shards": [epochs.shards.sha256 for epochs in self._epochs],
                "weights": [float(weight) for weight in self._weights],
                "seq_len": self.seq_len,
                "rows_per_batch": self.rows_per_batch,
                "seed": self.seed,
            }
        )

    def rows_in_epoch(self, source: int = 0, epoch: int = 0) -> int:
        """Rows it takes to see every document of a source once."""
        return len(self._epochs[source].plan(epoch))


class _Epochs:
    """The rows of one source, epoch after epoch."""

    def __init__(self, shards: ShardSet, seq_len: int, seed: int, number: int) -> None:
        self.shards = shards
        self._seq_len = seq_len
        self._seed = int(random_bits(1, "source", seed, number)[0])  # equal sources must not march in step
        self._ends: list[int] = []  # rows in epochs 0 .. e
        self._plans: OrderedDict[int, Rows] = OrderedDict()
        self._lock = threading.Lock()  # a prefetching thread may share the loader

    def plan(self, epoch: int) -> Rows:
        with self._lock:
            return self._plan(epoch)

    def rows(self, index: np.ndarray) -> list[tuple[Rows, np.ndarray, np.ndarray]]:
        """(plan, rows of the plan, positions in `index`) for each epoch that the row numbers `index` fall into."""
        if not len(index):
            return []
        with self._lock:
            while not self._ends or self._ends[-1] <= index.max():
                self._plan(len(self._ends))
            ends = np.array(self._ends)
            epochs = np.searchsorted(ends, index, side="right")
            found = []
            for epoch in np.unique(epochs).tolist():
                here = np.flatnonzero(epochs == epoch)
                first = int(ends[epoch - 1]) if epoch else 0
                found.append((self._plan(epoch), index[here] - first, here))
            return found

    def _plan(self, epoch: int) -> Rows:
        if epoch not in self._plans:
            plan = pack(self.shards.lengths, self._seq_len, self._seed, epoch)
            if epoch == len(self._ends):
                self._ends.append(len(plan) + (self._ends[-1] if self._ends else 0))
            self._plans[epoch] = plan
            while len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(epoch)
        return self._plans[epoch]
