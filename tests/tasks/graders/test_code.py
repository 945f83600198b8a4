"""Programs by their tests; HumanEval's and MBPP's own solutions."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dokja.tasks.graders.base import grade
from dokja.tasks.graders.code import Code, find_program
from dokja.tasks.packs.load import load_pack
from dokja.tasks.packs.rows import read_rows
from dokja.tasks.sandbox import doctor
from dokja.tasks.sandbox.isolation import SandboxError, find_isolation

try:
    find_isolation()
    HERE = True
except SandboxError:
    HERE = False
isolated = pytest.mark.skipif(not HERE, reason="nothing isolates on this machine, so programs are refused")
ADD = {"tests": "assert add(1, 2) == 3\nassert add(-1, 1) == 0\n", "entry": "add"}


def fenced(source: str) -> str:
    return f"Here it is:\n```python\n{source}\n```\nDone."


@isolated
@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (fenced("def add(a, b):\n    return a + b"), "right", "passed"),
        ("def add(a, b):\n    return a + b", "right", "passed"),
        (fenced("def add(a, b): return 0") + fenced("def add(a, b):\n    return a + b"), "right", "passed"),
        (fenced("add = lambda a, b: a + b"), "right", "passed"),
        (fenced("def add(a, b):\n    return a - b"), "wrong", "AssertionError"),
        (fenced("def plus(a, b):\n    return a + b"), "wrong", "NameError"),
        (fenced("def add(a, b):\n    return a +"), "wrong", "SyntaxError"),
        (fenced("import os\nos._exit(0)\ndef add(a, b): pass"), "wrong", "ended before"),
        (fenced("def add(a, b):\n    import sys; sys.exit(0)"), "wrong", "SystemExit"),
        (fenced("def add(a, b):\n    while True: pass"), "wrong", "time"),
        (fenced("def add(a, b):\n    return open('/etc/passwd').read()"), "wrong", "files"),
        (fenced("def add(a, b):\n    import socket; socket.socket()"), "wrong", "network"),
        (fenced("def add(a, b):\n    print('x' * 10**7); return a + b"), "wrong", "output"),
        ("I would add the two numbers.", "unparseable", ""),
        ("I'm sorry, I can't write code.", "refused", ""),
    ],
)
def test_verdicts(answer: str, reason: str, words: str) -> None:
    found = grade(Code(seconds=1.0), ADD, answer)
    assert found.reason == reason and words in found.detail


@isolated
def test_cases_on_standard_input() -> None:
    reference = {"cases": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 5\n", "output": "10"}]}
    right = "print(sum(map(int, input().split())), ' ')"
    assert grade(Code(), reference, fenced(right)).reason == "right"
    assert "case 2" in grade(Code(), reference, fenced("input(); print(3)")).detail


@isolated
def test_a_body_continues_its_head() -> None:
    reference = ADD | {"prompt": "def add(a, b):\n    '''Add.'''\n"}
    for body in ("    return a + b", "return a + b", fenced("    return a + b"), fenced("return a + b")):
        assert grade(Code(), reference, body).reason == "right"


def test_without_isolation_there_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SandboxError("Nothing on this machine isolates programs.")

    monkeypatch.setattr("dokja.tasks.graders.code.ensure_sandbox", refuse)
    found = grade(Code(), ADD, fenced("def add(a, b):\n    return a + b"))
    assert found.reason == "grader_failed" and "isolates" in found.detail
    assert doctor.BREACH


def test_programs_are_found() -> None:
    assert find_program("```python\nx = 1\n```\n```\ny = 2\n```") == "x = 1\n\n\ny = 2\n"
    assert find_program("```bash\nls -l /\n```") is None
    assert find_program("```python\ndef f(): pass") == "def f(): pass"
    assert find_program("no code") is None


def _all_right(name: str, solutions: dict[str, str]) -> list[str]:
    problems = load_pack(name).problems
    from dokja.tasks.registry import find_task

    def check(problem):  # type: ignore[no-untyped-def]
        found = find_task(problem.task).grade(problem, solutions[problem.id.rpartition("/")[2]])
        return None if found.reason == "right" else f"{problem.id}: {found}"

    with ThreadPoolExecutor(2) as pool:
        return [said for said in pool.map(check, problems) if said]


@isolated
@pytest.mark.slow
@pytest.mark.shared
def test_humanevals_own_solutions_pass(shared_packs: Path) -> None:
    rows, _ = read_rows(shared_packs / "humaneval" / "HumanEval.jsonl.gz")
    solutions = {row["task_id"].rpartition("/")[2]: row["canonical_solution"] for row in rows}
    assert len(solutions) == 164
    assert _all_right("humaneval", solutions) == []


@isolated
@pytest.mark.slow
@pytest.mark.shared
def test_mbpps_own_solutions_pass(shared_packs: Path) -> None:
    rows, _ = read_rows(shared_packs / "mbpp" / "mbpp.jsonl.gz")
    assert _all_right("mbpp", {str(row["task_id"]): fenced(row["code"]) for row in rows}) == []


@isolated
@pytest.mark.shared
def test_some_of_the_own_solutions_pass_and_nothing_does_not(shared_packs: Path) -> None:
    rows = {row["task_id"]: row for row in read_rows(shared_packs / "humaneval" / "HumanEval.jsonl.gz")[0]}
    from dokja.tasks.registry import find_task

    for problem in load_pack("humaneval", limit=8).problems:
        row = rows["HumanEval/" + problem.id.rpartition("/")[2]]
        assert find_task(problem.task).grade(problem, row["canonical_solution"]).reason == "right"
        assert find_task(problem.task).grade(problem, "    return None").reason == "wrong"
        assert json.loads(problem.reference)["entry"] == row["entry_point"]
