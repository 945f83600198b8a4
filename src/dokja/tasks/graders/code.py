"""Programs by their tests, in the sandbox and nowhere else.

| reference | the program passes where |
|---|---|
| `{"tests": source, "entry": name, "prompt": head}` | the tests run to their end in one namespace with it |
| `{"cases": [{"input": text, "output": text}]}` | every input yields its output, spaces at line ends aside |

An answer that ends before its tests have ended did not pass them: the run's last word must be a secret that is made
anew for every run and reaches it on standard input.
"""

from __future__ import annotations

import ast
import re
import secrets
from dataclasses import dataclass
from typing import Any

from dokja.tasks.graders.base import verdict
from dokja.tasks.problem import Grade
from dokja.tasks.sandbox.doctor import ensure_sandbox
from dokja.tasks.sandbox.isolation import SandboxError
from dokja.tasks.sandbox.limits import Limits
from dokja.tasks.sandbox.outcome import Outcome
from dokja.tasks.sandbox.run import run_program

_FENCE = re.compile(r"```[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_HARNESS = """\
import sys, os
def run():
    secret = sys.stdin.readline().strip()
    space = {"__name__": "solution", "__builtins__": __builtins__}
    for name in ("solution.py", "tests.py"):
        with open(name, encoding="utf-8") as file:
            source = file.read()
        try:
            exec(compile(source, name, "exec"), space)
        except SystemExit as left:
            sys.stderr.write(f"\\n{name} left with SystemExit({left.code!r})\\n")
            os._exit(3)
    sys.stdout.flush()
    os.write(1, b"\\n" + secret.encode())
run()
"""
_SHOWN = 200


def find_program(answer: str, entry: str | None = None) -> str | None:
    """The program in an answer: its last fenced block that defines `entry`, else all Python blocks, else the whole.

    None where nothing of it parses as Python.
    """
    blocks = [(kind.lower(), body) for kind, body in _FENCE.findall(answer)]
    python = [body for kind, body in blocks if kind in ("python", "py", "python3", "")]
    if entry is not None:
        for body in reversed(python):
            if entry in _defined(body):
                return body
    if python:
        joined = "\n\n".join(python)
        for body in (joined, *reversed(python)):
            if _tree(body) is not None:
                return body
        return joined
    return answer if answer.strip() and _tree(answer) is not None else None


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defined(source: str) -> set[str]:
    """Names that a program defines at its top."""
    tree = _tree(source)
    names: set[str] = set()
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _complete(answer: str, reference: dict[str, Any]) -> str | None:
    """The program to test: what the answer holds, continued from the prompt's head where it is only a body."""
    entry, head = reference.get("entry"), reference.get("prompt", "")
    found = find_program(answer, entry)
    if found is not None and (not entry or entry in _defined(found)):
        # helpers and imports of the head (HumanEval) stay at hand; what the answer defines anew wins
        return f"{head}\n    pass\n\n{found}" if head and _tree(f"{head}\n    pass\n") else found
    if head:
        body = found if found is not None else answer.strip("\n")
        for text in (body, _FENCE.sub(r"\2", answer)):
            first = next((line for line in text.split("\n") if line.strip()), "")
            for lead in ("",) if first[:1].isspace() else ("    ", ""):
                whole = head + "\n".join(lead + line if line.strip() else line for line in text.split("\n"))
                if _tree(whole) is not None:
                    return whole
    return found


@dataclass(frozen=True)
class Code:
    """Reference as in the table above."""

    seconds: float = 10.0
    memory: int = 512 << 20

    def compare(self, reference: Any, answer: str) -> Grade | None:
        """Right where all tests pass; wrong with the reason of the first that does not."""
        try:
            isolation = ensure_sandbox()
        except SandboxError as error:
            return Grade(0.0, "grader_failed", str(error))
        source = _complete(answer, reference)
        if source is None:
            return None
        limits = Limits(seconds=self.seconds, memory=self.memory)
        if "cases" in reference:
            for number, case in enumerate(reference["cases"], 1):
                outcome = run_program(source, case["input"], limits, isolation=isolation)
                if not outcome.finished:
                    return _failed(f"case {number} of {len(reference['cases'])}", outcome)
                if _lines(outcome.stdout) != _lines(case["output"]):
                    return verdict(False, f"case {number}: printed {outcome.stdout[:_SHOWN]!r}")
            return verdict(True, f"{len(reference['cases'])} cases")
        secret = secrets.token_hex(16)
        files = {"solution.py": source.encode("utf-8", "replace"), "tests.py": reference["tests"].encode()}
        outcome = run_program(_HARNESS, secret + "\n", limits, files, isolation)
        if outcome.finished and outcome.stdout.endswith("\n" + secret):
            return verdict(True, f"tests passed in {outcome.seconds:.2f} s")
        if outcome.finished:
            return verdict(False, "ended before its tests did")
        return _failed("tests", outcome)


def _failed(what: str, outcome: Outcome) -> Grade:
    return verdict(False, f"{what}: {outcome.reason}, {outcome.detail}"[:_SHOWN])


def _lines(text: str) -> list[str]:
    """Lines without spaces at their ends and without empty ones at the end."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines
