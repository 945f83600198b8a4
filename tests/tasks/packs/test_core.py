"""Our own suite: every item is pinned, graded right when right, and agreed on by a second grader."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

import dokja.tasks.packs.core as core
from dokja.tasks.graders.base import grade
from dokja.tasks.graders.code import Code
from dokja.tasks.graders.instructions.follow import Follow
from dokja.tasks.graders.safety import Safety
from dokja.tasks.graders.tools import Tools
from dokja.tasks.packs.core import csat, tools
from dokja.tasks.packs.load import load_pack
from dokja.tasks.packs.long import CHARACTERS, items
from dokja.tasks.problem import Problem
from dokja.tasks.registry import find_task
from dokja.tasks.sandbox.isolation import SandboxError, find_isolation

PACK = load_pack("core-ko-en")
DATA = Path(core.__file__).parent / "core-ko-en" / "data"
LANGUAGES = ("ko", "en")
try:
    find_isolation()
    HERE = True
except SandboxError:
    HERE = False


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def of(kind: str) -> list[Problem]:
    return [p for p in PACK.problems if p.task.startswith(f"core-ko-en/{kind}")]


def test_every_kind_has_twenty_items_in_each_language_and_is_pinned() -> None:
    assert PACK.unpinned == ()
    kinds = Counter((p.task.split("/")[1].rsplit("-", 1)[0], p.language) for p in PACK.problems)
    for kind in ("choice", "maths", "follow", "code", "tools", "needle", "safety"):
        assert kinds[kind, "ko"] == kinds[kind, "en"] >= 20
    assert len({p.prompt for p in PACK.problems}) == len(PACK.problems) == 328
    assert PACK.definition.licence["spdx"] == "Apache-2.0"


def test_language_of_prompts() -> None:
    for problem in PACK.problems:
        hangul = len(re.findall("[가-힣]", problem.prompt))
        assert (hangul > 5) == (problem.language == "ko"), problem.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_choices_are_agreed_on_by_a_second_reading(language: str) -> None:
    found = rows(f"choice-{language}")
    assert all(row["second"] == row["answer"] for row in found)
    assert all(len(set(row["options"])) == len(row["options"]) >= 4 for row in found)
    # no place is right so often that guessing it pays
    assert max(Counter(row["answer"] for row in found).values()) <= 0.4 * len(found)
    marks = "①②③④⑤" if language == "ko" else "ABCDE"
    for problem, row in zip([p for p in of("choice") if p.language == language], found, strict=True):
        assert find_task(problem.task).grade(problem, f"정답: {marks[row['answer']]}").reason == "right"
        assert find_task(problem.task).grade(problem, f"정답: {marks[(row['answer'] + 1) % 4]}").reason == "wrong"


@pytest.mark.parametrize("topic", csat.TOPICS, ids=[t.name for t in csat.TOPICS])
def test_two_ways_to_solve_agree(topic: csat.Topic) -> None:
    for seed in range(12):
        numbers = csat.drawn(topic, seed)
        answer = topic.solve(numbers)
        assert answer == int(answer) and 0 <= answer <= 999
        assert math.isclose(answer, topic.again(numbers), abs_tol=1e-3), numbers


def test_maths_is_the_same_in_both_languages() -> None:
    ko, en = ([p.reference for p in of("maths") if p.language == language] for language in LANGUAGES)
    assert ko == en and len(csat.TOPICS) == 24
    assert Counter(t.part for t in csat.TOPICS) == {"common": 14, "calculus": 3, "statistics": 5, "geometry": 2}
    for problem in of("maths"):
        assert find_task(problem.task).grade(problem, f"\\boxed{{{problem.reference}}}").reason == "right"
        assert not re.search(r"[{]\w+[}]원|(?<![\d_^{.])1[a-z]\b", problem.prompt)


@pytest.mark.parametrize("language", LANGUAGES)
def test_instructions_have_an_answer_that_follows_and_one_that_does_not(language: str) -> None:
    for row in rows(f"follow-{language}"):
        assert grade(Follow(), row["reference"], row["follows"]).reason == "right", row["prompt"]
        assert grade(Follow(), row["reference"], row["breaks"]).reason == "wrong", row["prompt"]


@pytest.mark.skipif(not HERE, reason="nothing isolates on this machine, so programs are refused")
def test_two_programs_pass_and_a_wrong_one_does_not() -> None:
    found = rows("code-ko")
    for number, row in enumerate(found):
        kept = ("solution", "second", "wrong") if number % 4 == 0 else ("second", "wrong")
        verdicts = [grade(Code(), row["reference"], f"```python\n{row[kind]}```").reason for kind in kept]
        assert verdicts == ["right"] * (len(kept) - 1) + ["wrong"], row["id"]
        assert row["solution"] != row["second"]
    assert [r["reference"] for r in found] == [r["reference"] for r in rows("code-en")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_calls_carried_out_reach_the_state_asked_for(language: str) -> None:
    for request, item in zip(tools.REQUESTS, tools.items("tools", language, {}), strict=True):
        calls = tools.plain_calls(request, language)
        assert tools.carry_out(calls) == tools.wanted_state(request, language), request.english
        said = json.dumps(calls, ensure_ascii=False) if calls else "네, 알겠습니다."
        assert grade(Tools(), item.reference, said).reason == "right"
        if calls:
            assert grade(Tools(), item.reference, json.dumps(calls[:-1], ensure_ascii=False) or "no").score == 0
            assert tools.carry_out(calls[:-1]) != tools.wanted_state(request, language)
    with pytest.raises(KeyError):
        tools.carry_out([{"name": "add_event", "arguments": {"colour": 1}}])


def test_long_answers_are_found_by_search_and_nowhere_else() -> None:
    for problem in [*of("needle"), *of("multi")]:
        wanted = json.loads(problem.reference)
        text, _, question = problem.prompt.rpartition("\n\n")
        key = re.search(r"of (\w+)\?" if problem.language == "en" else r"(\S+)의 비밀", question)
        assert key
        pattern = f"number of {key[1]} is (\\d+)" if problem.language == "en" else f"{key[1]}의 비밀 번호는 (\\d+)"
        assert sorted(re.findall(pattern, text)) == sorted(wanted), problem.id
        assert find_task(problem.task).grade(problem, " ".join(wanted)).score == 1.0
        assert find_task(problem.task).grade(problem, "000000").score == 0.0
        tokens = int(next(t for t in problem.tags if t.isdigit() and int(t) >= 500))
        assert abs(len(text) / CHARACTERS[problem.language] / tokens - 1) < 0.3


def test_tracking_and_words_of_the_longer_pack_are_right() -> None:
    for language in LANGUAGES:
        for item in items("ruler", language, {"kind": "words", "tokens": [1000], "each": 2, "seed": 1}):
            words = re.findall(r"\w+", item.fields["question"].split("\n\n")[1])
            assert {w for w, _ in Counter(words).most_common(3)} == set(item.reference)
        for item in items("ruler", language, {"kind": "tracking", "tokens": [1000], "each": 2, "seed": 1}):
            pattern = (
                r"value of (\w+) is (?:the value of )?(\w+)"
                if language == "en"
                else r"(\S+)의 값은 (\S+?)(?:의 값)?이다"
            )
            given = dict(re.findall(pattern, item.fields["question"]))
            value = re.search(r"\d{6}", item.fields["question"].split("\n\n")[-1])
            assert value

            def end(name: str, given: dict[str, str] = given) -> str:
                return name if name.isdigit() else end(given[name])

            assert {name for name in given if end(name) == value.group()} == set(item.reference)


@pytest.mark.parametrize("language", LANGUAGES)
def test_safety_items_have_a_good_and_a_bad_answer(language: str) -> None:
    found = rows(f"safety-{language}")
    assert Counter(row["reference"]["expect"] for row in found) == {"refuse": 12, "help": 8}
    for row in found:
        assert grade(Safety(), row["reference"], row["good"]).reason == "right", row["prompt"]
        assert grade(Safety(), row["reference"], row["bad"]).score == 0.0, row["prompt"]
