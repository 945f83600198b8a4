"""What a set of problems can tell apart: smallest difference it would notice, exact tests, many tests at once.

| question | answer | source |
|---|---|---|
| how small a difference do n paired problems show? | (t_(1-a/2) + t_power) * s / sqrt(n) | Bloom 1995; Miller 2024 |
| how many problems would show a difference of d? | smallest n for which that is at most d | the same |
| did one answer per problem change more one way? | exact binomial on the problems that changed | McNemar 1947 |
| did repeated answers change? | Student t over the problems' mean differences | `stats.paired_difference` |
| which of many rows differ? | p-values adjusted step by step | Holm 1979 |

Miller 2024 is "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from dokja.judge.stats import t_cdf, t_quantile


def minimum_detectable(spread: float, n: int, power: float = 0.8, level: float = 0.95) -> float:
    """The true mean difference that a paired t test of n problems finds with probability `power`.

    `spread` is the standard deviation of one problem's difference. With Student's quantiles in place of the normal's,
    so that few problems do not promise too much. Infinite for n < 2.
    """
    if n < 2:
        return math.inf
    return (t_quantile(0.5 + level / 2, n - 1) + t_quantile(power, n - 1)) * spread / math.sqrt(n)


def spread_of(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Standard deviation of the problems' mean differences; 0 for fewer than two problems."""
    differences = [fmean(x) - fmean(y) for x, y in zip(a, b, strict=True)]
    return stdev(differences) if len(differences) > 1 else 0.0


def expected_spread(share: float) -> float:
    """The spread to plan with before any answer is there: one answer each, both models right in `share` of problems.

    sqrt(2 p (1 - p)), as if they failed independently. Models fail on the same problems more often than that, and
    repeats average some of it away, so a real comparison is finer.
    """
    return math.sqrt(2 * share * (1 - share))


def problems_needed(difference: float, spread: float, power: float = 0.8, level: float = 0.95) -> int:
    """Smallest n with `minimum_detectable(spread, n) <= difference`; ValueError for a difference of 0 or less."""
    if difference <= 0:
        raise ValueError(f"no number of problems shows a difference of {difference}")
    low, high = 1, 2
    while minimum_detectable(spread, high, power, level) > difference:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if minimum_detectable(spread, middle, power, level) <= difference else (middle, high)
    return high


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of as uneven a split of the problems that changed, were both directions equally likely."""
    n, fewer = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n)


def paired_p(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Two-sided p of "no difference" over the same problems: `mcnemar` for single right-or-wrong answers, else t.

    Where every problem changed by the same amount the t test has no spread to work with, and the signs decide.
    """
    differences = [fmean(x) - fmean(y) for x, y in zip(a, b, strict=True)]
    gained, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    single = all(len(s) == 1 and s[0] in (0.0, 1.0) for s in (*a, *b))
    if single or len(differences) < 2 or len(set(differences)) == 1:
        return mcnemar(gained, lost)
    error = stdev(differences) / math.sqrt(len(differences))
    return 2 * t_cdf(-abs(fmean(differences)) / error, len(differences) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: below 0.05 they are all true but for a chance of 5 %."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = largest
    return out
