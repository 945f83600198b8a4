"""Every family, level and language: right answers, honest traces, graders that stand up to anything."""

from __future__ import annotations

import re
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from dokja.errors import ConfigError
from dokja.tasks.extract import LONGEST
from dokja.tasks.families.base import STEP
from dokja.tasks.registry import TASKS, get_tasks
from dokja.tasks.splits import prompt_key

sys.path.insert(0, str(Path(__file__).parent))
from solvers import SOLVERS

SEEDS = range(200)
HANGUL = re.compile(r"[가-힣]")


def problems(cell, seeds=SEEDS):
    name, level, language = cell
    return [TASKS[name].problem(seed, level, language) for seed in seeds]


def test_reference_equals_a_second_solver(cell):
    for p in problems(cell):
        assert SOLVERS[p.task](p.prompt, p.level) == p.reference, p


def test_trace_ends_in_the_reference(cell):
    for p in problems(cell):
        if p.task == "reverse":  # units with their places
            assert re.sub(f"[{STEP}]", "", p.trace.split(">")[1]) == p.reference
        else:
            assert p.trace.endswith(p.reference), p
            before = p.trace[: -len(p.reference)]
            assert not before or not (p.reference[0].isdigit() and before[-1] in "123456789"), p


def test_every_equation_in_a_trace_holds(cell):
    for p in problems(cell):
        for left, right in re.findall(r"(?<![a-z\d+*/-])(\d+(?:[-+*/]\d+)+)=(\d+)", p.trace):
            assert eval(re.sub(r"\b0+(?=\d)", "", left)) == int(right), (left, right, p.trace)


def test_traces_and_prompts_are_short(cell):
    for p in problems(cell):
        assert len(p.trace) <= 70 and len(p.prompt) <= 170, p


def test_the_right_answer_is_right_and_others_are_wrong(cell):
    task = TASKS[cell[0]]
    some = problems(cell, range(40))
    for p, other in pairwise(some):
        assert task.grade(p, p.reference).score == 1.0
        assert task.grade(p, f"...\n정답: {p.reference}.").reason == "right"
        assert task.grade(p, f"\\boxed{{{p.reference}}}").reason == "right"
        assert task.grade(p, unicodedata.normalize("NFD", p.reference)).reason == "right"
        if other.reference != p.reference:
            grade = task.grade(p, other.reference)
            assert (grade.score, grade.reason) == (0.0, "wrong"), (p, other.reference)


GARBAGE = [
    "", " ", "\n\n", "\0\0", "\u202e\u200f", "???", "()" * 5000, "\\boxed{" * 3000, "answer:" * 3000, "…", "```", "}{",
    "9" * 1_000_000, "가" * 100_000, "\ud800", "a" * 100_000, ":" * 10_000, "½²³",
    "٣٤", "=" * 9000, "-" * 9000, "1,," * 9000,
]  # fmt: skip


def test_garbage_scores_nothing_and_never_breaks_the_grader(cell):
    task = TASKS[cell[0]]
    p = problems(cell, [7])[0]
    for answer in GARBAGE:
        grade = task.grade(p, answer)
        assert grade.score == 0.0 and grade.reason in ("wrong", "unparseable"), (answer[:20], grade)
    for answer in GARBAGE[:8]:
        assert task.grade(p, answer).reason == "unparseable", answer[:20]
        assert task.grade(p, answer, truncated=True).reason == "truncated"
    assert task.grade(p, None).reason == "grader_failed"  # type: ignore[arg-type]


def test_an_answer_counts_even_when_it_was_cut_off_after_it(cell):
    p = problems(cell, [3])[0]
    assert TASKS[cell[0]].grade(p, p.reference, truncated=True).reason == "right"


def test_listing_many_answers_is_not_answering(cell):
    task = TASKS[cell[0]]
    some = problems(cell, range(60))
    everything = " or ".join(sorted({p.reference for p in some}))
    assert sum(task.grade(p, everything).score for p in some) <= 2  # a word family sees its own last word


def test_the_cheapest_level_has_room(cell):
    name, level, language = cell
    keys = {prompt_key(TASKS[name].problem(s, level, language).prompt) for s in range(1500)}
    assert len(keys) > 1050  # 1500 draws from 2000 prompts leave about 1055 different ones


def test_problems_speak_their_language(cell):
    for p in problems(cell, range(60)):
        assert bool(HANGUL.search(p.prompt)) == (p.language == "ko"), p
        assert "{" not in p.prompt and "None" not in p.prompt and "  " not in p.prompt
        assert unicodedata.is_normalized("NFC", p.prompt + p.trace + p.reference)


def test_same_seed_same_problem_other_seed_other_problem(cell):
    assert problems(cell) == problems(cell)
    assert len({p.id for p in problems(cell)}) == len(SEEDS)


def test_the_answer_is_seldom_the_same_one(cell):
    answers = [p.reference for p in problems(cell)]
    commonest = max(answers.count(a) for a in set(answers))
    assert commonest <= 0.45 * len(answers)


def test_unknown_names_levels_and_languages_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="modchain"):
        get_tasks(["modchian"])
    with pytest.raises(ConfigError, match="levels 1, 2, 3"):
        TASKS["sum"].problem(0, 9, "en")
    with pytest.raises(ConfigError):
        TASKS["sum"].problem(0, 1, "fr")
    assert get_tasks(["sum", "all"])[0].name == "sum" and len(get_tasks(["sum", "all"])) == 12


def test_a_number_is_not_hidden_in_the_end_of_a_longer_one():
    task = TASKS["sum"]
    p = task.problem(1, 1, "en")
    assert task.grade(p, "7" + "0" * (LONGEST + 5) + p.reference).score == 0.0
