import itertools
import math
import random

import pytest

from dokja.judge.stats import (
    Estimate,
    clustered_error,
    difference,
    mean_over_problems,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    t_cdf,
    t_quantile,
    wilson,
)


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_and_pass_hat_k_equal_counting_every_draw(n):
    for c in range(n + 1):
        answers = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            draws = list(itertools.combinations(answers, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
            assert pass_hat_k(n, c, k) == pytest.approx(sum(map(all, draws)) / len(draws))


def test_pass_at_k_without_enough_answers_is_no_number():
    assert math.isnan(pass_at_k(3, 3, 4)) and math.isnan(pass_hat_k(3, 3, 4))
    with pytest.raises(ValueError, match="c <= n"):
        pass_at_k(3, 4, 1)


def test_wilson_bounds_are_where_the_score_test_just_fails():
    z = 1.959963984540054
    for n in (1, 7, 40, 1000):
        for right in range(n + 1):
            share = right / n
            for bound in wilson(share, n):
                assert abs(share - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), abs=1e-9)


def test_wilson_stays_inside_and_contains_the_share():
    for n in (1, 2, 9, 300):
        for right in range(n + 1):
            low, high = wilson(right / n, n)
            assert 0 <= low <= right / n <= high <= 1 and low < high
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_wilson_covers_about_95_percent_counted_exactly():
    for n, p in ((30, 0.5), (60, 0.85), (200, 0.95)):
        inside = 0.0
        for right in range(n + 1):
            low, high = wilson(right / n, n)
            inside += (low <= p <= high) * math.comb(n, right) * p**right * (1 - p) ** (n - right)
        assert 0.92 < inside < 0.98


def test_t_distribution_equals_its_closed_forms():
    for t in (-7.5, -1.0, 0.0, 0.3, 2.0, 40.0):
        assert t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
        assert t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)
    for p in (0.6, 0.975, 0.999):
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
        assert t_quantile(1 - p, 2) == pytest.approx(-t_quantile(p, 2))
    assert t_quantile(0.975, 1e7) == pytest.approx(1.959963984540054, abs=1e-5)


def test_t_quantile_equals_the_printed_tables():
    for df, expected in ((4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)):
        assert t_quantile(0.975, df) == pytest.approx(expected, abs=5e-4)


def test_single_answers_use_wilson_and_repeats_count_problems():
    single = mean_over_problems([[1.0]] * 8 + [[0.0]] * 2)
    assert (single.value, single.n) == (0.8, 10) and (single.low, single.high) == wilson(0.8, 10)
    copied = mean_over_problems([[s] * 50 for s in [1.0] * 8 + [0.0] * 2])
    half = t_quantile(0.975, 9) * math.sqrt((8 * 0.2**2 + 2 * 0.8**2) / 9) / math.sqrt(10)
    assert (copied.low, copied.high) == (pytest.approx(0.8 - half), 1.0)


def test_every_problem_weighs_the_same_whatever_its_repeats():
    assert mean_over_problems([[1.0] * 9, [0.0]]).value == 0.5


def test_all_right_still_leaves_doubt():
    sure = mean_over_problems([[1.0, 1.0]] * 20)
    assert sure.value == sure.high == 1.0 and 0.8 < sure.low < 0.9


def test_no_problems_give_no_number_and_a_full_interval():
    nothing = mean_over_problems([])
    assert math.isnan(nothing.value) and (nothing.low, nothing.high) == (0.0, 1.0)


def test_clustered_interval_covers_where_the_naive_one_does_not():
    rng = random.Random(1)
    clustered = naive = 0
    for _ in range(300):
        ease = [rng.betavariate(0.5, 0.5) for _ in range(40)]
        scores = [[float(rng.random() < p) for _ in range(8)] for p in ease]
        e = mean_over_problems(scores)
        low, high = wilson(e.value, 40 * 8)
        clustered += e.low <= 0.5 <= e.high
        naive += low <= 0.5 <= high
    assert clustered > 0.91 * 300 > 0.75 * 300 > naive


def test_pairing_narrows_the_difference_when_problems_differ_in_difficulty():
    a = [[1.0]] * 30 + [[0.0]] * 20
    b = [[1.0]] * 25 + [[0.0]] * 25
    paired, loose = paired_difference(a, b), difference(mean_over_problems(a), mean_over_problems(b))
    assert paired.value == pytest.approx(loose.value) == pytest.approx(0.1)
    assert paired.high - paired.low < 0.6 * (loose.high - loose.low)
    half = t_quantile(0.975, 49) * math.sqrt((5 * 0.9**2 + 45 * 0.1**2) / 49) / math.sqrt(50)
    assert paired.low == pytest.approx(0.1 - half)


def test_difference_of_equal_differences_is_not_called_certain():
    gap = paired_difference([[1.0]] * 12, [[0.0]] * 12)
    assert gap.value == 1.0 and gap.high == 1.0 and 0.5 < gap.low < 1.0


def test_difference_adds_squared_half_widths():
    e = difference(Estimate(0.9, 0.86, 0.93, 100), Estimate(0.5, 0.4, 0.6, 80))
    assert e.value == pytest.approx(0.4) and e.n == 80
    assert e.low == pytest.approx(0.4 - math.hypot(0.04, 0.1)) and e.high == pytest.approx(0.4 + math.hypot(0.03, 0.1))


def test_paired_difference_refuses_other_numbers_of_problems():
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([[1.0]], [[1.0], [0.0]])


def test_clusters_of_one_change_nothing():
    scores = [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.5, 1.0]]
    assert mean_over_problems(scores, clusters="abcd") == mean_over_problems(scores)
    assert paired_difference(scores, scores[::-1], clusters="abcd") == paired_difference(scores, scores[::-1])


def test_copies_of_a_problem_in_one_cluster_add_no_certainty():
    means = [0.1, 0.9, 0.4, 0.7, 0.2]
    once, _ = clustered_error(means)
    copied, g = clustered_error([m for m in means for _ in range(3)], [n for n in range(5) for _ in range(3)])
    assert g == 5 and copied == pytest.approx(once)
    assert clustered_error([m for m in means for _ in range(3)])[0] < 0.6 * once


def test_clustered_error_is_the_double_sum_over_pairs_of_a_cluster():
    """Miller 2024: SE^2 = sum over pairs i, j of one cluster of (s_i - mean)(s_j - mean) / n^2, times G / (G-1)."""
    rng = random.Random(3)
    values = [rng.random() for _ in range(30)]
    clusters = [rng.randrange(7) for _ in values]
    mean = sum(values) / 30
    pairs = sum(
        (values[i] - mean) * (values[j] - mean) for i in range(30) for j in range(30) if clusters[i] == clusters[j]
    )
    error, g = clustered_error(values, clusters)
    assert error == pytest.approx(math.sqrt(pairs * g / (g - 1)) / 30)


def test_clustered_interval_covers_where_problems_hang_together():
    rng = random.Random(5)
    wide = narrow = 0
    for _ in range(200):
        scores, names = [], []
        for passage in range(25):
            p = rng.betavariate(0.4, 0.4)
            scores += [[float(rng.random() < p)] for _ in range(6)]
            names += [passage] * 6
        e, loose = mean_over_problems(scores, clusters=names), mean_over_problems(scores)
        wide += e.low <= 0.5 <= e.high
        narrow += loose.low <= 0.5 <= loose.high
    assert wide > 0.9 * 200 > 0.8 * 200 > narrow


def test_clusters_must_name_every_problem():
    with pytest.raises(ValueError, match="one cluster per value"):
        mean_over_problems([[1.0], [0.0]], clusters=["a"])
