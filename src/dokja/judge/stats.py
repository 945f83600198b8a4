"""The arithmetic of a benchmark: means over problems, intervals that know about repeats, pass@k.

| question | estimate | 95 % interval |
|---|---|---|
| one answer per problem, right or wrong | share right | Wilson (1927) |
| several answers per problem, or partial scores | mean of the problems' means | Student t over problems, the clusters |
| problems that share something (a passage, a template) | the same | Student t over the clusters named |
| the same problems under two conditions | mean of the differences | Student t over the paired differences |
| other problems, or another language | difference of means | square-and-add of the two intervals (Newcombe 1998) |

Answers to one problem are not independent, so the number of problems, never of answers, sets the width. Where problems
hang together in turn, `clusters` says which, and the number of clusters does (Miller 2024, arXiv 2411.00640). Where the
spread observed is zero (every problem solved) a t interval would have no width and claim certainty; Wilson's over the
number of problems takes its place. No scipy: two distribution functions do not justify a dependency of its size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; `n` counts problems, or clusters of them where they were named."""

    value: float
    low: float
    high: float
    n: int


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k answers drawn from n, of which c are right, is right: 1 - C(n-c, k) / C(n, k).

    Unbiased (Chen et al. 2021, arXiv 2107.03374). NaN where fewer than k answers exist.
    """
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass@k needs 0 <= c <= n and k >= 1, got n={n}, c={c}, k={k}")
    return math.nan if n < k else 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Chance that all of k answers drawn from n, of which c are right, are right: C(c, k) / C(n, k). NaN if n < k."""
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass^k needs 0 <= c <= n and k >= 1, got n={n}, c={c}, k={k}")
    return math.nan if n < k else math.comb(c, k) / math.comb(n, k)


def wilson(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share observed in n independent trials; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def mean_over_problems(
    scores: Sequence[Sequence[float]], level: float = 0.95, clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """Mean score with its interval; `scores` holds one sequence of scores in [0, 1] per problem, one per repeat.

    Every problem weighs the same, however many answers of it there are. `clusters` names the cluster of each problem;
    without it each problem is one. NaN in (0, 1) without problems.
    """
    means = [fmean(s) for s in scores]
    if not means:
        return Estimate(math.nan, 0.0, 1.0, 0)
    value = fmean(means)
    error, n = clustered_error(means, clusters)
    single_and_binary = n == len(means) and all(len(s) == 1 and s[0] in (0.0, 1.0) for s in scores)
    if single_and_binary or n == 1 or error == 0:
        return Estimate(value, *wilson(value, n, level), n)
    half = t_quantile(0.5 + level / 2, n - 1) * error
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), n)


def paired_difference(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    level: float = 0.95,
    clusters: Sequence[Hashable] | None = None,
) -> Estimate:
    """Mean of a - b over the same problems in the same order; pairing removes the problems' own difficulty."""
    if len(a) != len(b):
        raise ValueError(f"paired conditions need the same problems, got {len(a)} and {len(b)}")
    differences = [fmean(x) - fmean(y) for x, y in zip(a, b, strict=True)]
    error, n = clustered_error(differences, clusters) if differences else (0.0, 0)
    if n < 2 or error == 0:
        return difference(mean_over_problems(a, level, clusters), mean_over_problems(b, level, clusters))
    value = fmean(differences)
    half = t_quantile(0.5 + level / 2, n - 1) * error
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), n)


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> tuple[float, int]:
    """(standard error of the mean of `values`, number of clusters); 0 for one cluster, which shows no spread.

        SE^2 = G / (G - 1) * sum over clusters (sum in the cluster of (value - mean))^2 / N^2

    the sandwich of Liang and Zeger (1986) for a mean, with the usual correction for G clusters. With clusters of one
    it is the sample's standard deviation / sqrt(N).
    """
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"clusters must name one cluster per value, got {len(clusters)} for {len(values)}")
    mean, sums = fmean(values), dict[Hashable, float]()
    for name, value in zip(clusters if clusters is not None else range(len(values)), values, strict=True):
        sums[name] = sums.get(name, 0.0) + value - mean
    if (g := len(sums)) < 2 or len(set(values)) == 1:
        return 0.0, g
    return math.sqrt(g / (g - 1) * math.fsum(s * s for s in sums.values())) / len(values), g


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent estimates: squared half-widths add (Newcombe 1998, method 10; Zou and Donner 2008)."""
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, max(-1.0, low), min(1.0, high), min(a.n, b.n))


def t_cdf(t: float, df: float) -> float:
    """Student's distribution function: 1 - I_x(df/2, 1/2) / 2 for t >= 0, with x = df / (df + t^2)."""
    tail = 0.5 * _beta_share(df / 2, 0.5, df / (df + t * t))
    return 1.0 - tail if t >= 0 else tail


def t_quantile(p: float, df: float) -> float:
    """The t with `t_cdf(t, df) == p`, by bisection to the last bit that matters."""
    if not 0 < p < 1 or df <= 0:
        raise ValueError(f"a t quantile needs 0 < p < 1 and df > 0, got p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def _beta_share(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta I_x(a, b) by its continued fraction (Lentz; Numerical Recipes, section 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only below the mean
        return 1.0 - _beta_share(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 400):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d or tiny)
            c = 1.0 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * fraction / a
