"""Several graders beside each other over the same answers: where they agree, and why where they do not.

The filter of lm-evaluation-harness for GSM8K, `flexible-extract`, is written down here from its task definition: the
last match of an expression for numbers, compared as text without commas, dollar signs and a final full stop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from dokja.tasks.graders.base import grade
from dokja.tasks.graders.maths import Maths
from dokja.tasks.graders.verify import WORKERS, VerifyFailed, Workers

Says = tuple[bool | None, str]
"""A verdict (None: nothing found to judge) and what it was read from."""
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = re.compile(r",|\$|\.$")


def by_harness(reference: str, answer: str) -> Says:
    """lm-evaluation-harness, `flexible-extract` and `exact_match` of its gsm8k."""
    found = [first or second for first, second in _FLEXIBLE.findall(answer)]
    if not found:
        return None, "no number"
    return _IGNORED.sub("", found[-1]).lower() == _IGNORED.sub("", reference).lower(), f"read {found[-1]!r}"


def by_math_verify(workers: Workers = WORKERS) -> Callable[[str, str], Says]:
    """math-verify alone, given the whole answer."""

    def says(reference: str, answer: str) -> Says:
        try:
            same, read = workers.ask(f"${reference}$", answer)
        except VerifyFailed as failure:
            return None, str(failure)
        return same, f"read {read!r}"

    return says


def by_us(grader: Maths | None = None) -> Callable[[str, str], Says]:
    """Our cascade."""
    grader = grader or Maths()

    def says(reference: str, answer: str) -> Says:
        found = grade(grader, reference, answer)
        return (found.score == 1.0 if found.reason in ("right", "wrong") else None), f"{found.reason}, {found.detail}"

    return says


@dataclass(frozen=True)
class Disagreement:
    """One answer on which the graders differ."""

    place: int
    reference: str
    answer: str
    says: Mapping[str, Says]

    def __str__(self) -> str:
        lines = [f"answer {self.place}, expected {self.reference}: ...{self.answer[-100:]!r}"]
        words = {True: "right", False: "wrong", None: "nothing"}
        return "\n".join([*lines, *(f"  {name}: {words[v]} ({why})" for name, (v, why) in self.says.items())])


@dataclass(frozen=True)
class Agreement:
    """How often each pair of graders gave the same verdict, and the answers on which not all did."""

    answers: int
    right: Mapping[str, int]
    pairs: Mapping[tuple[str, str], int]
    disagreements: Sequence[Disagreement]

    def table(self) -> str:
        """A line per grader (how many it calls right) and per pair (how many verdicts are the same)."""
        lines = [f"{name}: {n}/{self.answers} right" for name, n in self.right.items()]
        return "\n".join(lines + [f"{a} = {b}: {n}/{self.answers}" for (a, b), n in self.pairs.items()])


def compare(answers: Sequence[tuple[str, str]], graders: Mapping[str, Callable[[str, str], Says]]) -> Agreement:
    """Grade (reference, answer) pairs with every grader. Nothing found counts as not right, as it scores."""
    says = [{name: grader(reference, answer) for name, grader in graders.items()} for reference, answer in answers]
    score = [{name: verdict is True for name, (verdict, _) in row.items()} for row in says]
    differing = [Disagreement(n, *answers[n], says[n]) for n, row in enumerate(score) if len(set(row.values())) > 1]
    return Agreement(
        answers=len(answers),
        right={name: sum(row[name] for row in score) for name in graders},
        pairs={(a, b): sum(row[a] == row[b] for row in score) for a, b in combinations(graders, 2)},
        disagreements=differing,
    )
