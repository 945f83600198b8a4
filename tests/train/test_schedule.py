from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.train.schedule import SCHEDULES, cosine, wsd

STEPS = st.integers(1, 400)
SHARE = st.floats(0.0, 0.5)


def curve(schedule, steps, warmup, decay, final):
    return [schedule(step, steps, warmup, decay, final) for step in range(steps)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(SCHEDULES)), STEPS, SHARE, SHARE, st.floats(0.0, 1.0))
def test_rates_rise_then_never_rise_again_and_stay_within_the_peak(name, steps, warmup, decay, final):
    values = curve(SCHEDULES[name], steps, warmup, decay, final)
    up = sum(step < warmup * steps for step in range(steps))
    assert values[:up] == sorted(values[:up])
    assert values[up:] == sorted(values[up:], reverse=True)
    assert all(0.0 < v <= 1.0 for v in values[:up]) and all(final - 1e-12 <= v <= 1.0 + 1e-12 for v in values[up:])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(SCHEDULES)), STEPS, st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.floats(0.0, 1.0))
def test_no_step_jumps(name, steps, warmup, decay, final):
    values = curve(SCHEDULES[name], steps, warmup, decay, final)
    shortest = min(warmup, decay, 1 - warmup) * steps
    steepest = 1.58 / max(shortest, 1.0)  # half a cosine falls at most pi / 2 times as steeply as a line
    assert all(abs(b - a) <= steepest for a, b in pairwise(values))


@pytest.mark.parametrize("schedule", [wsd, cosine])
def test_the_end_of_the_last_step_is_the_final_rate(schedule):
    assert schedule(100, 100, 0.1, 0.3, 0.05) == pytest.approx(0.05)
    assert schedule(99, 100, 0.1, 0.3, 0.05) < 0.09


@pytest.mark.parametrize("schedule", [wsd, cosine])
def test_the_first_step_moves_and_the_peak_is_reached(schedule):
    assert schedule(0, 1000, 0.1, 0.3, 0.05) == pytest.approx(1 / 101)
    assert schedule(100, 1000, 0.1, 0.3, 0.05) == 1.0
    assert schedule(0, 1000, 0.0, 0.3, 0.05) == 1.0


def test_wsd_is_flat_between_warmup_and_decay_and_then_a_line():
    values = curve(wsd, 1000, 0.1, 0.3, 0.2)
    assert set(values[100:701]) == {1.0}
    falls = [a - b for a, b in pairwise(values[700:])]
    assert falls == pytest.approx([0.8 / 300] * len(falls))


def test_cosine_is_halfway_down_in_the_middle():
    assert cosine(550, 1000, 0.1, 0.0, 0.2) == pytest.approx(0.6)
