"""What each published algorithm sets by itself: the values that `derive` fills in for keys a recipe leaves out.

Loss formulas are in train/objectives/{policy,preference}.py; one table of all of them is docs/objectives.md.

| key       | meaning                                                                                               |
|-----------|-------------------------------------------------------------------------------------------------------|
| advantage | loo: reward minus the others' mean · group: (r - mean) / std · center: r - mean · global: AGAPO's       |
| drop      | all: keep every group · zero_variance: drop groups scored alike · all_correct: drop solved groups only |
| rounds    | sampling rounds a step may take to replace dropped groups (DAPO's dynamic sampling)                    |
| clip_*    | bounds of the probability ratio, below and above 1                                                    |
| tis_cap   | cap of the truncated importance weight                                                                |
"""

from typing import Any

_PLAIN: dict[str, Any] = {
    "advantage": "group",
    "drop": "all",
    "rounds": 1,
    "clip_low": 0.2,
    "clip_high": 0.2,
    "tis_cap": 2.0,
    "kl_beta": 0.0,
    "overlong": 0.0,
}

ALGORITHMS: dict[str, dict[str, Any]] = {
    "rloo": {**_PLAIN, "advantage": "loo"},
    "grpo": _PLAIN,
    "dr_grpo": {**_PLAIN, "advantage": "center"},
    "dapo": {**_PLAIN, "clip_high": 0.28, "drop": "zero_variance", "rounds": 3, "overlong": 0.5},
    "gspo": {**_PLAIN, "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {**_PLAIN, "clip_high": 4.0},
    "agapo_sequence": {**_PLAIN, "advantage": "global", "drop": "all_correct", "kl_beta": 0.001},
    "agapo_token": {**_PLAIN, "advantage": "global", "drop": "zero_variance"},
}

KL_IN_LOSS = frozenset({"grpo", "agapo_sequence"})
KL_IN_REWARD = frozenset({"rloo"})
"""Where kl_beta > 0 acts: in the loss, or in the reward before the advantage. The others' papers have no KL."""

PREFERENCES: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1, "gamma": 0.0},
    "ipo": {"beta": 0.1, "gamma": 0.0},
    "simpo": {"beta": 2.5, "gamma": 1.375},
    "orpo": {"beta": 0.1, "gamma": 0.0},
    "kto": {"beta": 0.1, "gamma": 0.0},
    "simper": {"beta": 0.0, "gamma": 0.0},
    "grouper": {"beta": 0.0, "gamma": 0.0},
}
