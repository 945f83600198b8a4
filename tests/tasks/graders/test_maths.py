"""The cascade of the maths grader, its worker processes, and its agreement with others."""

from __future__ import annotations

import gzip
import json
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokja.tasks.graders.agreement import by_harness, by_math_verify, by_us, compare
from dokja.tasks.graders.base import grade
from dokja.tasks.graders.latex import boxed, close, simplify, value
from dokja.tasks.graders.maths import Maths, find_answer, same
from dokja.tasks.graders.verify import VerifyFailed, Worker, Workers
from dokja.tasks.problem import Grade


class Never(Workers):
    """Stands where math-verify must not be asked."""

    def __init__(self) -> None:
        super().__init__(count=0)

    def ask(self, gold: str, answer: str) -> tuple[bool | None, str]:
        raise AssertionError(f"asked about {gold} and {answer}")


def verdict(reference: str, answer: str, **options: object) -> Grade:
    return grade(Maths(workers=Never(), **options), reference, answer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "answer", "stage"),
    [
        ("12", "The answer is 12.", "exact"),
        ("12", "정답: 12", "exact"),
        ("12", "답은 12이다", "normalised"),
        ("25", "정답은 \\boxed{25} 입니다", "exact"),
        ("1000", "정답: 1{,}000원입니다.", "normalised"),
        ("1600", "\\boxed{1,600}", "normalised"),
        ("\\frac{1}{2}", "\\boxed{\\dfrac12}", "normalised"),
        ("\\frac{1}{2}", "\\boxed{0.5}", "numeric"),
        ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", "numeric"),
        ("3\\frac12", "\\boxed{\\frac{7}{2}}", "numeric"),
        ("2^{10}", "\\boxed{1024}", "numeric"),
        ("10", "\\boxed{10\\%}", "numeric"),
        ("\\pi", "\\boxed{3.14159265}", "numeric"),
        ("90^\\circ", "\\boxed{90}", "normalised"),
        ("5", "\\boxed{x=5}", "normalised"),
        ("3", "정답: ③", "numeric"),
        ("(1,2)", "\\boxed{(1, 2.0)}", "parts"),
        ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", "parts"),
        ("1,-2", "정답: x=1 또는 x=-2", "parts"),
        ("4,6", "\\boxed{4 \\text{ and } 6}", "parts"),
        ("(-\\infty,3]", "\\boxed{x \\le 3}", "normalised"),
        ("\\text{Evelyn}", "\\boxed{Evelyn}", "normalised"),
        ("104", "\\boxed{104 \\text{ cm}^2}", "normalised"),
        ("1596", "She paid $840+$756 = $1596", "exact"),
        ("70", "Her mean score is 630 / 9 quizzes = 70 per quiz.", "exact"),
        ("12", "따라서 3+9=12입니다.", "exact"),
    ],
)
def test_the_stage_that_tells_right(reference: str, answer: str, stage: str) -> None:
    found = verdict(reference, answer)
    assert (found.reason, found.detail.split(":")[0]) == ("right", stage)


@pytest.mark.parametrize(
    ("reference", "answer", "reason"),
    [
        ("12", "\\boxed{13}", "wrong"),
        ("12", "\\boxed{12.5}", "wrong"),
        ("12", "\\boxed{-12}", "wrong"),
        ("\\pi", "\\boxed{3.14}", "wrong"),
        ("(1,2)", "\\boxed{(2,1)}", "wrong"),
        ("(1,2)", "\\boxed{[1,2]}", "wrong"),
        ("1,2", "\\boxed{1,2,3}", "wrong"),
        ("even", "\\boxed{odd}", "wrong"),
        ("12", "12 or 13", "unparseable"),
        ("12", "", "unparseable"),
        ("12", "I have no idea at all", "unparseable"),
        ("12", "I'm sorry, I can't solve this.", "refused"),
    ],
)
def test_reasons_are_told_apart(reference: str, answer: str, reason: str) -> None:
    assert verdict(reference, answer).reason == reason


def test_contests_want_whole_numbers() -> None:
    assert verdict("73", "\\boxed{073}", integer=True).reason == "right"
    assert verdict("73", "\\boxed{73.0}", integer=True).reason == "right"
    assert verdict("73", "\\boxed{73.5}", integer=True).reason == "wrong"
    assert verdict("73", "\\boxed{73 or 74}", integer=True).reason == "unparseable"
    assert grade(Maths(True), "73", "so far 73", truncated=True).reason == "truncated"


def test_symbols_go_to_math_verify() -> None:
    assert grade(Maths(), "x^2+2x+1", "\\boxed{(x+1)^2}").detail.startswith("math-verify")
    assert grade(Maths(), "x^2+2x+1", "\\boxed{(x+2)^2}").reason == "wrong"


def test_a_question_without_end_kills_its_worker_and_no_other() -> None:
    worker = Worker(seconds=1.0)
    try:
        with pytest.raises(VerifyFailed, match="longer than 1 s"):
            worker.ask("$9^{9^{9^{9}}}$", "$9^{9^{9^{8}}}$")
        assert worker.killed == 1
        worker.seconds = 30.0
        assert worker.ask("$x+1$", "$1+x$")[0] is True
    finally:
        worker.close()


def test_a_grader_that_fails_is_not_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, gold: str, answer: str) -> tuple[bool | None, str]:
        raise VerifyFailed("math-verify is not installed: pip install 'dokja[judge]'")

    monkeypatch.setattr(Workers, "ask", fail)
    found = grade(Maths(), "x+1", "\\boxed{1+x}")
    assert found.reason == "grader_failed" and "pip install" in found.detail
    assert grade(Maths(), "2", "\\boxed{2}").reason == "right"


@given(st.fractions(max_denominator=1000))
def test_a_fraction_has_its_value(f: Fraction) -> None:
    written = f"\\frac{{{abs(f.numerator)}}}{{{f.denominator}}}"
    assert value(simplify(("-" if f < 0 else "") + written)) == f
    assert same(str(abs(f)), written)[0] is True


@given(st.integers(-(10**9), 10**9))
def test_a_whole_number_is_read_however_it_stands(n: int) -> None:
    for form in (
        "\\boxed{{{n}}}",
        "The answer is {n}.",
        "정답: {n}",
        "so we get\n{n}",
        "#### {n}",
        "정답은 {n}개입니다.",
    ):
        assert grade(Maths(workers=Never()), str(n), form.format(n=n)).reason == "right"
        assert grade(Maths(workers=Never()), str(n + 1), form.format(n=n)).reason == "wrong"


@given(st.text(max_size=200) | st.text(alphabet="\\{}^_frac()[]0123456789+-*/=$%!.,√π ", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    simplify(text)
    value(simplify(text))
    boxed(text)
    find_answer(text)
    same("12", text)


def test_values_are_bounded() -> None:
    for bomb in ("9^{9^{9^9}}", "99999999^{99999999}", "170!", "10" * 200, "\\frac{1}{0}", "0^{-1}", "(" * 5000):
        assert value(bomb) is None
    assert not close(Fraction(1), Fraction(1, 3) * 3 + Fraction(1, 10**9))


def _answers() -> list[tuple[str, str]]:
    """Worked solutions to sums, in the forms that models give, one in five with a wrong result."""
    rng, found = random.Random(7), []
    forms = (
        "{w}\nThe answer is {n}.", "{w}\n#### {n}", "{w}\n\\boxed{{{n}}}", "{w}\n정답은 {n}개입니다.",
        "{w}\n**Answer: ${n:,}.00**",
        "{w}\n따라서 답은 {n}입니다.", "The total is ${a} + ${b} = ${n}", "{w} So {n} apples are left.",
    )  # fmt: skip
    for k in range(200):
        a, b = rng.randrange(1, 2000), rng.randrange(1, 2000)
        n = a + b + (k % 5 == 0)
        found.append((str(a + b), forms[k % 8].format(w=f"First {a}, then {b}.", n=n, a=a, b=b)))
    return found


def test_two_hundred_answers_are_graded_alike_by_math_verify() -> None:
    answers = _answers()
    table = compare(answers, {"ours": by_us(), "math-verify": by_math_verify(), "harness": by_harness})
    assert table.right["ours"] == 160
    assert table.pairs["ours", "math-verify"] == 200, "\n".join(map(str, table.disagreements))
    # the harness compares text, so that $1,234.00 is not 1234 for it; nothing else divides us
    assert all("00**" in d.answer and d.says["ours"][0] for d in table.disagreements)
    assert 0 < len(table.disagreements) == 200 - table.pairs["ours", "harness"]
    assert "ours = math-verify: 200/200" in table.table() and "read" in str(table.disagreements[0])


@pytest.mark.shared
def test_worked_solutions_of_gsm8k_are_right(shared_packs: Path) -> None:
    with gzip.open(shared_packs / "gsm8k" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:300]
    answers = []
    for n, row in enumerate(rows):
        work, _, result = row["answer"].rpartition("#### ")
        work = re.sub(r"<<.*?>>", "", work)
        forms = ("{w}#### {r}", "{w}\\boxed{{{r}}}", "{w}The answer is ${r}.", "{w}정답은 {r}달러입니다.")
        answers.append((result.replace(",", ""), forms[n % 4].format(w=work, r=result)))
    table = compare(answers, {"ours": by_us(), "math-verify": by_math_verify()})
    assert table.right["ours"] == 300
    assert table.pairs["ours", "math-verify"] >= 295, "\n".join(map(str, table.disagreements))
