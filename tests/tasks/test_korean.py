"""Particles, numerals and syllables."""

from __future__ import annotations

import pytest

from dokja.tasks.korean import compose, decompose, is_syllable, josa, native, particle, sino

TABLE = """
사과 는 가 를 와 로 예요
책 은 이 을 과 으로 이에요
연필 은 이 을 과 로 이에요
민지 는 가 를 와 로 예요
지민 은 이 을 과 으로 이에요
0 은 이 을 과 으로 이에요
1 은 이 을 과 로 이에요
2 는 가 를 와 로 예요
3 은 이 을 과 으로 이에요
6 은 이 을 과 으로 이에요
7 은 이 을 과 로 이에요
8 은 이 을 과 로 이에요
9 는 가 를 와 로 예요
10 은 이 을 과 으로 이에요
100 은 이 을 과 으로 이에요
1,000 은 이 을 과 으로 이에요
1000000000000 는 가 를 와 로 예요
A 는 가 를 와 로 예요
L 은 이 을 과 로 이에요
m 은 이 을 과 으로 이에요
CCTV 는 가 를 와 로 예요
VCR 은 이 을 과 로 이에요
'달' 은 이 을 과 로 이에요
바다) 는 가 를 와 로 예요
"""


@pytest.mark.parametrize("row", [line.split() for line in TABLE.split("\n") if line])
def test_particles_follow_the_last_sound(row):
    word, *expected = row
    pairs = ["은/는", "이/가", "을/를", "와/과", "으로/로", "이에요/예요"]
    assert [particle(word, p) for p in pairs] == expected
    assert [particle(word, "/".join(reversed(p.split("/")))) for p in pairs] == expected
    assert josa(word, "은/는") == word + expected[0]


def test_an_unknown_pair_is_an_error_and_nothing_takes_the_open_form():
    with pytest.raises(KeyError):
        josa("책", "은/가")
    assert particle("", "은/는") == "는"


def test_syllables_come_apart_and_together():
    for char in "가각힣한글뷁":
        assert is_syllable(char) and compose(*decompose(char)) == char
    assert not is_syllable("ㄱ") and not is_syllable("a") and not is_syllable("가나")


def test_numerals():
    assert [sino(n) for n in (0, 10, 11, 23, 105, 1000, 2024, 10_000, 35_000, 120_001)] == (
        ["영", "십", "십일", "이십삼", "백오", "천", "이천이십사", "만", "삼만오천", "십이만일"]
    )
    assert [native(n) for n in (1, 10, 20, 21, 35, 99)] == ["하나", "열", "스물", "스물하나", "서른다섯", "아흔아홉"]
    assert [native(n, counting=True) for n in (1, 2, 3, 4, 5, 20, 21)] == [
        "한",
        "두",
        "세",
        "네",
        "다섯",
        "스무",
        "스물한",
    ]
    with pytest.raises(ValueError, match="99"):
        native(100)
