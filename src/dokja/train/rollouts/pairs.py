"""Preference data out of the model's own answers, in the two stages of EXAONE 4.0 (arXiv 2507.11407).

| stage  | label                                     | better                   | worse                                |
|--------|-------------------------------------------|--------------------------|--------------------------------------|
| right  | the task's grade, then length             | shortest clean right one | a wrong one; without it, the longest |
|        |                                           |                          | right one, if longer by a tenth      |
| answer | preference and language consistency, of   | highest label            | lowest label                         |
|        | the final answer only: thoughts unread    |                          |                                      |

A share of the first stage's pairs comes again in the second, for stability. Preference is a judge model's score where
one is configured, and the task's own grade otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dokja.data.prefetch import Prefetch
from dokja.ledger.hashing import sha256_json
from dokja.train.objectives.advantage import grouper
from dokja.train.rollouts.layout import SampleBatch, Sampled, lay_out
from dokja.train.rollouts.record import Rollout
from dokja.train.rollouts.rewards import is_clean
from dokja.train.rollouts.source import trained

LONGER = 1.1
"""A right answer counts as worse than another right one when it is longer by this factor."""


@dataclass(frozen=True)
class Unit:
    """What one comparison is made of: answers (indices of rollouts), each with its label."""

    stage: str
    answers: tuple[int, ...]
    labels: tuple[float, ...]
    """pairs: 1 for the better, 0 for the worse; groups: rewards"""


def shortest_right(group: Sequence[int], rollouts: Sequence[Rollout]) -> Unit | None:
    """The pair of stage `right` from the answers to one prompt, or None where they are all wrong or all alike."""
    right = sorted((i for i in group if rollouts[i].score >= 1 and is_clean(rollouts[i])), key=_length(rollouts))
    wrong = [i for i in group if rollouts[i].score < 1]
    if not right:
        return None
    if wrong:
        return Unit("right", (right[0], wrong[0]), (1.0, 0.0))
    longest = right[-1]
    if len(rollouts[longest].tokens) < LONGER * len(rollouts[right[0]].tokens):
        return None
    return Unit("right", (right[0], longest), (1.0, 0.0))


def best_answer(group: Sequence[int], labels: Sequence[float], rollouts: Sequence[Rollout]) -> Unit | None:
    """The pair of stage `answer` from labels of the final answers: the best clean one, and the worst. None where no
    clean one is better than the worst."""
    clean = [i for i in group if is_clean(rollouts[i])]
    if not clean:
        return None
    best, worst = max(clean, key=lambda i: labels[i]), min(group, key=lambda i: labels[i])
    return Unit("answer", (best, worst), (1.0, 0.0)) if labels[best] > labels[worst] else None


def _differ(unit: Unit, rollouts: Sequence[Rollout]) -> bool:
    """Whether a group is of mixed rightness, or clearly of different lengths: GROUPER's scale knows no small ones."""
    if not max(unit.labels) > min(unit.labels):
        return False
    lengths = [len(rollouts[i].tokens) for i in unit.answers]
    return len({rollouts[i].score for i in unit.answers}) > 1 or max(lengths) >= LONGER * min(lengths)


def _length(rollouts: Sequence[Rollout]) -> Callable[[int], int]:
    return lambda i: len(rollouts[i].tokens)


def units(groups: Sequence[Sequence[Rollout]], labels: Sequence[float], c: Any, seed: int) -> list[Unit]:
    """Every comparison of both stages in the order of training: `epochs` shuffled passes over stage `right`, then over
    stage `answer` with `reuse_share` of the first stage's mixed in. `labels` are of the flattened answers.

    Group objectives (GROUPER) and KTO take every answer of a group with a difference, with its reward or grade.
    """
    rollouts = [r for group in groups for r in group]
    index, at = [], 0
    for group in groups:
        index.append(range(at, at + len(group)))
        at += len(group)
    if c.objective in ("grouper", "kto"):
        first = [Unit("right", tuple(g), tuple(rollouts[i].reward for i in g)) for g in index]
        second = [Unit("answer", tuple(g), tuple(labels[i] for i in g)) for g in index]
        first = [u for u in first if _differ(u, rollouts)]
        stages = [first, [u for u in second if max(u.labels) > min(u.labels)]]
    else:
        right = [unit for g in index if (unit := shortest_right(g, rollouts))]
        answer = [unit for g in index if (unit := best_answer(g, labels, rollouts))]
        stages = [right, answer]
    rng = random.Random(f"{seed}/pairs")
    again = rng.sample(stages[0], round(c.reuse_share * len(stages[0])))
    out: list[Unit] = []
    for stage in (stages[0], stages[1] + again):
        for _ in range(c.epochs):
            out += rng.sample(stage, len(stage))
    return out


class PairSource:
    """Batches of comparisons: a pure function of (data, step). `per_step` comparisons make a batch."""

    def __init__(self, rollouts: Sequence[Rollout], comparisons: Sequence[Unit], objective: str, c: Any, rows: int):
        self.rollouts, self.units, self.objective, self.config, self.rows = rollouts, comparisons, objective, c, rows
        answers = max((len(u.answers) for u in comparisons), default=2)
        self.per_step = max(1, c.batch_pairs * 2 // answers)

    @property
    def steps(self) -> int:
        """Batches in all; the last may be smaller."""
        return -(-len(self.units) // self.per_step)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SampleBatch:
        """Batch `step`, from 0."""
        chosen = self.units[step * self.per_step : (step + 1) * self.per_step]
        sequences = [trained(self.rollouts[i]) for unit in chosen for i in unit.answers]
        label = np.array([x for unit in chosen for x in unit.labels], np.float64)
        group = np.repeat(np.arange(len(chosen)), [len(u.answers) for u in chosen])
        first = np.cumsum([0, *[len(u.answers) for u in chosen]])
        together: list[list[int]] | None = None
        of_sequence: dict[str, np.ndarray]
        if self.objective == "grouper":
            of_sequence = {"advantage": grouper(label, group)[0].astype(np.float32)}
        elif self.objective == "kto":
            sequences, of_sequence = _with_mismatched(sequences, label, group, self.config.seq_len)
        else:
            together = [[int(i), int(i) + 1] for i in first[:-1]]
            of_sequence = {"chosen": first[:-1].astype(np.int64), "rejected": first[:-1].astype(np.int64) + 1}
        share = float(np.mean([u.stage == "right" for u in chosen]))
        return lay_out(
            sequences, self.config.seq_len, self.rows, together, of_sequence, step == 0, {"stage_right": share}
        )

    def open(self, step: int, rank: int = 0, world: int = 1) -> AbstractContextManager[Iterator[SampleBatch]]:
        """The batches from `step` on, prepared ahead."""
        return Prefetch(self.batch, step, rank, world)  # type: ignore[return-value]

    def fingerprint(self) -> str:
        """Hash of the comparisons and of what decides a batch; the rollouts have a hash of their own."""
        told = [[u.stage, u.answers, u.labels] for u in self.units]
        return sha256_json([told, self.objective, self.per_step, self.config.seq_len, self.rows])

    def state(self) -> dict[str, Any]:
        """Nothing: a step's batch follows from its number."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""


def _with_mismatched(
    sequences: list[Sampled], label: np.ndarray, group: np.ndarray, seq_len: int
) -> tuple[list[Sampled], dict[str, np.ndarray]]:
    """KTO's batch: every answer, good above its group's middle, and each answer again under the next prompt (where the
    two fit into a row), from which the reference point z0 is estimated (arXiv 2402.01306, section 4.1)."""
    middle = np.array([(label[group == g].max() + label[group == g].min()) / 2 for g in group])
    n = len(sequences)
    step = int(np.bincount(group).max()) if n else 1  # far enough to be another prompt
    moved = [Sampled(sequences[(i + step) % n].prompt, s.tokens, s.logprobs, s.forced) for i, s in enumerate(sequences)]
    moved = [s for s in moved if len(s.prompt) + len(s.tokens) <= seq_len + 1]
    good = np.concatenate([label > middle, np.zeros(len(moved), bool)])
    return [*sequences, *moved], {"desirable": good, "mismatched": np.arange(len(good)) >= n}
