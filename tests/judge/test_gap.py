from datetime import date, timedelta

import pytest

from dokja.errors import DataError
from dokja.judge.gap import DAYS, MICROSOFT_RATE, catch_up, frontier, frontier_rate, linear_rate, relative
from dokja.judge.index import score
from dokja.judge.published import published

PAIRS = {"EXAONE 4.0 32B": (0.824, 5.9), "DeepSeek V3.1": (0.841, 5.3), "Israel": (0.651, 11.6)}


def day(months: float) -> date:
    return date(2025, 1, 1) + timedelta(days=months * DAYS)


def test_one_rate_gives_all_of_the_reports_published_pairs():
    for name, (share, months) in PAIRS.items():
        assert linear_rate(name, share).months == pytest.approx(months, abs=0.05)
    assert linear_rate("GPT-5", 1.0).months == 0.0


def test_the_pairs_pin_the_rate_to_three_digits():
    """Printed months are known to 0.05 and shares to 0.0005; only rates near 0.030 fit all three."""
    fit = [r / 1e5 for r in range(2000, 4000) if all(
        abs((1 - share) / (r / 1e5) - months) <= 0.05 + 0.0005 / (r / 1e5) for share, months in PAIRS.values()
    )]  # fmt: skip
    assert fit and min(fit) < MICROSOFT_RATE < max(fit) and max(fit) - min(fit) < 0.001


def test_the_pairs_are_those_shipped_with_their_source():
    found = {(f.model, f.unit): f for f in published().figures if "AI Diffusion Report" in f.source}
    for name, (share, months) in PAIRS.items():
        assert (found[name, "share"].value, found[name, "months"].value) == (share, months)
        assert "Microsoft" in found[name, "months"].by
    assert ("GPT-5", "months") not in found


def test_the_misquoted_gap_of_deepseek_is_a_difference_of_two():
    months = {name: pair[1] for name, pair in PAIRS.items()}
    assert months["EXAONE 4.0 32B"] - months["DeepSeek V3.1"] == pytest.approx(0.6)


def test_relative_performance_is_the_share_of_the_best_of_one_index():
    inputs = {"hle": 10, "gpqa_diamond": 70, "mmlu_pro": 80, "aime_2024": 80, "math_500": 90, "livecodebench": 60}
    scores = score("aaii-2.0", {"a": {**inputs, "scicode": 40}, "b": {**inputs, "scicode": 20}})
    share = relative(scores)
    assert share["a"] == 1 and share["b"] == scores[1].total.value / scores[0].total.value
    with pytest.raises(DataError, match=r"has no aaii-2\.0 score"):
        relative([*scores, *score("aaii-2.0", {"c": inputs})])


SCORES = {"first": 40.0, "weak": 30.0, "second": 60.0, "late": 55.0, "best": 80.0}
RELEASED = {"first": day(0), "weak": day(2), "second": day(6), "late": day(9), "best": day(12)}


def test_frontier_is_who_was_best_on_the_day():
    assert [name for _, name, _ in frontier(SCORES, RELEASED)] == ["first", "second", "best"]


def test_catch_up_is_the_horizontal_distance_to_the_frontier():
    late = catch_up("late", SCORES, RELEASED)
    assert late.months == pytest.approx(3.0, abs=0.04) and late.passed_by == "second" and late.method == "catch_up"
    assert catch_up("weak", SCORES, RELEASED).months == pytest.approx(2.0, abs=0.04)


def test_a_leader_has_no_months_behind():
    assert catch_up("best", SCORES, RELEASED).months is None and catch_up("second", SCORES, RELEASED).months is None


def test_estimators_answer_different_questions():
    """`late` is 3 months behind the frontier of its day, and much further behind today's."""
    today = linear_rate("late", SCORES["late"] / SCORES["best"], frontier_rate(SCORES, RELEASED))
    assert today.months > 6 > catch_up("late", SCORES, RELEASED).months


def test_measured_rate_is_the_slope_of_the_frontier_over_its_last_value():
    assert frontier_rate(SCORES, RELEASED) == pytest.approx(40 / 12 / 80, rel=0.01)
    with pytest.raises(ValueError, match="two models"):
        frontier_rate({"a": 1.0}, {"a": day(0)})
    with pytest.raises(ValueError, match="never"):
        linear_rate("a", 0.5, 0.0)
