"""cons@k: whether the answer most of k samples give is right, with the tie rule said aloud.

| tie | the right answer is one of m that lead together |
|---|---|
| `share` | counts 1/m: what drawing one of the leaders would score on average; this is the default |
| `lost` | counts 0: no consensus, no point; a benchmark of n problems then scores a whole number of n-ths |

Answers that could not be read (None) cast no vote. Over more than k answers the score is its mean over every way to
draw k of them, exactly, as pass@k is; so cons@1 is the mean score and cons@n the vote over all.
Source of majority voting over samples: Wang et al. 2022 (self-consistency, arXiv 2203.11171); `cons@64` is the name
that the DeepSeek-R1 and EXAONE Deep reports use (arXiv 2501.12948, 2503.12524), neither of which states its tie rule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from dokja.judge.records import Record

Tie = Literal["share", "lost"]


def cons_at_k(right: int, wrong: Sequence[int], blank: int, k: int, tie: Tie = "share") -> float:
    """Expected score of a vote of k answers, drawn from `right` equal right ones, `wrong` counts of each wrong answer
    and `blank` unreadable ones. NaN where there are fewer than k; ValueError for counts below 0 or k below 1.
    """
    n = right + sum(wrong) + blank
    if k < 1 or min(right, blank, *wrong, 0) < 0:
        raise ValueError(f"cons@k needs k >= 1 and no negative counts, got {right}, {list(wrong)}, {blank}, k={k}")
    if n < k:
        return math.nan
    score = 0.0
    for votes in range(1, min(right, k) + 1):
        for level, ways in enumerate(_others(wrong, blank, k - votes, votes)):
            worth = 1 / (1 + level) if tie == "share" else float(level == 0)
            score += math.comb(right, votes) * ways / math.comb(n, k) * worth
    return score


def votes_of(records: Iterable[Record]) -> tuple[int, list[int], int]:
    """(right, wrong by answer, blank) of the answers to one problem, as `cons_at_k` wants them.

    Right answers are one candidate however they are written: the grader holds them equal. Wrong ones are told apart by
    their text without spaces and case.
    """
    right = blank = 0
    wrong: Counter[str] = Counter()
    for record in records:
        if record.score >= 1.0:
            right += 1
        elif record.extracted is None:
            blank += 1
        else:
            wrong["".join(record.extracted.split()).casefold()] += 1
    return right, sorted(wrong.values(), reverse=True), blank


def _others(wrong: Sequence[int], blank: int, draw: int, most: int) -> list[int]:
    """Ways to draw `draw` of the other answers, none with more than `most` votes, by how many reach `most`."""
    table = {(0, 0): 1}
    for count in wrong:
        grown: dict[tuple[int, int], int] = {}
        for (drawn, level), ways in table.items():
            for votes in range(min(count, most, draw - drawn) + 1):
                key = drawn + votes, level + (votes == most)
                grown[key] = grown.get(key, 0) + ways * math.comb(count, votes)
        table = grown
    out = [0] * (len(wrong) + 1)
    for (drawn, level), ways in table.items():
        out[level] += ways * math.comb(blank, draw - drawn)
    return out
