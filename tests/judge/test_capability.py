import random
from datetime import date, timedelta

import numpy as np
import pytest

from dokja.judge.capability import RIDGE, SLOPES, capability_gap, fit
from dokja.judge.gap import DAYS


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def world(models=14, benchmarks=7, seen=1.0, noise=0.0, seed=3):
    """Models of rising ability, benchmarks of rising difficulty, and the shares they would show."""
    rng = random.Random(seed)
    ability = {f"m{i}": -2 + 4 * i / (models - 1) for i in range(models)}
    hard = {f"b{i}": (-1.5 + 3 * i / (benchmarks - 1), 0.8 + 0.3 * (i % 3)) for i in range(benchmarks)}
    out = []
    for m, a in ability.items():
        for b, (d, slope) in hard.items():
            if rng.random() < seen:
                out.append((m, b, float(min(1, max(0, sigmoid(slope * (a - d)) + rng.gauss(0, noise))))))
    return ability, out


def cost(found, observations):
    theta = [*found.ability.values(), *found.difficulty.values(), *found.slope.values()]
    errors = [sigmoid(found.slope[b] * (found.ability[m] - found.difficulty[b])) - s for m, b, s in observations]
    return float(np.sum(np.square(errors)) + RIDGE * np.mean(np.square(theta)))


def ranks(values):
    return sorted(values, key=values.__getitem__)


def test_abilities_are_recovered_up_to_the_scale():
    ability, observations = world()
    found = fit(observations, ridge=1e-6)
    names = list(ability)
    assert np.corrcoef([ability[m] for m in names], [found.ability[m] for m in names])[0, 1] > 0.9999
    assert found.rmse < 1e-3


def test_no_small_move_of_a_parameter_lowers_the_cost():
    _, observations = world(noise=0.05, seen=0.8)
    found = fit(observations)
    best = cost(found, observations)
    for values in (found.ability, found.difficulty, found.slope):
        for name, value in list(values.items()):
            for step in (-1e-3, 1e-3):
                moved = value + step
                if values is found.slope and not SLOPES[0] <= moved <= SLOPES[1]:
                    continue
                values[name] = moved
                assert cost(found, observations) > best - 1e-8
            values[name] = value


def test_sparse_tables_still_rank_models_that_share_no_benchmark():
    ability, observations = world(models=20, benchmarks=10, seen=0.4, noise=0.01)
    found = fit(observations)
    order = {name: n for n, name in enumerate(ranks(found.ability))}
    true = {name: n for n, name in enumerate(ranks({m: ability[m] for m in found.ability}))}
    assert np.corrcoef([order[m] for m in order], [true[m] for m in order])[0, 1] > 0.97


def test_rescaling_moves_the_scale_and_no_prediction():
    _, observations = world()
    found = fit(observations)
    moved = found.rescale({"m3": 130.0, "m11": 150.0})
    assert moved.ability["m3"] == pytest.approx(130) and moved.ability["m11"] == pytest.approx(150)
    for m, b, _ in observations:
        before = found.slope[b] * (found.ability[m] - found.difficulty[b])
        assert moved.slope[b] * (moved.ability[m] - moved.difficulty[b]) == pytest.approx(before)
    with pytest.raises(ValueError, match="equally able"):
        found.rescale({"m3": 130.0, "m11": 130.0})


def test_slopes_stay_within_their_bounds():
    steps = [(f"m{i}", b, float(i >= 3)) for i in range(6) for b in ("b0", "b1")]
    flat = [(f"m{i}", "flat", 0.5) for i in range(6)]
    found = fit([*steps, *flat], ridge=0.0)
    assert all(SLOPES[0] <= s <= SLOPES[1] for s in found.slope.values())


def test_weights_count_an_observation_so_many_times():
    _, observations = world(noise=0.1)
    twice = fit([*observations, *observations[:20]])
    weighted = fit(observations, weights=[2.0] * 20 + [1.0] * (len(observations) - 20))
    assert list(weighted.ability.values()) == pytest.approx(list(twice.ability.values()), abs=1e-3)


def test_months_by_ability_are_those_between_equally_able_models():
    ability, observations = world(models=12, noise=0.02)
    start = date(2024, 1, 1)
    released = {name: start + timedelta(days=n * DAYS) for n, name in enumerate(ability)}
    released["copy"] = start + timedelta(days=14 * DAYS)
    copied = [*observations, *(("copy", b, s - 0.01 if s > 0.01 else s) for m, b, s in observations if m == "m6")]
    gap = capability_gap("copy", copied, released, draws=12)
    assert gap.method == "capability" and gap.passed_by == "m6" and gap.months == pytest.approx(8, abs=0.1)
    assert gap.low <= gap.months <= gap.high
    assert capability_gap("m11", observations, released, draws=2).months is None


def test_observations_outside_of_shares_are_refused():
    with pytest.raises(ValueError, match="shares"):
        fit([("m", "b", 81.8)])
    with pytest.raises(ValueError, match="needs observations"):
        fit([])
