"""One ability per model from whatever benchmarks each has sat: a sigmoid of ability minus difficulty.

    p(m, b) = sigmoid(slope_b * (ability_m - difficulty_b))

fitted by least squares to the published shares plus `ridge` times the mean square of all parameters, with slopes held
within [0.1, 10]: the item-response model of Epoch AI's Capabilities Index ("A Rosetta Stone for AI Benchmarks", whose
code adds the same penalty). The ridge picks one of the equivalent scales; `rescale` then puts two models on round
numbers. Uncertainty is that of the choice of benchmarks: they are drawn anew and everything is fitted again.

Levenberg-Marquardt in numpy: the problem has a few hundred parameters and a dense Jacobian, so scipy would add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from dokja.judge.gap import Gap, catch_up

Observation = tuple[str, str, float]
"""model, benchmark, share in [0, 1]"""
RIDGE = 0.1
SLOPES = (0.1, 10.0)
_SEED = 2_718_281
_ROUNDS, _STEEP, _ACTIVE_SETS = 400, 1e-6, 30
"""Most steps of a fit, the slope of the cost at which it is done, most changes of what is held at a bound."""


@dataclass(frozen=True)
class Abilities:
    """A fit. Abilities and difficulties are on one scale; `rmse` is of shares."""

    ability: dict[str, float]
    difficulty: dict[str, float]
    slope: dict[str, float]
    rmse: float

    def rescale(self, anchors: Mapping[str, float]) -> Abilities:
        """The same fit with two models at given figures (Epoch: Claude 3.5 Sonnet 130, GPT-5 150).

        ValueError unless there are two anchors of different ability in the fit.
        """
        (a, to_a), (b, to_b) = sorted(anchors.items())
        here_a, here_b = self.ability[a], self.ability[b]
        if here_a == here_b or to_a == to_b:
            raise ValueError(f"{a} and {b} cannot anchor a scale: they are equally able")
        times = (to_b - to_a) / (here_b - here_a)

        def move(value: float) -> float:
            return to_a + times * (value - here_a)

        return replace(
            self,
            ability={name: move(v) for name, v in self.ability.items()},
            difficulty={name: move(v) for name, v in self.difficulty.items()},
            slope={name: v / times for name, v in self.slope.items()},
        )


def fit(
    observations: Sequence[Observation],
    ridge: float = RIDGE,
    weights: Sequence[float] | None = None,
    start: Abilities | None = None,
) -> Abilities:
    """Least squares over `observations`; `weights` count each so many times. ValueError without any, or outside [0, 1].

    A model or benchmark that appears once is fitted all the same: the ridge holds it near the middle. `start`, a fit of
    at least these models and benchmarks, saves rounds.
    """
    if not observations or not all(0 <= share <= 1 for _, _, share in observations):
        raise ValueError("a fit needs observations, all of them shares within 0 and 1")
    models = list(dict.fromkeys(m for m, _, _ in observations))
    benchmarks = list(dict.fromkeys(b for _, b, _ in observations))
    at_m = {name: i for i, name in enumerate(models)}
    at_b = {name: i for i, name in enumerate(benchmarks)}
    m_N = np.array([at_m[m] for m, _, _ in observations])
    b_N = np.array([at_b[b] for _, b, _ in observations])
    share_N = np.array([share for _, _, share in observations])
    weight_N = np.ones(len(observations)) if weights is None else np.sqrt(np.asarray(weights, dtype=float))
    M, B = len(models), len(benchmarks)
    if start is None:
        first_P = _margins(m_N, b_N, share_N, M, B)
    else:
        known = [*(start.ability[m] for m in models), *(start.difficulty[b] for b in benchmarks)]
        first_P = np.array([*known, *(start.slope[b] for b in benchmarks)])
    theta_P = _solve(first_P, m_N, b_N, share_N, weight_N, M, B, ridge)
    error_N = _predict(theta_P, m_N, b_N, M, B)[0] - share_N
    return Abilities(
        # Models with the same scores are equally able: the last digits of a fit must not put one before the other.
        dict(zip(models, theta_P[:M].round(6).tolist(), strict=True)),
        dict(zip(benchmarks, theta_P[M : M + B].tolist(), strict=True)),
        dict(zip(benchmarks, theta_P[M + B :].tolist(), strict=True)),
        float(np.sqrt(np.average(error_N**2, weights=weight_N**2))),
    )


def capability_gap(
    model: str, observations: Sequence[Observation], released: Mapping[str, date], draws: int = 100
) -> Gap:
    """`gap.catch_up` on fitted abilities; low and high are the 2.5 and 97.5 percentiles over redrawn benchmarks.

    Draws in which the model leads count as no months behind. None for the interval where the model itself leads.
    """
    whole = fit(observations)
    found = catch_up(model, whole.ability, released, "capability")
    if found.months is None:
        return found
    benchmarks = list(dict.fromkeys(b for _, b, _ in observations))
    rng = np.random.Generator(np.random.PCG64(_SEED))
    months = []
    for _ in range(draws):
        counts = np.bincount(rng.integers(0, len(benchmarks), len(benchmarks)), minlength=len(benchmarks))
        times = dict(zip(benchmarks, counts.tolist(), strict=True))
        kept = [o for o in observations if times[o[1]]]
        if any(m == model for m, _, _ in kept):
            ability = fit(kept, weights=[times[b] for _, b, _ in kept], start=whole).ability
            months.append(catch_up(model, ability, released).months or 0.0)
    low, high = np.quantile(months, (0.025, 0.975))
    return replace(found, low=float(low), high=float(high))


def _predict(theta_P: np.ndarray, m_N: np.ndarray, b_N: np.ndarray, M: int, B: int) -> tuple[np.ndarray, ...]:
    """(shares, ability minus difficulty, slopes) of each observation."""
    apart_N = theta_P[m_N] - theta_P[M + b_N]
    slope_N = theta_P[M + B + b_N]
    return 1 / (1 + np.exp(-np.clip(slope_N * apart_N, -500, 500))), apart_N, slope_N


def _margins(m_N: np.ndarray, b_N: np.ndarray, share_N: np.ndarray, M: int, B: int) -> np.ndarray:
    """A first guess: how much better than the mean each model does, how much worse each benchmark is done."""
    theta_P = np.ones(M + 2 * B)
    for at, index_N, sign, size in ((0, m_N, 1, M), (M, b_N, -1, B)):
        seen_N = np.bincount(index_N, minlength=size)
        theta_P[at : at + size] = sign * (np.bincount(index_N, share_N, size) / seen_N - share_N.mean())
    return theta_P


def _solve(
    theta_P: np.ndarray,
    m_N: np.ndarray,
    b_N: np.ndarray,
    share_N: np.ndarray,
    weight_N: np.ndarray,
    M: int,
    B: int,
    ridge: float,
) -> np.ndarray:
    """Parameters P = abilities, difficulties, slopes; damped Gauss-Newton steps within the slopes' bounds."""
    P, N = M + 2 * B, len(share_N)
    rows_N = np.arange(N)
    pull = ridge / P

    def cost_of(theta_P: np.ndarray) -> float:
        error_N = weight_N * (_predict(theta_P, m_N, b_N, M, B)[0] - share_N)
        return float(error_N @ error_N + pull * (theta_P @ theta_P))

    cost, damping = cost_of(theta_P), 1e-3
    for _ in range(_ROUNDS):
        p_N, apart_N, slope_N = _predict(theta_P, m_N, b_N, M, B)
        steep_N = weight_N * p_N * (1 - p_N)
        J_NP = np.zeros((N, P))
        J_NP[rows_N, m_N] = steep_N * slope_N
        J_NP[rows_N, M + b_N] = -steep_N * slope_N
        J_NP[rows_N, M + B + b_N] = steep_N * apart_N
        H_PP = J_NP.T @ J_NP + pull * np.eye(P)
        g_P = J_NP.T @ (weight_N * (p_N - share_N)) + pull * theta_P
        # at the solution only a slope at a bound may still be pulled, outwards
        slopes_B, g_B = theta_P[M + B :], g_P[M + B :]
        held_B = ((slopes_B <= SLOPES[0]) & (g_B > 0)) | ((slopes_B >= SLOPES[1]) & (g_B < 0))
        if np.abs(np.concatenate([g_P[: M + B], g_B[~held_B]])).max() < _STEEP:
            break
        tried_P = _moved(theta_P, H_PP + damping * np.diag(np.diag(H_PP)), g_P, M + B)
        step_P, tried = tried_P - theta_P, cost_of(tried_P)
        promised = -float(2 * g_P @ step_P + step_P @ H_PP @ step_P)
        gain = (cost - tried) / promised if promised > 0 else -1.0
        if gain > 0:
            theta_P, cost = tried_P, tried
        # A step that keeps little of its promise overshoots: Gauss-Newton takes the curve for flatter than it is.
        damping = min(damping * 4, 1e10) if gain < 0.25 else max(damping / 10, 1e-10) if gain > 0.75 else damping
    return theta_P


def _moved(theta_P: np.ndarray, H_PP: np.ndarray, g_P: np.ndarray, first_slope: int) -> np.ndarray:
    """`theta_P` plus the step that minimises step H step / 2 + g step with slopes within their bounds.

    Primal-dual active sets (Hintermueller, Ito and Kunisch 2002): a slope that would leave goes just to its bound and
    all others are solved with that known; one that the others then pull back inside is let go again.
    """
    low_P, high_P = np.full((2, len(theta_P)), np.inf) * [[-1], [1]]
    low_P[first_slope:], high_P[first_slope:] = SLOPES
    out_P, held_P = theta_P.copy(), np.zeros(len(theta_P), dtype=bool)
    for _ in range(_ACTIVE_SETS):
        free_P = ~held_P
        pushed_F = H_PP[np.ix_(free_P, held_P)] @ (out_P - theta_P)[held_P]
        out_P[free_P] = theta_P[free_P] + np.linalg.solve(H_PP[np.ix_(free_P, free_P)], -g_P[free_P] - pushed_F)
        pull_P = g_P + H_PP @ (out_P - theta_P)
        outwards_P = ((out_P <= low_P) & (pull_P >= 0)) | ((out_P >= high_P) & (pull_P <= 0))
        wanted_P = (free_P & ((out_P < low_P) | (out_P > high_P))) | (held_P & outwards_P)
        out_P = np.clip(out_P, low_P, high_P)
        if (wanted_P == held_P).all():
            break
        held_P = wanted_P
    return out_P
