"""From rewards to advantages, over a whole batch at once; fp64, numpy only.

Suffix S: the batch's samples. `group_S` holds any integer labels, samples with the same label answer the same prompt;
groups may differ in size and need not be contiguous. A group of one has nothing to compare with: advantage 0.
Standard deviations are the sample ones (n - 1), as torch and TRL take them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dokja.errors import ConfigError

EPS = 1e-4  # GRPO's guard against a tiny std; TRL uses the same
SAME = 1e-9  # rewards that differ by less, or a std below it, are rounding

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def leave_one_out(reward_S: ArrayLike, group_S: ArrayLike) -> Floats:
    """r_i minus the mean of the group's other rewards; sums to 0 in every group.

    Source: Ahmadian et al. 2024 (RLOO), arXiv 2402.14740, after Kool et al. 2019.
    """
    size_S = _mean_S(reward_S, group_S)[1]
    return centred(reward_S, group_S) * np.where(size_S > 1, size_S / np.maximum(size_S - 1, 1), 0.0)


def centred(reward_S: ArrayLike, group_S: ArrayLike) -> Floats:
    """r_i minus the group's mean: (G - 1)/G of `leave_one_out`. Source: Dr. GRPO, arXiv 2503.20783, section 3.2."""
    reward_S = np.asarray(reward_S, np.float64)
    difference_S = reward_S - _mean_S(reward_S, group_S)[0]
    return np.where(_equal_S(reward_S, group_S), 0.0, difference_S)


def standardised(reward_S: ArrayLike, group_S: ArrayLike) -> Floats:
    """(r_i - mean)/(std + 1e-4) within the group, sample std; 0 where the group's rewards are all equal.

    Source: Shao et al. 2024 (DeepSeekMath), arXiv 2402.03300, section 4.1.2.
    """
    difference_S = centred(reward_S, group_S)
    mean_square_S, size_S = _mean_S(difference_S**2, group_S)
    return difference_S / (np.sqrt(mean_square_S * size_S / np.maximum(size_S - 1, 1)) + EPS)


def agapo(
    reward_S: ArrayLike,
    group_S: ArrayLike,
    correct_S: ArrayLike,
    *,
    all_wrong: str = "literal",
    all_wrong_advantage: float = 1.0,
    std: str = "batch",
) -> Floats:
    """AGAPO's group-then-global advantage: leave-one-out per group, then whitened over the batch.

    correct_S: bool, or scores of which 0 means wrong. Leave-one-out sums to 0 per group, so an all-wrong group with
    equal rewards gets exactly 0 as the formula is written, against what the paper says it wants. `all_wrong` chooses:
    "literal" that 0; "global_mean" takes the batch's mean reward as those groups' baseline before whitening, negative
    once anything in the batch was right; "offset" gives their samples exactly -all_wrong_advantage after whitening.
    std: "batch" divides by the batch's std (without epsilon; a batch without variance stays 0), "none" does not.
    Raises ConfigError on another switch. Source: EXAONE 4.0, arXiv 2507.11407, equation 2; the switches are ours.
    """
    if all_wrong not in {"literal", "offset", "global_mean"}:
        raise ConfigError(f"all_wrong is {all_wrong!r}; write literal, offset or global_mean.")
    if std not in {"batch", "none"}:
        raise ConfigError(f"std is {std!r}; write batch or none.")
    reward_S = np.asarray(reward_S, np.float64)
    size_S = _mean_S(reward_S, group_S)[1]
    wrong_S = _mean_S(np.asarray(correct_S, np.float64) > 0, group_S)[0] == 0
    advantage_S = leave_one_out(reward_S, group_S)
    if all_wrong == "global_mean" and wrong_S.any():
        advantage_S = np.where(wrong_S & (size_S > 1), reward_S - reward_S.mean(), advantage_S)
    if advantage_S.size > 1:
        advantage_S = advantage_S - advantage_S.mean()
        deviation = advantage_S.std(ddof=1)
        if deviation < SAME:
            advantage_S = np.zeros_like(advantage_S)
        elif std == "batch":
            advantage_S = advantage_S / deviation
    if all_wrong == "offset":
        advantage_S = np.where(wrong_S, -float(all_wrong_advantage), advantage_S)
    return np.where(size_S > 1, advantage_S, 0.0)


def grouper(reward_S: ArrayLike, group_S: ArrayLike) -> tuple[Floats, Bools]:
    """GROUPER's advantage 2 (r - min)/(max - min) - 1 in [-1, 1], and which samples are of a group with a difference.

    The paper z-scores first, which the min-max cancels. Groups of equal rewards have no such advantage (0, not kept).
    Source: K-EXAONE, arXiv 2601.01739, section on preference learning.
    """
    reward_S = np.asarray(reward_S, np.float64)
    low_S, high_S = _range_S(reward_S, group_S)
    keep_S = high_S - low_S > SAME
    return np.where(keep_S, 2 * (reward_S - low_S) / np.where(keep_S, high_S - low_S, 1.0) - 1, 0.0), keep_S


def kept_groups(score_S: ArrayLike, group_S: ArrayLike, rule: str) -> Bools:
    """Which samples are of a group that trains, by the task's scores in [0, 1].

    rule: "all" keeps everything; "zero_variance" drops groups whose scores are all equal (DAPO's dynamic sampling,
    K-EXAONE); "all_correct" drops only groups whose scores are all 1 (EXAONE 4.0). Raises ConfigError on another.
    """
    score_S = np.asarray(score_S, np.float64)
    low_S, high_S = _range_S(score_S, group_S)
    if rule == "all":
        return np.ones(score_S.shape, bool)
    if rule == "zero_variance":
        return high_S - low_S > SAME
    if rule == "all_correct":
        return low_S < 1 - SAME
    raise ConfigError(f"drop is {rule!r}; write all, zero_variance or all_correct.")


def kl_in_reward(reward_S: ArrayLike, log_ratio_S: ArrayLike, beta: float) -> Floats:
    """r_i - beta sum_t (log pi_old - log pi_ref), both of the sampled sequence: RLOO's reward.

    Source: Ahmadian et al. 2024 (RLOO), arXiv 2402.14740.
    """
    return np.asarray(reward_S, np.float64) - beta * np.asarray(log_ratio_S, np.float64)


def advantages(name: str, reward_S: ArrayLike, group_S: ArrayLike, correct_S: ArrayLike, c: Any) -> Floats:
    """The advantage called `name` in a recipe: loo, group, center or global (which reads c's AGAPO switches).

    Raises ConfigError on another name.
    """
    if name == "loo":
        return leave_one_out(reward_S, group_S)
    if name == "group":
        return standardised(reward_S, group_S)
    if name == "center":
        return centred(reward_S, group_S)
    if name == "global":
        return agapo(
            reward_S,
            group_S,
            correct_S,
            all_wrong=c.all_wrong,
            all_wrong_advantage=c.all_wrong_advantage,
            std=c.std,
        )
    raise ConfigError(f"advantage is {name!r}; write loo, group, center or global.")


def _mean_S(x_S: ArrayLike, group_S: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Every sample's group mean and group size."""
    index_S = np.unique(np.asarray(group_S), return_inverse=True)[1].reshape(-1)
    size_G = np.bincount(index_S)
    total_G = np.bincount(index_S, weights=np.asarray(x_S, np.float64))
    return (total_G / size_G)[index_S], size_G[index_S]


def _range_S(x_S: Floats, group_S: ArrayLike) -> tuple[Floats, Floats]:
    """Every sample's group minimum and maximum."""
    index_S = np.unique(np.asarray(group_S), return_inverse=True)[1].reshape(-1)
    groups = int(index_S.max(initial=-1)) + 1
    low_G, high_G = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low_G, index_S, x_S)
    np.maximum.at(high_G, index_S, x_S)
    return low_G[index_S], high_G[index_S]


def _equal_S(x_S: Floats, group_S: ArrayLike) -> Bools:
    """Whether all values of a sample's group are equal, in which case its mean may still differ by rounding."""
    low_S, high_S = _range_S(x_S, group_S)
    return high_S - low_S <= SAME
