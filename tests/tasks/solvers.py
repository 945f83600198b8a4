"""A second solver for each family, written from the prompt's text alone: it shares no code with the generators."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from fractions import Fraction

EN_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
KO_DAYS = [c + "요일" for c in "월화수목금토일"]
EN_MONTHS = [date(2001, m, 1).strftime("%B") for m in range(1, 13)]


def ints(text):
    return [int(n) for n in re.findall(r"\d+", text)]


def first(pattern, text):
    return next(int(g) for g in re.search(pattern, text).groups() if g)


def backwards(text):
    return bool(re.search(r"\bago\b|before|minus|일 전|분 전", text))


def find_day(text):
    for days in (EN_DAYS, KO_DAYS):
        for i, day in enumerate(days):
            if day in text:
                return i, days
    raise AssertionError(text)


def addsub(text, level):
    return str(eval(re.search(r"\d+[+-]\d+", text).group()))


def modchain(text, level):
    expression = re.search(r"\([\d()+*-]+\)", text).group()
    modulus = int(re.search(r"\d+", text.replace(expression, "")).group())
    return str(eval(expression) % modulus)


def letters(text, level):
    if "'" in text:
        target, word = re.search(r"'(.)'", text).group(1), re.search(r"[?:] (\S+)\.$", text).group(1)
    else:
        target = re.search(r"letter (.) in|does (.) appear|many (.) are|of (.) in", text)
        target = next(g for g in target.groups() if g)
        word = re.search(r"(\w+)[.?]$", text).group(1)
    return str(len(word) - len(word.replace(target, "")))


def clock(text, level):
    sign = -1 if backwards(text) else 1
    if level == 1:
        day, days = find_day(text)
        return days[(day + sign * ints(text)[0]) % 7]
    text = text.replace("12-hour clock. ", "").replace("12시간제. ", "")
    start = re.search(r"\d\d:\d\d", text).group()
    rest = text.replace(start, "")
    hours = re.search(r"(\d+)(?: hour|시간)", rest)
    minutes = re.search(r"(\d+)(?: minute|분)", rest)
    span = timedelta(hours=int(hours.group(1)) if hours else 0, minutes=int(minutes.group(1)))
    end = datetime.strptime("2001-06-15 " + start, "%Y-%m-%d %H:%M") + sign * span
    return end.strftime("%I:%M" if level == 4 else "%H:%M")


def chain(text, level):
    scope = {}
    definitions = re.findall(r"\b([a-z])=([a-z0-9]+(?:[+-]\d+)?)", text)
    asked = re.sub(r"\b[a-z]=[a-z0-9]+(?:[+-]\d+)?", "", text)
    wanted = re.findall(r"(?<![A-Za-z])([a-z])(?![a-z])", asked)[-1]
    while wanted not in scope:
        for name, value in definitions:
            try:
                scope[name] = eval(value, {}, scope)
            except NameError:
                continue
    return str(scope[wanted])


def sort(text, level):
    falling = re.search("descending|largest to|Largest first|내림차순|큰 ", text)
    return ",".join(map(str, sorted(ints(text), reverse=bool(falling))))


def reverse(text, level):
    word = re.search(r"(\S+)[.?]$", text).group(1)
    return "".join(reversed(word))


def word(text, level):
    total = None
    for sentence in re.split(r"(?<=[.?]) ", text):
        numbers = ints(sentence)
        if not numbers:
            continue
        if total is None:
            total = Fraction(numbers[0] * (numbers[1] if len(numbers) > 1 else 1))
        elif re.search("share|나누", sentence):
            total /= numbers[0]
        elif re.search("gives|loses|sells|에게 .*주었다|잃어|팔았", sentence):
            total -= numbers[0]
        else:
            assert re.search("buys|finds|gets|샀다|주웠다|받았다", sentence), sentence
            total += numbers[0]
    assert total.denominator == 1
    return str(int(total))


def bits(text, level):
    number = max(re.findall(r"[01]+", text), key=len)
    return str(bin(int(number, 2)).count("1"))


def calendar(text, level):
    if level == 1:
        base = first(r"is (\d+)(?! years)|(\d+)살이다|^(\d+)살인", text)
        gap = first(r"(\d+) years (?:older|younger)|(\d+)살 (?:많|어)", text)
        span = first(r"in (\d+) years|(\d+) years ago|(\d+)년 [뒤전]", text)
        older = bool(re.search("older|많다", text))
        return str(base + (gap if older else -gap) + (-span if re.search("ago|년 전", text) else span))
    if level == 2:
        if "월" in text:
            month, day, days = ints(text)
        else:
            name, start = re.search(r"([A-Z][a-z]+) (\d+)", re.sub("Today|What", "", text)).groups()
            month, day = EN_MONTHS.index(name) + 1, int(start)
            days = int(re.search(r"(\d+) days", text).group(1))
        end = date(2001, month, day) + timedelta(days=days)
        return f"{end.month}월 {end.day}일" if "월" in text else f"{EN_MONTHS[end.month - 1]} {end.day}"
    day, days = find_day(text)
    known, asked = ints(text)
    shift = (day - date(2001, 1, known).weekday()) % 7
    return days[(date(2001, 1, asked).weekday() + shift) % 7]


def sum_(text, level):
    return str(sum(ints(text)))


def hops(text, level):
    arrows = dict(re.findall(r"([A-Z])>([A-Z])", text))
    bare = re.sub(r"[A-Z][>-][A-Z]", "", text)
    at = re.findall(r"(?<![A-Za-z])[B-Z](?![A-Za-z])", bare)[0]
    if arrows:
        for _ in range(level + 1):
            at = arrows[at]
        return at
    for a, b in re.findall(r"([A-Z])-([A-Z])", text):
        at = {a: b, b: a}.get(at, at)
    return at


SOLVERS = {
    "addsub": addsub, "modchain": modchain, "letters": letters, "clock": clock, "chain": chain, "sort": sort,
    "reverse": reverse, "word": word, "bits": bits, "calendar": calendar, "sum": sum_, "hops": hops,
}  # fmt: skip
