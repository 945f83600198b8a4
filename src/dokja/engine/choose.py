"""The next tokens of running sequences, from their scores, and the books of what each of them has taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.engine.api import Event, Finish
from dokja.engine.running import Running
from dokja.engine.sampler import Needs, Sampler
from dokja.errors import CheckpointError


@dataclass(frozen=True)
class Chosen:
    """What a step gave B sequences with `each` rows of scores."""

    tokens: Tensor
    """[B*each]: one for every row, the refused ones too."""
    last: list[int]
    """The row of each sequence's newest token."""
    taken: int
    """Tokens that were written."""
    ended: list[tuple[int, Finish]]
    """Which of the sequences have ended, and why."""


def choose(
    sampler: Sampler,
    running: Sequence[Running],
    first: int,
    logits: Tensor,
    place: Tensor,
    needs: Needs,
    events: list[Event] | None,
    drafts: Tensor | None = None,
) -> Chosen:
    """Draws tokens for the sequences in the slots from `first` on, and writes them.

    A sequence has a row of scores after its newest token and one after each of its drafts, for tokens that will stand
    at `place`; it takes them up to the first that is not the draft. Events are made only where somebody wants them.
    Raises CheckpointError for scores that are no numbers.
    """
    count, each = len(running), len(logits) // len(running)
    guesses: list[list[int]] = [[]] * count if drafts is None else drafts.tolist()
    forced = None
    if any(sequence.open_thought for sequence in running):
        pairs = zip(running, guesses, strict=True)
        must = [sequence.must_come(guess[:i]) for sequence, guess in pairs for i in range(each)]
        forced = torch.tensor(must, device=logits.device)
    chosen, scored = sampler.draw(logits, first, place, needs, forced, each)
    tokens, scores = chosen.tolist(), scored.tolist()
    if not math.isfinite(sum(scores)):
        raise CheckpointError("The model's scores are not finite numbers. Its weights are damaged or diverged.")
    ended: list[tuple[int, Finish]] = []
    last: list[int] = []
    taken = 0
    for number, (sequence, guess) in enumerate(zip(running, guesses, strict=True)):
        begin = row = number * each
        for row, draft in enumerate((*guess, -1), begin):
            finish = sequence.take(tokens[row], scores[row])
            if events is not None:
                events.append(Event(sequence.request.id, tokens[row], scores[row], finish))
            if finish is not None or tokens[row] != draft:
                break
        last.append(row)
        taken += row + 1 - begin
        if finish is not None:
            ended.append((number, finish))
    return Chosen(chosen, last, taken, ended)
