"""Following something: arrows from letter to letter, or a ball under three cups; level 1 to 4 is 2 to 5 moves."""

from __future__ import annotations

from itertools import pairwise

from dokja.tasks.extract import same_label
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.korean import native
from dokja.tasks.problem import Problem

_LABELS = "BCDEFGHJKLMNPQRSTUVWXYZ"  # without the words A and I, and without O, which looks like a digit
_CUP_LABELS = "BCDFGHKX"  # few, because "is the ball under one of these two?" is learned letter by letter
_ARROWS = {
    "en": (
        "{e}. Start at {s}, take {n} hops. Where are you?",
        "Start at {s} and follow {n} arrows: {e}.",
        "From {s}, where do {n} hops lead? {e}.",
    ),
    "ko": (
        "{e}. {s}에서 화살표를 {n}번 따라가면 어디인가요?",
        "{s}에서 출발해 {k} 번 이동하면 어디인가요? {e}.",
        "길은 {e}. {s}에서 {n}칸 가면 어디에 도착하나요?",
    ),
}
_CUPS = {
    "en": (
        "The ball is under cup {s}. Swaps: {e}. Where is the ball?",
        "A ball is under cup {s}. Swap {e}. Where is it?",
        "Cup {s} hides a ball. After the swaps {e}, which cup has it?",
    ),
    "ko": (
        "컵 {s}에 공이 있다. 바꾸기: {e}. 공은 어디에 있나요?",
        "공은 컵 {s} 아래에 있다. 차례로 맞바꾼다: {e}. 공이 있는 컵은?",
        "공이 컵 {s}에 있다. {e} 순서로 컵을 바꾸면 공은 어느 컵에 있나요?",
    ),
}


class Hops(Family):
    """`A>C, C>B, B>D`, 3 hops from A -> `1 A>C,2 C>B,3 B>D` -> D; swaps `①A-C②C-B` from A -> `A①A-C:C②C-B:B` -> B."""

    name = "hops"
    levels = (1, 2, 3, 4)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        return (_arrows if dice.random() < 0.5 else _cups)(dice, level + 1, language)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_label(problem.reference, answer)


def _arrows(dice: Dice, hops: int, language: str) -> Draft:
    extra = dice.between(1, 2)  # arrows beyond the goal, so that the goal is not simply the end of the line
    path = dice.distinct(_LABELS, hops + 1 + extra)
    arrows = [f"{a}>{b}" for a, b in pairwise(path)]
    given = ", ".join(dice.distinct(arrows, len(arrows)))
    start, goal = path[0], path[hops]
    trace = ",".join(f"{k} {path[k - 1]}>{path[k]}" for k in range(1, hops + 1))
    prompt = dice.pick(_ARROWS[language]).format(e=given, s=start, n=hops, k=native(hops, counting=True))
    return Draft(prompt, goal, trace, "arrows")


def _cups(dice: Dice, swaps: int, language: str) -> Draft:
    cups = dice.distinct(_CUP_LABELS, 3)
    at = start = dice.pick(cups)
    given, trace = [], start
    for k in range(1, swaps + 1):
        a, b = dice.distinct(cups, 2)
        at = b if at == a else a if at == b else at
        given.append(f"{STEP[k]}{a}-{b}")
        trace += f"{STEP[k]}{a}-{b}:{at}"
    return Draft(dice.pick(_CUPS[language]).format(s=start, e="".join(given)), at, trace, "cups")
