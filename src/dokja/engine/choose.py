"""The next tokens of running sequences, from their scores, and the books of what each of them has taken.

A row of scores stands for a place behind what a sequence has written and some of its drafts. What rules that place
(closing ids, penalties, grammar, barred stop tokens) is found for every row before the draw, from those drafts; a row
whose drafts turn out wrong is thrown away with its rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.engine.api import MOST_TOP, Event, Finish, Top
from dokja.engine.penalties import Edits, Row, barred
from dokja.engine.running import Running
from dokja.engine.sampler import Needs, Sampler, logprobs
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


@dataclass(frozen=True)
class Rules:
    """What holds at R places besides scores and settings."""

    forced: Tensor | None = None
    """[R]: the id that has to come, -1 where there is none."""
    edits: Edits | None = None
    allowed: Tensor | None = None
    """Bit mask int32 [R, ceil(V / 32)] of what may come; see `running.Matcher`."""


def rules(running: Sequence[Running], guesses: Sequence[Sequence[int]], vocab: int) -> Rules:
    """Rules of the place after each sequence's newest token and after each of its drafts."""
    pairs = list(zip(running, guesses, strict=True))
    if not any(sequence.ruled(len(guess) + 1) for sequence, guess in pairs):
        return Rules()
    rows = [rule for sequence, guess in pairs for rule in _rules(sequence, guess, vocab)]
    forced, edits, masks = zip(*rows, strict=True)
    return Rules(torch.tensor(forced) if max(forced) >= 0 else None, Edits.of(edits), _masked(masks))


def _rules(sequence: Running, guess: Sequence[int], vocab: int) -> list[tuple[int, Row | None, Tensor | None]]:
    """`rules` of one sequence."""
    count = len(guess) + 1
    if not sequence.ruled(count):
        return [(-1, None, None)] * count
    out: list[tuple[int, Row | None, Tensor | None]] = []
    for i, edits in enumerate(sequence.penalties.rows(guess) if sequence.penalties else [None] * count):
        answer, mask = sequence.answer_of(guess[:i]), None
        if answer is not None and sequence.bars(answer):
            edits = barred(edits, [token for token in sequence.request.stop if token < vocab])
        if answer is not None and sequence.matcher is not None:
            mask = sequence.matcher.allowed(answer)
        out.append((sequence.must_come(guess[:i]), edits, mask))
    return out


def _masked(masks: Sequence[Tensor | None]) -> Tensor | None:
    """Masks of all rows; everything may come where there is none."""
    some = next((mask for mask in masks if mask is not None), None)
    if some is None:
        return None
    free = torch.full_like(some, -1)
    return torch.stack([free if mask is None else mask for mask in masks])


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
    bound = rules(running, guesses, logits.shape[1])
    chosen, scored = sampler.draw(logits, first, place, needs, bound.forced, each, bound.edits, bound.allowed)
    tokens, scores = chosen.tolist(), scored.tolist()
    if not math.isfinite(sum(scores)):
        raise CheckpointError("The model's scores are not finite numbers. Its weights are damaged or diverged.")
    tops = _tops(running, logits, each, tokens, scores)
    ended: list[tuple[int, Finish]] = []
    last: list[int] = []
    taken = 0
    for number, (sequence, guess) in enumerate(zip(running, guesses, strict=True)):
        begin = row = number * each
        for row, draft in enumerate((*guess, -1), begin):
            if (instead := sequence.closes_with(tokens[row])) >= 0:
                chosen[row] = tokens[row] = instead
                scores[row] = float(logprobs(logits[row : row + 1], chosen[row : row + 1]))
                draft = -1  # the rows behind do not know that a closing has begun
            top = tops.get(row, ())
            finish = sequence.take(tokens[row], scores[row], top)
            if events is not None:
                prompt = tuple(sequence.prompt_scores) if len(sequence.tokens) == 1 else ()
                events.append(Event(sequence.request.id, tokens[row], scores[row], finish, top, prompt))
            if finish is not None or tokens[row] != draft:
                break
        last.append(row)
        taken += row + 1 - begin
        if finish is not None:
            ended.append((number, finish))
    return Chosen(chosen, last, taken, ended)


def _tops(
    running: Sequence[Running], logits: Tensor, each: int, tokens: list[int], scores: list[float]
) -> dict[int, Top]:
    """The best tokens of each row whose sequence wants them, by the model's own log-probabilities."""
    wanted = [sequence.request.top_logprobs for sequence in running for _ in range(each)]
    rows = [row for row, n in enumerate(wanted) if n]
    if not rows:
        return {}
    # As many for every row: which of equals come first may depend on how many are asked for.
    best = logits[rows].topk(min(MOST_TOP, logits.shape[1]))
    at = torch.tensor([tokens[row] for row in rows], device=logits.device)
    ahead = (best.values - logits[rows].gather(1, at[:, None])).tolist()
    out: dict[int, Top] = {}
    for row, ids, beyond in zip(rows, best.indices.tolist(), ahead, strict=True):
        out[row] = tuple((i, scores[row] + more) for i, more in zip(ids[: wanted[row]], beyond, strict=False))
    return out
