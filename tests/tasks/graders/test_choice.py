"""Which option an answer chose, in the forms that people and models write."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokja.tasks.graders.choice import CIRCLED, Choice, label_of, read_choice, show_options

CITIES = ["London", "Paris", "Rome", "Berlin", "Oslo"]
NUMBERS = ["2", "4", "3", "1", "12"]


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("Answer: C", 2),
        ("**Answer:** C", 2),
        ("Answer: **C**", 2),
        ("Answer: (C)", 2),
        ("Answer: C.", 2),
        ("answer: c", 2),
        ("Let me think. B looks right.\nAnswer: D", 3),
        ("Answer: A\nWait, no.\nAnswer: B", 1),
        ("The answer is C.", 2),
        ("The correct answer is: C) Rome", 2),
        ("The correct option is C", 2),
        ("Final Answer: The answer is $\\boxed{C}$", 2),
        ("\\boxed{C}", 2),
        ("so \\boxed{\\text{C}}", 2),
        ("\\boxed{\\textbf{(C)}}", 2),
        ("C", 2),
        ("C.", 2),
        ("(C)", 2),
        ("C) Rome", 2),
        ("C. Rome", 2),
        ("Rome", 2),
        ("The answer is Rome.", 2),
        ("Answer: option C", 2),
        ("Answer: not A but B", 1),
        ("Answer: A or B", None),
        ("Answer: A, C", None),
        ("Answer: A and B", None),
        ("Answer:", None),
        ("I think all of them are nice cities.", None),
        ("A city in France would be the best guess, I think.", None),
        ("Answer: H", 7),
        ("", None),
        ("   \n \n", None),
        ("Answer: A dog barked", None),
        ("정답: ③", 2),
        ("정답은 ③입니다.", 2),
        ("정답은 3번입니다.", 2),
        ("정답은 C입니다.", 2),
        ("정답은 C이다", 2),
        ("답은 ③번이다.", 2),
        ("답: 다", 2),
        ("정답: (3)", 2),
        ("따라서 정답은 **③**입니다.", 2),
        ("정답은 A가 아니라 B입니다.", 1),
        ("정답은 ① 또는 ②입니다.", None),
        ("정답: ①, ③", None),
        ("①은 틀리고 ②도 틀리므로\n정답은 ④", 3),
        ("③", 2),
        ("③ Rome", 2),
        ("3번", 2),
        ("３번", 2),
        ("정답 : ㄷ", 2),
        ("그러므로 C", None),
        ("정답은\n③", 2),
        ("Answer:\n\nC", 2),
    ],
)
def test_forms_of_a_choice(answer: str, place: int | None) -> None:
    assert read_choice(answer, CITIES) == place


@pytest.mark.parametrize(
    ("answer", "labels", "place"),
    [
        ("Answer: 3", "letters", 2),  # the text of option C, not the third by number (both are C here)
        ("Answer: 4", "letters", 1),  # the text of option B, not option D
        ("Answer: 4번", "letters", 3),
        ("정답: 4", "numbers", 3),  # the fourth: numbers are labels here
        ("4", "circled", 3),
        ("정답: 12", "numbers", 4),  # there is no twelfth, but an option of that text
        ("정답은 ④", "circled", 3),
        ("정답: 5", "circled", 4),
    ],
)
def test_numbers_as_options(answer: str, labels: str, place: int) -> None:
    assert read_choice(answer, NUMBERS, labels) == place


def test_thoughts_do_not_answer() -> None:
    from dokja.tasks.graders.base import grade

    reference = {"answer": 1, "options": CITIES}
    assert grade(Choice(), reference, "<think>Answer: A</think>Answer: B").reason == "right"
    assert grade(Choice(), reference, "<thought>\nAnswer: B\n").reason == "truncated"
    assert grade(Choice(), reference, "Answer: B", truncated=True).reason == "truncated"
    assert grade(Choice(), reference, "I'm sorry, I can't help with that.").reason == "refused"
    assert grade(Choice(), reference, "blue").reason == "unparseable"
    assert grade(Choice(), reference, "Answer: C").reason == "wrong"
    assert grade(Choice(), {}, "Answer: C").reason == "grader_failed"


USUAL = re.compile(r"(?i)[\*\_]{0,2}Answer[\*\_]{0,2}\s*:[\s\*\_]{0,2}\s*([A-Z])(?![a-zA-Z0-9])")


@given(st.sampled_from("ABCDE"), st.sampled_from(["", "**", "_"]), st.sampled_from([" ", "", "  "]))
def test_what_the_usual_expression_reads_is_read_alike(letter: str, mark: str, space: str) -> None:
    answer = f"Some words.\n{mark}Answer{mark}:{space}{letter}"
    assert USUAL.findall(answer)[-1] == letter
    assert read_choice(answer, CITIES) == "ABCDE".index(letter)


@given(st.integers(0, 4), st.sampled_from(["letters", "numbers", "circled"]))
def test_every_label_reads_as_itself(place: int, labels: str) -> None:
    label = label_of(place, labels)
    for form in ("정답: {}", "정답은 {}번입니다.", "Answer: {}", "답은 ({})", "{}", "\\boxed{{{}}}"):
        if "번" in form and labels == "letters":
            continue
        assert read_choice(form.format(label), CITIES, labels) == place
    assert show_options(CITIES, labels).splitlines()[place].startswith(label)


@given(st.text(max_size=200) | st.text(alphabet="ABC답정은:\\boxed{}①②3번 \n.", max_size=60))
def test_no_text_breaks_it(answer: str) -> None:
    found = read_choice(answer, CITIES)
    assert found is None or found >= 0


def test_circled_options_are_ten() -> None:
    assert len(CIRCLED) == 10
