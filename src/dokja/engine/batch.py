"""The running sequences side by side: their newest tokens, positions, rows in the cache and settings, as tensors.

A sequence has a number, 0..n-1, among the running ones; when one leaves, the last takes its number, so that every step
works on the first n entries of everything and nothing is gathered. Its row in the cache stays the same all along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from dokja.engine.forward import Sight
from dokja.engine.prefix import Names
from dokja.engine.running import Running
from dokja.engine.sampler import Needs, Sampler

State = Literal["waiting", "reading", "following", "running"]


@dataclass(slots=True, eq=False)
class Scheduled(Running):
    """An answer at work or in the queue, and what the schedule knows of it."""

    order: int = 0
    """Which of all requests it was."""
    state: State = "waiting"
    row: int = -1
    """Where it lies in the cache; -1 while it waits."""
    text: list[int] = field(default_factory=list)
    """What is being read: the prompt, and what was written before it was put back."""
    at: int = 0
    """Tokens of it that have been read."""
    told: int = 0
    """Pages of it that are known by name."""
    names: Names | None = None
    sight: Sight | None = None
    key: object = None
    """Equal for equal texts and images; None until the text is made."""
    followers: list[Scheduled] = field(default_factory=list)
    """Those with the same text, which wait for it to be read."""
    leader: Scheduled | None = None
    covered: int = 0
    """Positions that have pages, once it runs."""


class Batch:
    """The running sequences."""

    def __init__(self, rows: Tensor, sampler: Sampler):
        """`rows`: `Forward.rows`, which is kept up to date here."""
        self.sequences: list[Scheduled] = []
        self.rows, self._sampler = rows, sampler
        self.last = torch.zeros_like(rows)
        self.position = torch.zeros_like(rows)
        """Where `last` stands in its sequence."""
        self._needs: Needs | None = None  # known until a sequence comes or goes

    def join(self, sequences: Sequence[Scheduled]) -> int:
        """Sequences begin to run -> the number of the first. They have no newest token yet; it will stand behind what
        they hold."""
        first, last = len(self.sequences), len(self.sequences) + len(sequences)
        self.sequences += sequences
        self.position[first:last] = torch.tensor([s.length for s in sequences])
        self.rows[first:last] = torch.tensor([s.row for s in sequences])
        for number, sequence in enumerate(sequences, first):
            self._sampler.put(number, sequence.request)
        self._needs = None
        return first

    def leave(self, number: int) -> Scheduled:
        """A sequence runs no longer; the last takes its number."""
        left, moved, last = self.sequences[number], self.sequences.pop(), len(self.sequences)
        self._needs = None
        if number != last:
            self.sequences[number] = moved
            self._sampler.move(last, number)
            for column in (self.last, self.position, self.rows):
                column[number] = column[last]
        return left

    def number_of(self, sequence: Scheduled) -> int:
        """The number of a running sequence."""
        return next(i for i, other in enumerate(self.sequences) if other is sequence)

    def needs(self, first: int) -> Needs:
        """What the sequences from `first` on ask of the sampler."""
        if first:
            return self._sampler.needs(first, len(self.sequences))
        if self._needs is None:
            self._needs = self._sampler.needs(0, len(self.sequences))
        return self._needs
