"""Batches for online RL: prompts are chosen, the very weights in training answer them, and the answers are graded.

Synchronous: a round of answers is made when the loop asks for the next batch, after the update before it. What a round
is follows from (weights, curriculum, seed, step), and the curriculum's state lies in the checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dokja.ledger.hashing import sha256_json
from dokja.tasks.problem import Problem
from dokja.text.chat import MODES, Mode
from dokja.text.tokenizer import Tokenizer
from dokja.train.objectives.advantage import advantages, kept_groups, kl_in_reward
from dokja.train.rollouts.curriculum import Bandit
from dokja.train.rollouts.layout import SampleBatch, Sampled, lay_out
from dokja.train.rollouts.record import Rollout, write_rollouts
from dokja.train.rollouts.rewards import reward_group
from dokja.train.rollouts.sampling import Engine, sample, statistics

Arm = tuple[str, int]
Draw = Callable[[Mode, Arm, str, int], Problem]
"""(mode, arm, language, number) -> the problem."""


class RolloutSource:
    """The loop's source in RL; `open` gives `updates` batches from every round of answers."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        config: Any,
        arms: dict[Mode, Sequence[Arm]],
        draw: Draw,
        languages: Sequence[str],
        *,
        rows: int,
        seed: int,
        folder: Path,
        before_round: Callable[[], None] = lambda: None,
        judge: Any = None,
        log_ratio: Callable[[SampleBatch], np.ndarray] | None = None,
    ):
        """rows: of a micro batch. before_round: gives the engine the trainer's weights where it has its own.
        log_ratio: per sequence, sum of log pi_old - log pi_ref, for a KL inside the reward (RLOO)."""
        self.engine, self.tokenizer, self.config, self.draw = engine, tokenizer, config, draw
        self.languages, self.rows, self.seed, self.folder = list(languages), rows, seed, folder
        self.before_round, self.judge, self.log_ratio = before_round, judge, log_ratio
        self.bandits = {mode: Bandit(arms[mode], seed + n) for n, mode in enumerate(MODES) if arms.get(mode)}
        self._arms = {mode: list(map(list, found)) for mode, found in arms.items()}

    def fingerprint(self) -> str:
        """Hash of what decides the rounds, besides the weights."""
        names = ("prompts", "group", "updates", "rounds", "temperature", "max_tokens", "budget", "think_share",
                 "advantage", "drop", "all_wrong", "all_wrong_advantage", "std", "concise", "format", "language",
                 "overlong", "overlong_cache", "pool", "prefilter", "curriculum", "seq_len")  # fmt: skip
        told = {name: getattr(self.config, name) for name in names}
        return sha256_json({**told, "arms": self._arms, "languages": self.languages, "seed": self.seed})

    def state(self) -> dict[str, Any]:
        """The curriculum's success rates."""
        return {mode: bandit.state() for mode, bandit in self.bandits.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for mode, bandit in self.bandits.items():
            bandit.load(state[mode])

    @contextmanager
    def open(self, step: int, rank: int = 0, world: int = 1) -> Iterator[Iterator[SampleBatch]]:
        """The batches from `step` (a multiple of `updates`) on."""
        yield self._batches(step)

    def _batches(self, step: int) -> Iterator[SampleBatch]:
        while True:
            yield from self.round(step)
            step += self.config.updates

    def round(self, step: int) -> list[SampleBatch]:
        """One round of answers as `updates` batches; the rollouts are stored under the step they were made for."""
        c, began = self.config, time.monotonic()
        self.before_round()
        asked: list[list[Rollout]] = []
        kept: list[list[Rollout]] = []
        for attempt in range(c.rounds):
            missing = c.prompts - len(kept)
            prompts = self._prompts(step * c.rounds + attempt, missing)
            groups = sample(
                self.engine, self.tokenizer, prompts, c.group, c, seed=self.seed, step=step, first=len(asked)
            )
            for group in groups:
                reward_group(group, c, self.judge)
            asked += groups
            flat = [r for group in groups for r in group]
            keep = kept_groups([r.parts["correct"] for r in flat], [r.group for r in flat], c.drop)
            kept += [group for n, group in enumerate(groups) if keep[n * c.group]]
            if len(kept) >= c.prompts:
                break
        for mode, bandit in self.bandits.items():
            told = [
                (g[0].arm, float(np.mean([r.parts["correct"] for r in g])), len(g)) for g in asked if g[0].mode == mode
            ]
            bandit.update(told)
        rollouts = [r for group in asked for r in group]
        write_rollouts(self.folder / f"step_{step:08d}.jsonl.zst", rollouts)
        stats = {
            **statistics(rollouts),
            "kept": len(kept) / len(asked),
            **({"judge_failures": float(self.judge.failures)} if self.judge is not None else {}),
            "generated": float(sum(len(r.tokens) for r in rollouts)),
            "rollout_seconds": round(time.monotonic() - began, 4),
        }
        return self._updates(kept[: c.prompts], stats)

    def _updates(self, kept: list[list[Rollout]], stats: dict[str, float]) -> list[SampleBatch]:
        """Advantages over the whole round, then equal shares of its groups for every update."""
        c = self.config
        flat = [r for group in kept for r in group]
        sequences = [trained(r) for r in flat]
        reward = np.array([r.reward for r in flat], np.float64)
        if self.log_ratio is not None and flat:
            reward = kl_in_reward(reward, self.log_ratio(lay_out(sequences, c.seq_len, self.rows)), c.kl_beta)
        correct = np.array([r.parts["correct"] for r in flat], np.float64)
        advantage = advantages(c.advantage, reward, [r.group for r in flat], correct, c) if flat else reward
        batches = []
        for n in range(c.updates):
            mine = [i for i in range(len(flat)) if i // c.group % c.updates == n]
            of_sequence = {"advantage": advantage[mine].astype(np.float32)}
            chosen = [sequences[i] for i in mine]
            batches.append(lay_out(chosen, c.seq_len, self.rows, None, of_sequence, n == 0, stats if n == 0 else {}))
        return batches

    def _prompts(self, number: int, count: int) -> list[tuple[Problem, Mode]]:
        """`count` (problem, mode) for draw `number` of the run: modes by think_share, arms by the curriculum."""
        c, out = self.config, []
        thinking = round(c.think_share * count) if len(self.bandits) == 2 else count * ("think" in self.bandits)
        for mode, n in zip(MODES, (thinking, count - thinking), strict=True):
            if not n:
                continue
            bandit = self.bandits[mode]
            even = [bandit.arms[(number * n + i) % len(bandit.arms)] for i in range(n)]
            for i, arm in enumerate(bandit.draw(n, number) if c.curriculum else even):
                language = self.languages[(number + i) % len(self.languages)]
                out.append((self.draw(mode, arm, language, number * c.prompts + i), mode))
        return out

    def rates(self) -> dict[str, float]:
        """The curriculum's success rates, for the metrics."""
        found = ((mode, bandit.rates()) for mode, bandit in self.bandits.items())
        return {f"rate/{mode}/{name}": rate for mode, rates in found for name, rate in rates.items()}


def trained(r: Rollout) -> Sampled:
    """A rollout as a sequence to train on; what closed its thought by force is read, not learned."""
    forced = range(r.forced_at, r.forced_at + 1) if r.forced_at >= 0 else range(0)
    return Sampled(r.prompt_tokens, r.tokens, r.logprobs, forced)
