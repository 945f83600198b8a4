"""Word problems; level 1 to 3 is 2 to 4 steps: having (or boxes of several), buying, giving, finding, losing, sharing.

Every number but the running one has one digit; products and shares stay within the multiplication table. The numbers
stand in the order in which they are used.
"""

from __future__ import annotations

from dokja.tasks.extract import same_number
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.families.people import NAMES, THINGS, Person, Thing
from dokja.tasks.problem import Problem

_EVENTS = {
    ("en", "+"): ("{a} buys {n} more.", "{a} finds {n} more.", "{a} gets {n} from {b}."),
    ("en", "-"): ("{a} gives {n} to {b}.", "{a} loses {n}.", "{a} sells {n}."),
    ("ko", "+"): ("{n}{c_eul} 더 샀다.", "{n}{c_eul} 주웠다.", "{b}에게서 {n}{c_eul} 받았다."),
    ("ko", "-"): ("{b}에게 {n}{c_eul} 주었다.", "{n}{c_eul} 잃어버렸다.", "{n}{c_eul} 팔았다."),
}
_HAS = {
    "en": ("{a} has {n} {t}.", "{a} had {n} {t}.", "{a} starts with {n} {t}."),
    "ko": ("{a_neun} {t_eul} {n}{c} 가지고 있다.", "{a_neun} {t_i} {n}{c} 있다.", "{a}에게 {t_i} {n}{c} 있었다."),
}
_BOXES = {
    "en": ("{a} has {n} boxes of {m} {t}.", "{a} buys {n} bags of {m} {t}."),
    "ko": ("{a_neun} {t_i} {n}{c}씩 든 상자를 {m}개 샀다.", "{a}에게 {t_i} {n}{c}씩 든 봉지가 {m}개 있다."),
}
_SHARE = {
    "en": ("{a} shares them among {n} friends. How many each?", "{n} friends share them equally. How many each?"),
    "ko": (
        "친구 {n}명이 똑같이 나누면 한 명당 몇 {c}인가요?",
        "{n}명에게 똑같이 나누어 주면 한 명은 몇 {c_eul} 받나요?",
    ),
}
_ASK = {
    ("en", "+"): ("How many {t} now?", "How many {t} does {a} have?", "How many in all?"),
    ("en", "-"): ("How many {t} now?", "How many {t} are left?", "How many are left?"),
    ("ko", "+"): ("지금 {t_neun} 몇 {c}인가요?", "{a_i} 가진 {t_neun} 몇 {c}인가요?", "모두 몇 {c}인가요?"),
    ("ko", "-"): ("지금 {t_neun} 몇 {c}인가요?", "남은 {t_neun} 몇 {c}인가요?", "몇 {c_i} 남았나요?"),
}


class Word(Family):
    """`Mina has 12 apples. Mina buys 5 more. Mina gives 3 to Jun. ...` -> `①12+5=17②17-3=14` -> 14."""

    name = "word"
    levels = (1, 2, 3)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        words = _words(dice, language)
        steps: list[str] = []
        if dice.random() < 0.4:
            n, m = dice.between(2, 9), dice.between(2, 9)
            value = n * m
            steps.append(f"{n}*{m}={value}")
            text = [dice.pick(_BOXES[language]).format(n=n, m=m, **words)]
        else:
            value = dice.between(10, 60)
            text = [dice.pick(_HAS[language]).format(n=value, **words)]
        sign = "+"
        while len(steps) < level + 1:
            last = len(steps) == level
            shares = [d for d in range(2, 10) if value % d == 0 and value // d < 10] if last else []
            if shares and dice.random() < 0.6:
                n = dice.pick(shares)
                steps.append(f"{value}/{n}={value // n}")
                text.append(dice.pick(_SHARE[language]).format(n=n, **words))
                return Draft(" ".join(text), str(value // n), _number(steps), "share")
            n = dice.between(1, 9)
            sign = "+" if value <= n or (value < 90 and dice.random() < 0.5) else "-"
            result = value + n if sign == "+" else value - n
            steps.append(f"{value}{sign}{n}={result}")
            text.append(dice.pick(_EVENTS[language, sign]).format(n=n, **words))
            value = result
        text.append(dice.pick(_ASK[language, sign]).format(**words))
        return Draft(" ".join(text), str(value), _number(steps), "count")

    def same(self, problem: Problem, answer: str) -> bool | None:
        return same_number(problem.reference, answer)


def _words(dice: Dice, language: str) -> dict[str, str | Person | Thing]:
    a, b = dice.distinct(NAMES[language], 2)
    t = dice.pick(THINGS[language])
    if language == "en":
        return {"a": a, "b": b, "t": t}
    c = t.counter
    return {
        "a": a, "a_neun": a.neun, "a_i": a.i, "b": b,
        "t": t, "t_neun": t.neun, "t_i": t.i, "t_eul": t.eul,
        "c": c, "c_i": c.i, "c_eul": c.eul,
    }  # fmt: skip


def _number(steps: list[str]) -> str:
    return "".join(STEP[k] + step for k, step in enumerate(steps, 1))
