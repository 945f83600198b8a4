"""Drafts from the sequence itself: where its last tokens stood before, what followed then may follow now.

Code that is edited, documents that are cited and lists that are repeated are full of such places (arXiv 2304.04487).
A look-up costs a few microseconds; what costs is the drafts' rows in the pass that verifies them. So for every sequence
the drafter keeps count of how often its guesses were right, those it did not even propose, and proposes as many tokens
as should give the most tokens a second. Ordinary text, whose guesses are mostly wrong, is decoded as without drafts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dokja.engine.running import Running
from dokja.errors import ConfigError

SIZES = (8, 5, 3, 2)
"""Tokens that must be the same for a guess, the surest first."""
_PRIOR = ((7.0, 8.0), (4.0, 5.0), (2.0, 4.0), (1.0, 4.0))  # (right, tried), by size
_MEMORY = 0.9  # what is left of a count after one more guess


class _Text:
    """The tokens of a sequence, and where in them each stretch of `SIZES` tokens stood last."""

    __slots__ = ("_after", "_rates", "_size", "guess", "ids", "sequence")

    def __init__(self, sequence: Running):
        self.sequence, self.ids = sequence, []
        self._after: dict[tuple[int, ...], int] = {}
        self._rates = [list(prior) for prior in _PRIOR]
        self._size, self.guess = 0, []
        self._read(sequence.request.prompt)

    ids: list[int]
    guess: list[int]
    """What may come next; empty where nothing like it was there before."""

    def _read(self, tokens: Sequence[int]) -> None:
        ids, after = self.ids, self._after
        for token in tokens:
            at = len(ids)
            for size in SIZES:
                if at >= size:
                    after[tuple(ids[at - size :])] = at
            ids.append(token)

    def go_on(self, depth: int) -> None:
        """Takes what was written since, learns from it, and guesses `depth` tokens."""
        sequence = self.sequence
        new = sequence.tokens[len(self.ids) - len(sequence.request.prompt) :]
        if self.guess and new:
            rate = self._rates[self._size]
            rate[0], rate[1] = rate[0] * _MEMORY, rate[1] * _MEMORY
            for guessed, token in zip(self.guess, new, strict=False):
                rate[1] += 1
                if guessed != token:
                    break
                rate[0] += 1
        self._read(new)
        self.guess = self._look(depth)

    def _look(self, depth: int) -> list[int]:
        ids, after = self.ids, self._after
        end = len(ids)
        for number, size in enumerate(SIZES):
            if end >= size and (at := after.get(tuple(ids[end - size :]))) is not None:
                self._size = number
                guess = ids[at : at + depth]
                while len(guess) < depth:  # the place reaches to the end: what is written repeats itself
                    guess.append(guess[at - end])
                return guess
        return []

    @property
    def sure(self) -> float:
        """Share of such guesses that were right, token by token."""
        right, tried = self._rates[self._size]
        return right / tried


class LookupDrafter:
    """Proposes what followed the last tokens of each sequence when they stood in it before."""

    def __init__(self, depth: int, row_cost: float = 0.15):
        """row_cost: what one more row adds to the time of a pass, in passes of one row. Raises ConfigError for a depth
        below 1."""
        if depth < 1:
            raise ConfigError(f"draft is {depth}. Use 1 or more tokens to propose a step.")
        self.depth, self._row_cost = depth, row_cost
        self._texts: dict[str, _Text] = {}

    def propose(self, running: Sequence[Running], last_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """See `engine.draft.Drafter`; here the drafts depend on the texts alone. Rows without a guess hold zeros."""
        texts = []
        for sequence in running:
            text = self._texts.get(sequence.request.id)
            if text is None or text.sequence is not sequence:
                text = _Text(sequence)
            text.go_on(self.depth)
            texts.append(text)
        self._texts = {text.sequence.request.id: text for text in texts}
        columns = self._columns([text.sure for text in texts if text.guess], len(texts))
        if not columns:
            return torch.empty(len(texts), 0, dtype=torch.int64, device=last_B.device)
        drafts = [text.guess[:columns] or [0] * columns for text in texts]
        return torch.tensor(drafts, device=last_B.device)

    def _columns(self, sure: Sequence[float], rows: int) -> int:
        """How many tokens to propose: the most expected tokens for the time of a pass."""
        if not sure:
            return 0
        best, columns, expected, chances = rows / (1 + self._row_cost * (rows - 1)), 0, float(rows), [1.0] * len(sure)
        for d in range(1, self.depth + 1):
            chances = [chance * p for chance, p in zip(chances, sure, strict=True)]
            expected += sum(chances)
            speed = expected / (1 + self._row_cost * (rows * (d + 1) - 1))
            if speed > best:
                best, columns = speed, d
        return columns
