import math

import pytest

from dokja.judge.speed import Stream, blended_price, cost, measure, per_task


def test_output_speed_leaves_out_the_first_chunk_and_the_wait_for_it():
    stream = Stream(((0.5, 10), (1.0, 25), (1.5, 25)))
    assert stream.first_token == 0.5 and stream.output_speed == 50.0
    assert Stream(((9.5, 10), (10.0, 25), (10.5, 25))).output_speed == 50.0


def test_empty_chunks_are_no_tokens():
    stream = Stream(((0.1, 0), (0.5, 10), (1.5, 50), (9.0, 0)))
    assert stream.first_token == 0.5 and stream.output_speed == 50.0


def test_end_to_end_waits_thinks_and_answers():
    stream = Stream(((2.0, 1), (12.0, 1000)), thought_tokens=1500)
    assert stream.end_to_end() == 2.0 + 2000 / 100


def test_answers_that_come_at_once_have_no_speed():
    assert math.isnan(Stream(((0.5, 100),)).output_speed) and math.isnan(Stream(()).first_token)


def test_figures_are_medians_of_streams_that_have_them():
    streams = [Stream(((t, 1), (t + 1, s))) for t, s in ((0.1, 10), (0.2, 20), (5.0, 90))]
    found = measure([*streams, Stream(())])
    assert (found.first_token, found.output_speed, found.n) == (0.2, pytest.approx(20), 4)


def test_blended_price_is_three_parts_input_to_one_of_output():
    assert blended_price(1.0, 5.0) == 2.0 and blended_price(1.0, 5.0, (1, 1)) == 3.0


def test_cost_counts_cached_input_at_its_own_price():
    assert cost(1_000_000, 500_000, 1.0, 4.0) == 3.0
    assert cost(1_000_000, 0, 1.0, 4.0, cached_tokens=500_000, cached_price=0.1) == pytest.approx(0.55)
    assert cost(100, 0, 1.0, 4.0, cached_tokens=50) == cost(100, 0, 1.0, 4.0)
    with pytest.raises(ValueError, match="cannot come from a cache"):
        cost(10, 0, 1.0, 1.0, cached_tokens=11)


def test_amounts_per_task_are_weighted_as_the_score_is():
    assert per_task([(20, 300.0, 100), (10, 120.0, 20)]) == pytest.approx((20 * 3 + 10 * 6) / 30)
