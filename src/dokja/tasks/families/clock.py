"""Days and clocks. Level 1: weekday ± days. 2: 24-hour time + minutes. 3: 24-hour time ± hours and minutes. 4: the same
on a 12-hour clock.

Minutes are added as tens, then ones; subtracting m minutes is going back one hour more and adding 60 - m, so that the
carry has one meaning. Days count from Sunday = 0.
"""

from __future__ import annotations

from dokja.tasks.extract import WEEKDAYS, same_time, same_weekday
from dokja.tasks.families.base import STEP, Dice, Draft, Family
from dokja.tasks.families.steps import two_step_add
from dokja.tasks.korean import josa
from dokja.tasks.problem import Problem

_DAYS = {
    ("en", 1): ("Today is {d}. What day is it in {n} days?", "What day is {n} days after {d}?", "{d} plus {n} days?"),
    ("en", -1): (
        "Today is {d}. What day was it {n} days ago?",
        "What day is {n} days before {d}?",
        "{d} minus {n} days?",
    ),
    ("ko", 1): (
        "오늘은 {d_ida}. {n}일 뒤는 무슨 요일인가요?",
        "{d}에서 {n}일 후는 무슨 요일인가요?",
        "{d}의 {n}일 뒤 요일은?",
    ),
    ("ko", -1): (
        "오늘은 {d_ida}. {n}일 전은 무슨 요일이었나요?",
        "{d}에서 {n}일 전은 무슨 요일인가요?",
        "{d}의 {n}일 전 요일은?",
    ),
}
_TIMES = {
    ("en", 1): ("It is {t}. What time is it {s} later?", "What time is {s} after {t}?", "{t} plus {s}?"),
    ("en", -1): ("It is {t}. What time was it {s} ago?", "What time is {s} before {t}?", "{t} minus {s}?"),
    ("ko", 1): ("지금은 {t}이다. {s} 뒤는 몇 시 몇 분인가요?", "{t}에서 {s} 후의 시각은?", "{t}의 {s} 뒤는?"),
    ("ko", -1): ("지금은 {t}이다. {s} 전은 몇 시 몇 분이었나요?", "{t}에서 {s} 전의 시각은?", "{t}의 {s} 전은?"),
}
_TWELVE = {"en": "12-hour clock. ", "ko": "12시간제. "}
_DAY_IS = {d: josa(d, "이다/다") for d in WEEKDAYS["ko"]}


class Clock(Family):
    """`09:40` + 35 minutes -> `①40+30=70+5=75>15②09+1=10;10:15` -> 10:15."""

    name = "clock"
    levels = (1, 2, 3, 4)

    def draw(self, dice: Dice, level: int, language: str) -> Draft:
        if level == 1:
            return _weekday(dice, language)
        return _time(dice, level, language)

    def same(self, problem: Problem, answer: str) -> bool | None:
        if problem.level == 1:
            return same_weekday(problem.reference, answer)
        return same_time(problem.reference, answer, 12 if problem.level == 4 else 24)


def weekday_steps(start: int, days: int, direction: int, language: str, first: int = 1) -> tuple[str, str]:
    """Steps from weekday `start` over `days` (0 to 99) days, numbered from `first`, and the day's name.

    Wednesday + 17 days -> `①Wednesday=3②17>3③3+3>6=Saturday`.
    """
    names, rest = WEEKDAYS[language], days % 7
    sign, end = ("+" if direction > 0 else "-"), (start + direction * rest) % 7
    a, b, c = STEP[first], STEP[first + 1], STEP[first + 2]
    return f"{a}{names[start]}={start}{b}{days:02d}>{rest}{c}{start}{sign}{rest}>{end}={names[end]}", names[end]


def _weekday(dice: Dice, language: str) -> Draft:
    start, days, direction = dice.below(7), dice.between(2, 75), dice.pick((1, -1))
    name = WEEKDAYS[language][start]
    prompt = dice.pick(_DAYS[language, direction]).format(d=name, n=days, d_ida=_DAY_IS.get(name))
    trace, answer = weekday_steps(start, days, direction, language)
    return Draft(prompt, answer, trace, "weekday")


def _time(dice: Dice, level: int, language: str) -> Draft:
    twelve = level == 4
    hour = dice.between(1, 12) if twelve else dice.below(24)
    minute = dice.below(60)
    direction = 1 if level == 2 else dice.pick((1, -1))
    hours = 0 if level == 2 else dice.between(1, 9)
    # The minutes that are added stay below 100 - minute: sums keep two digits.
    added = dice.between(1, min(59, 99 - minute))
    span = added if direction > 0 else 60 - added
    trace, now, k = "", hour, 1
    if hours:
        now = _wrap(hour + direction * hours, twelve)
        sign = "+" if direction > 0 else "-"
        trace, k = f"{STEP[1]}{hour:02d}{sign}{hours}>{now:02d}", 2
    if direction < 0:
        trace += f"{STEP[k]}60-{span:02d}={added:02d}"
        k += 1
    steps, total = two_step_add(f"{minute:02d}", minute, added)
    carry, rest = divmod(total, 60)
    shift = carry if direction > 0 else carry - 1
    end = _wrap(now + shift, twelve)
    move = f"+{carry}" if direction > 0 else f"-{1 - carry}"
    answer = f"{end:02d}:{rest:02d}"
    trace += f"{STEP[k]}{steps}>{rest:02d}{STEP[k + 1]}{now:02d}{move}>{end:02d};{answer}"
    prompt = dice.pick(_TIMES[language, direction]).format(t=f"{hour:02d}:{minute:02d}", s=_span(hours, span, language))
    return Draft((_TWELVE[language] if twelve else "") + prompt, answer, trace, "time")


def _wrap(hour: int, twelve: bool) -> int:
    return (hour - 1) % 12 + 1 if twelve else hour % 24


def _span(hours: int, minutes: int, language: str) -> str:
    if language == "ko":
        return (f"{hours}시간 " if hours else "") + f"{minutes}분"
    head = f"{hours} hour{'s' if hours > 1 else ''} " if hours else ""
    return f"{head}{minutes} minute{'s' if minutes > 1 else ''}"
