"""Ages and dates. Level 1: ages of two people. 2: a date some days later. 3: a weekday from another date of the month.

Dates are of a common year; no span leaves February, so leap years never matter.
"""

from __future__ import annotations

from dokja.tasks.extract import MONTHS, WEEKDAYS, same_date, same_number, same_weekday
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.families.clock import weekday_steps
from dokja.tasks.families.people import NAMES, Person
from dokja.tasks.families.steps import two_step_add, two_step_sub
from dokja.tasks.korean import josa
from dokja.tasks.problem import Problem

LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_AGES = {
    ("en", 1): (
        "{b} is {n}. {a} is {d} years {cmp} than {b}. How old will {a} be in {y} years?",
        "{a} is {d} years {cmp} than {b}, who is {n}. How old is {a} in {y} years?",
        "{b} is {n} and {a} is {d} years {cmp}. {a}'s age in {y} years?",
    ),
    ("en", -1): (
        "{b} is {n}. {a} is {d} years {cmp} than {b}. How old was {a} {y} years ago?",
        "{a} is {d} years {cmp} than {b}, who is {n}. How old was {a} {y} years ago?",
        "{b} is {n} and {a} is {d} years {cmp}. {a}'s age {y} years ago?",
    ),
    ("ko", 1): (
        "{b_neun} {n}살이다. {a_neun} {b}보다 {d}살 {cmp}. {y}년 뒤 {a_neun} 몇 살인가요?",
        "{a_neun} {b}보다 {d}살 {cmp}. {b_neun} {n}살이다. {y}년 뒤 {a}의 나이는?",
        "{n}살인 {b}보다 {a_i} {d}살 {cmp}. {y}년 뒤 {a_neun} 몇 살이 되나요?",
    ),
    ("ko", -1): (
        "{b_neun} {n}살이다. {a_neun} {b}보다 {d}살 {cmp}. {y}년 전 {a_neun} 몇 살이었나요?",
        "{a_neun} {b}보다 {d}살 {cmp}. {b_neun} {n}살이다. {y}년 전 {a}의 나이는?",
        "{n}살인 {b}보다 {a_i} {d}살 {cmp}. {y}년 전에 {a_neun} 몇 살이었나요?",
    ),
}
_COMPARE = {("en", 1): "older", ("en", -1): "younger", ("ko", 1): "많다", ("ko", -1): "어리다"}
_DATES = {
    "en": ("What is the date {n} days after {t}?", "Today is {t}. What is the date in {n} days?", "{t} plus {n} days?"),
    "ko": (
        "{t}에서 {n}일 뒤는 몇 월 며칠인가요?",
        "오늘은 {t}이다. {n}일 뒤의 날짜는?",
        "{t}의 {n}일 후는 몇 월 며칠?",
    ),
}
_WEEKDAYS = {
    "en": (
        "The {x} is a {w}. What day is the {y} of that month?",
        "This month the {x} is a {w}. What day is the {y}?",
        "If the {x} is {w}, what day is the {y}?",
    ),
    "ko": (
        "이번 달 {x}은 {w_ida}. {y}은 무슨 요일인가요?",
        "{x}이 {w}이면 같은 달 {y}은 무슨 요일인가요?",
        "어느 달 {x}이 {w_ida}. 그달 {y}의 요일은?",
    ),
}


class Calendar(Family):
    """March 25 + 12 days -> `①3:31②25+10=35+2=37>06③3+1>4=April 6` -> April 6."""

    name = "calendar"
    levels = (1, 2, 3)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        return (_age, _date, _weekday)[level - 1](dice, language)

    def same(self, problem: Problem, answer: str) -> bool | None:
        return (same_number, same_date, same_weekday)[problem.level - 1](problem.reference, answer)


def _age(dice: Dice, language: str) -> Draft:
    a, b = dice.distinct(NAMES[language], 2)
    n, d, y = dice.between(10, 50), dice.between(2, 9), dice.between(2, 9)
    older, later = dice.pick((1, -1)), dice.pick((1, -1))
    if n + older * d + later * y < 1:
        older = later = 1
    now = n + older * d
    end = now + later * y
    trace = f"{STEP[1]}{n}{'+' if older > 0 else '-'}{d}={now}{STEP[2]}{now}{'+' if later > 0 else '-'}{y}={end}"
    phrase = dice.pick(_AGES[language, later])
    people: dict[str, Person | str] = {"a": a, "b": b}
    if language == "ko":
        people |= {"a_neun": a.neun, "b_neun": b.neun, "a_i": a.i}
    return Draft(phrase.format(n=n, d=d, y=y, cmp=_COMPARE[language, older], **people), str(end), trace, "age")


def _date(dice: Dice, language: str) -> Draft:
    month, days = dice.between(1, 12), dice.between(2, 28)
    length = LENGTHS[month - 1]
    if month == 2:
        day = dice.between(1, 28 - days) if days < 28 else 0
        if day == 0:  # 28 days on from any day of February leaves it
            month, length, day = 3, 31, dice.between(1, 31)
    else:
        day = dice.between(1, length)
    steps, total = two_step_add(f"{day:02d}", day, days)
    over = int(total > length)
    rest, end = total - over * length, month % 12 + 1 if over else month
    answer = f"{MONTHS[end - 1]} {rest}" if language == "en" else f"{end}월 {rest}일"
    trace = f"{STEP[1]}{month}:{length}{STEP[2]}{steps}>{rest:02d}{STEP[3]}{month}+{over}>{end}={answer}"
    start = f"{MONTHS[month - 1]} {day}" if language == "en" else f"{month}월 {day}일"
    return Draft(dice.pick(_DATES[language]).format(t=start, n=days), answer, trace, "date")


def _weekday(dice: Dice, language: str) -> Draft:
    known, asked = dice.distinct(range(1, 31), 2)
    start = dice.below(7)
    direction = 1 if asked > known else -1
    steps, span = two_step_sub(max(known, asked), min(known, asked))
    more, answer = weekday_steps(start, span, direction, language, first=2)
    name = WEEKDAYS[language][start]
    order = f"{known:02d}{'<' if direction > 0 else '>'}{asked:02d}"  # forwards or back: settled before it is needed
    if language == "en":
        words = {"x": _ordinal(known), "y": _ordinal(asked), "w": name}
    else:
        words = {"x": f"{known}일", "y": f"{asked}일", "w": name, "w_ida": josa(name, "이다/다")}
    return Draft(dice.pick(_WEEKDAYS[language]).format(**words), answer, order + STEP[1] + steps + more, "weekday")


def _ordinal(n: int) -> str:
    ending = "th" if 11 <= n <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
