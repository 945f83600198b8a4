"""What counts as the same answer."""

from __future__ import annotations

import pytest

from dokja.tasks.extract import (
    final_part,
    is_refusal,
    same_date,
    same_label,
    same_list,
    same_number,
    same_time,
    same_weekday,
    same_word,
)


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("12", "12", True),
        ("12", "１２", True),
        ("12", "012.0", True),
        ("12", "3+9=12", True),
        ("12", "12개입니다.", True),
        ("12", "먼저 3을 더한다\n정답: 12", True),
        ("12", "The answer is: **12**!", True),
        ("12", "so \\boxed{12} apples", True),
        ("1234", "1,234", True),
        ("1234", "1,234원", True),
        ("12", "12.5", False),
        ("12", "-12", False),
        ("12", "112", False),
        ("12", "12 or 13", None),
        ("12", "twelve", None),
        ("0", "-0", True),
    ],
)
def test_numbers(reference, answer, verdict):
    assert same_number(reference, answer) is verdict


@pytest.mark.parametrize(
    ("check", "reference", "answer", "verdict"),
    [
        (same_list, "5,8,12", "5, 8, 12", True),
        (same_list, "5,8,12", "[5 8 12]", True),
        (same_list, "5,8,12", "5,12,8", False),
        (same_list, "5,8,12", "5,8", False),
        (same_list, "5,8,12", "none", None),
        (same_word, "나비", "나 비", True),
        (same_word, "나비", "나비입니다.", True),
        (same_word, "나다", "나다", True),
        (same_word, "tac", "It is 'tac'.", True),
        (same_word, "tac", "TAC", True),
        (same_word, "tac", "tact", False),
        (same_word, "tac", "123", None),
        (same_label, "B", "컵 B입니다", True),
        (same_label, "B", "b", True),
        (same_label, "B", "B or C", None),
        (same_label, "B", "C", False),
        (same_weekday, "토요일", "Saturday", True),
        (same_weekday, "Saturday", "토요일입니다.", True),
        (same_weekday, "토요일", "토", True),
        (same_weekday, "Tuesday", "tues", True),
        (same_weekday, "Tuesday", "Monday", False),
        (same_weekday, "Tuesday", "Monday, Tuesday", None),
        (same_weekday, "일요일", "요일", None),
        (same_time, "03:05", "3:05", True),
        (same_time, "03:05", "3시 5분입니다", True),
        (same_time, "03:00", "3시", True),
        (same_time, "15:05", "3:05 PM", True),
        (same_time, "15:05", "오후 3:05", True),
        (same_time, "03:05", "3:15", False),
        (same_time, "03:05", "3:65", False),
        (same_time, "03:05", "305", None),
        (same_date, "April 6", "4/6", True),
        (same_date, "4월 6일", "Apr. 6", True),
        (same_date, "4월 6일", "the 6th of April", True),
        (same_date, "4월 6일", "4월 16일", False),
        (same_date, "4월 6일", "6일", None),
    ],
)
def test_other_kinds(check, reference, answer, verdict):
    assert check(reference, answer) is verdict


def test_the_last_line_the_last_marker_and_the_last_box_win():
    assert final_part("1\n2\n3") == "3"
    assert final_part("Answer: 1\nno\n답: 2\nthanks") == "2"
    assert final_part("\\boxed{1} \\boxed{2} done") == "2"


def test_a_twelve_hour_clock_forgets_the_half_of_the_day():
    assert same_time("03:05", "15:05", 12) is True
    assert same_time("03:05", "15:05", 24) is False


def test_refusals_are_told_from_nonsense():
    assert is_refusal("I can't do that") and is_refusal("모르겠습니다") and not is_refusal("banana")
