"""Which problems to practise on: a bandit over (task, level) arms that keeps success near a target.

The rate p of an arm is estimated from its latest results; an arm is drawn with the share

    floor / arms + (1 - floor) * w(p) / sum of w,      w(p) = p^(2 target) * (1 - p)^(2 (1 - target))

w is largest at p = target and 0 where everything or nothing is solved. At target 1/2 it is p(1 - p), the variance of a
right-or-wrong reward: what a group of answers can teach. Easy and hopeless arms fade; the floor finds them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dokja.data.shuffle import permutation, uniform
from dokja.errors import CheckpointError, ConfigError

Arm = tuple[str, int]
"""(task, level)"""
_PRIOR = 1.0  # tries that an arm never tried is worth, half of them right


class Bandit:
    """Rates by arm, with exponential forgetting: each update keeps `memory` of what an arm's earlier tries weigh."""

    def __init__(
        self, arms: Sequence[Arm], seed: int, target: float = 0.5, floor: float = 0.2, memory: float = 0.7
    ) -> None:
        """Raises ConfigError where there is no arm, one is there twice, or a number lies outside its range."""
        if not arms or len(set(arms)) != len(arms):
            raise ConfigError(f"A curriculum of {list(arms)} has no arm or one twice. Name each task and level once.")
        if not (0 < target < 1 and 0 <= floor <= 1 and 0 <= memory < 1):
            raise ConfigError(
                f"A curriculum with target {target}, floor {floor} and memory {memory} cannot be meant. "
                "Use a target between 0 and 1, a floor from 0 to 1 and a memory from 0 to below 1."
            )
        self.arms = tuple(arms)
        self.seed, self.target, self.floor, self.memory = seed, target, floor, memory
        self._right = dict.fromkeys(self.arms, 0.0)
        self._tries = dict.fromkeys(self.arms, 0.0)

    def draw(self, n: int, step: int) -> list[Arm]:
        """n arms for this step, a pure function of (state, seed, step).

        Systematic sampling: n points at equal distances on the line of shares, moved together by one uniform number. So
        every arm comes floor or ceiling of n times its share, and no arm is unlucky.
        """
        start = float(uniform(1, self.seed, "curriculum", step)[0])
        ends = np.cumsum(self.shares())
        points = (np.arange(n) + start) / n * ends[-1]
        places = np.minimum(np.searchsorted(ends, points, side="right"), len(self.arms) - 1)
        order = permutation(n, self.seed, "curriculum order", step)  # else a batch would hold its arms in blocks
        return [self.arms[i] for i in places[order]]

    def update(self, results: Iterable[tuple[Arm, float, int]]) -> None:
        """Take in (arm, mean score in [0, 1], tries) of one step; several results of an arm count together."""
        found: dict[Arm, list[tuple[float, int]]] = {}
        for arm, mean, tries in results:
            if arm not in self._tries or not 0 <= mean <= 1 or tries < 0:
                raise ValueError(f"{(arm, mean, tries)} is no result of this curriculum.")
            found.setdefault(arm, []).append((mean, tries))
        for arm, seen in found.items():
            if any(tries for _, tries in seen):
                self._right[arm] = self.memory * self._right[arm] + math.fsum(mean * tries for mean, tries in seen)
                self._tries[arm] = self.memory * self._tries[arm] + sum(tries for _, tries in seen)

    def shares(self) -> list[float]:
        """The share of each arm in the draws, in the order of `arms`; they sum to 1."""
        weights = [self._weight(self._rate(arm)) for arm in self.arms]
        total = math.fsum(weights)
        even = 1 / len(self.arms)
        return [self.floor * even + (1 - self.floor) * (w / total if total > 0 else even) for w in weights]

    def rates(self) -> dict[str, float]:
        """The success rate of each arm by `task/level`; 0.5 where it was never tried."""
        return {f"{task}/{level}": self._rate((task, level)) for task, level in self.arms}

    def state(self) -> dict[str, Any]:
        """All that draws depend on, as JSON values; floats survive JSON exactly."""
        counts = {f"{task}/{level}": [self._right[task, level], self._tries[task, level]] for task, level in self.arms}
        return {**self._origin(), "counts": counts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`. CheckpointError where it is of another curriculum or damaged."""
        mine, counts = self._origin(), state.get("counts", {})
        other = [key for key, value in mine.items() if state.get(key) != value]
        if other or counts.keys() != self.rates().keys():
            what = ", ".join(other) or "tasks and levels"
            raise CheckpointError(f"This state is of another curriculum ({what}). Undo the change, or start anew.")
        for task, level in self.arms:
            right, tries = counts[f"{task}/{level}"]
            if not 0 <= right <= tries < math.inf:
                raise CheckpointError(f"The state of arm {task}/{level} is damaged ({right} right of {tries}).")
            self._right[task, level], self._tries[task, level] = right, tries

    def _origin(self) -> dict[str, Any]:
        return {"seed": self.seed, "target": self.target, "floor": self.floor, "memory": self.memory}

    def _rate(self, arm: Arm) -> float:
        return (self._right[arm] + 0.5 * _PRIOR) / (self._tries[arm] + _PRIOR)

    def _weight(self, rate: float) -> float:
        return float(rate ** (2 * self.target) * (1 - rate) ** (2 * (1 - self.target)))
