"""Admission: counts, what is turned away, and when it should come back."""

import pytest

from dokja.serve.limits import Admission, Busy, Limits


def test_places_are_given_back_once() -> None:
    admission = Admission(Limits(requests=3))
    tickets = [admission.enter(1, 2) for _ in range(3)]
    with pytest.raises(Busy) as busy:
        admission.enter(1, 2)
    assert busy.value.retry_after >= 1
    tickets[0].leave()
    tickets[0].leave(finished=True)
    assert admission.requests == 2
    admission.enter(1, 2)
    with pytest.raises(Busy):
        admission.enter(1, 2)


def test_a_request_for_more_answers_than_places_left_is_turned_away_whole() -> None:
    admission = Admission(Limits(requests=4))
    admission.enter(3, 2)
    with pytest.raises(Busy):
        admission.enter(2, 2)
    assert admission.requests == 3


def test_prompts_share_the_tokens_but_one_alone_may_be_long() -> None:
    admission = Admission(Limits(tokens=100))
    first, second = admission.enter(1, 1), admission.enter(1, 1)
    first.add_tokens(150)
    with pytest.raises(Busy):
        second.add_tokens(10)
    first.leave()
    second.add_tokens(10)
    assert admission.tokens == 10


def test_what_would_not_be_done_in_time_is_turned_away() -> None:
    """Two slots, 4 s an answer, 10 s allowed: behind five others the sixth would end after 12 s."""
    admission = Admission(Limits(requests=100, seconds=10))
    for _ in range(50):
        admission.learn(4.0, 1.0)
    tickets = []
    while True:
        try:
            tickets.append(admission.enter(1, 2))
        except Busy as busy:
            assert busy.retry_after == 2
            break
    assert len(tickets) == 5
    tickets[0].leave()
    admission.enter(1, 2)


def test_waiting_is_not_taken_for_work() -> None:
    admission = Admission(Limits(seconds=100))
    for _ in range(60):
        admission.learn(8.0, 4.0)  # four rounds of two seconds
    assert admission._seconds == pytest.approx(2.0)
