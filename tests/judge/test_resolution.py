import math
import random
from itertools import product
from statistics import stdev

import pytest

from dokja.judge.resolution import (
    expected_spread,
    holm,
    mcnemar,
    minimum_detectable,
    paired_p,
    problems_needed,
    spread_of,
)
from dokja.judge.stats import paired_difference


def test_mcnemar_equals_counting_every_way_the_changes_could_fall():
    for n in range(9):
        for gained in range(n + 1):
            ways = [sum(w) for w in product((0, 1), repeat=n)]
            extreme = sum(abs(w - n / 2) >= abs(gained - n / 2) for w in ways) / len(ways)
            assert mcnemar(gained, n - gained) == pytest.approx(extreme)


def test_mcnemar_is_a_published_example():
    """Agresti, Categorical Data Analysis: 150 against 86 changed opinions; z = 4.17 by the normal approximation."""
    z = (150 - 86) / math.sqrt(150 + 86)
    assert mcnemar(150, 86) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.3) and mcnemar(150, 86) < 5e-5


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five():
    rng = random.Random(7)
    n, spread = 25, 0.5
    shift = minimum_detectable(spread, n)
    found = 0
    for _ in range(800):
        a = [[rng.gauss(shift, spread)] for _ in range(n)]
        found += paired_difference(a, [[0.0]] * n).low > 0
    assert 0.75 < found / 800 < 0.85


def test_few_problems_promise_less_than_the_normal_quantiles():
    normal = (1.959964 + 0.841621) * 0.5
    assert minimum_detectable(0.5, 10) > normal / math.sqrt(10) * 1.1
    assert minimum_detectable(0.5, 10**6) == pytest.approx(normal / 1000, rel=1e-4)
    assert minimum_detectable(0.5, 1) == math.inf


def test_problems_needed_is_the_smallest_that_shows_the_difference():
    for wanted in (0.02, 0.1, 0.3):
        n = problems_needed(wanted, expected_spread(0.7))
        assert minimum_detectable(expected_spread(0.7), n) <= wanted < minimum_detectable(expected_spread(0.7), n - 1)
    with pytest.raises(ValueError, match="no number"):
        problems_needed(0.0, 0.5)


def test_fifty_problems_show_a_quarter_and_not_ten_points():
    assert 0.2 < minimum_detectable(expected_spread(0.7), 50) < 0.3


def test_spread_is_that_of_the_paired_differences():
    a, b = [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert spread_of(a, b) == stdev([0.5, 0.5, 0.5]) == 0.0 and spread_of(a[:1], b[:1]) == 0.0
    assert expected_spread(0.5) == pytest.approx(stdev([1, -1, 0, 0] * 5000), rel=1e-3)


def test_p_agrees_with_the_interval_of_the_difference():
    rng = random.Random(9)
    for _ in range(60):
        a = [[float(rng.random() < 0.75) for _ in range(3)] for _ in range(20)]
        b = [[float(rng.random() < 0.5) for _ in range(3)] for _ in range(20)]
        e = paired_difference(a, b)
        assert (paired_p(a, b) < 0.05) == (e.low > 0 or e.high < 0)


def test_single_answers_are_tested_exactly():
    a, b = [[1.0]] * 9 + [[0.0]] * 3, [[1.0]] * 3 + [[0.0]] * 9
    assert paired_p(a, b) == mcnemar(6, 0) == 2 / 2**6


def test_holm_is_the_worked_example():
    """Holm's own rule by hand: 4 * 0.005, 3 * 0.01, 2 * 0.03 and the last no smaller than the one before it."""
    assert holm([0.01, 0.03, 0.005, 0.04]) == pytest.approx([0.03, 0.06, 0.02, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_never_calls_more_than_bonferroni_allows_by_chance():
    rng = random.Random(11)
    false = sum(min(holm([rng.random() for _ in range(12)])) < 0.05 for _ in range(2000))
    assert false / 2000 < 0.065
