"""Mathematics in the style of the Korean entrance exam: answers are whole numbers from 0 to 999.

Each topic draws its numbers, says the problem in both languages, solves it by formula and solves it again in another
way (counting, summing, sampling). Problems and numbers are our own.
"""

# ruff: noqa: E501 - tables of sentences in two languages

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, permutations, product
from typing import Any

from dokja.tasks.korean import particle
from dokja.tasks.packs.readers import Item

Numbers = Mapping[str, int]

_ONE = re.compile(r"(?<![\d_^{.])1(?=[a-z])")  # a coefficient that nobody writes


@dataclass(frozen=True)
class Topic:
    """One kind of problem."""

    name: str
    part: str
    """common, calculus, statistics or geometry, as the exam divides"""
    draw: Callable[[random.Random], dict[str, int]]
    korean: str
    english: str
    solve: Callable[[Any], Any]
    again: Callable[[Any], Any]


def _simpson(f: Callable[[float], float], a: float, b: float, n: int = 2000) -> float:
    h = (b - a) / n
    inner = sum((4 if k % 2 else 2) * f(a + k * h) for k in range(1, n))
    return h / 3 * (f(a) + inner + f(b))


def _slope(f: Callable[[float], float], x: float) -> float:
    return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5


def _geometric(p: Numbers) -> int:
    found = [r for r in range(1, 10) if p["a"] * r ** (p["m"] - 1) == p["a"] * p["r"] ** (p["m"] - 1)]
    return int(p["a"] * found[0] ** (p["k"] - 1))


def _lowest(above: int, below: int) -> int:
    ratio = Fraction(above, below)
    return ratio.numerator + ratio.denominator


def _same_colour(p: Numbers) -> int:
    balls = ["r"] * p["r"] + ["b"] * p["b"]
    draws = list(permutations(range(len(balls)), 2))
    return _lowest(sum(balls[i] == balls[j] for i, j in draws), len(draws))


def _dice_sum(p: Numbers) -> int:
    given = [(a, b) for a, b in product(range(1, 7), repeat=2) if p["s"] in (a, b)]
    return _lowest(sum(sum(pair) >= p["t"] for pair in given), len(given))


def _dice_formula(p: Numbers) -> int:
    # the other die shows d; (s, d) and (d, s), but (s, s) once
    good = [d for d in range(1, 7) if p["s"] + d >= p["t"]]
    return _lowest(2 * len(good) - (p["s"] in good), 11)


def _variance(p: Numbers) -> float:
    n, q = p["n"], 1 / p["d"]
    mass = [math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]
    mean = sum(k * m for k, m in enumerate(mass))
    return p["c"] ** 2 * sum((k - mean) ** 2 * m for k, m in enumerate(mass))


def _count_sine(p: Numbers) -> int:
    f = [math.sin(p["k"] * x) - 1 / 2 for x in (2 * math.pi * (n + 0.37) / 20011 for n in range(20011))]
    return sum(a * b < 0 for a, b in pairwise(f))


def _perimeter(p: Numbers) -> float:
    c = math.sqrt(p["a"] ** 2 - p["b"] ** 2)
    x, y = p["a"] * math.cos(1.1), p["b"] * math.sin(1.1)
    return math.dist((x, y), (c, 0)) + math.dist((x, y), (-c, 0)) + 2 * c


def _length(p: Numbers) -> float:
    angle = math.acos(p["d"] / (p["a"] * p["b"]))
    u, v = (p["a"], 0.0), (p["b"] * math.cos(angle), p["b"] * math.sin(angle))
    return sum((p["m"] * x + p["n"] * y) ** 2 for x, y in zip(u, v, strict=True))


def _last_term(p: Numbers) -> int:
    term = p["a"]
    for n in range(1, p["n"]):
        term += p["p"] * n + p["q"]
    return term


TOPICS: tuple[Topic, ...] = (
    Topic(
        "logarithm", "common", lambda r: {"b": r.choice([2, 3, 5]), "m": r.randint(3, 9), "n": r.randint(2, 8)},
        "$\\log_{{{b}}} {b}^{{{m}}} + \\log_{{{b}^2}} {b}^{{2\\times {n}}}$의 값을 구하시오.",
        "Find the value of $\\log_{{{b}}} {b}^{{{m}}} + \\log_{{{b}^2}} {b}^{{2\\times {n}}}$.",
        lambda p: p["m"] + p["n"],
        lambda p: math.log(p["b"] ** p["m"], p["b"]) + math.log(p["b"] ** (2 * p["n"]), p["b"] ** 2),
    ),
    Topic(
        "arithmetic sequence", "common",
        lambda r: {"k": 3, "d": r.randint(2, 7), "a": r.randint(1, 20), "m": r.randint(6, 9), "n": r.randint(12, 30)},
        "등차수열 $\\{{a_n\\}}$에서 $a_1 = {a}$, $a_{{{m}}} - a_{{{k}}} = {gap}$일 때, $a_{{{n}}}$의 값을 구하시오.",
        "In the arithmetic sequence $\\{{a_n\\}}$, $a_1 = {a}$ and $a_{{{m}}} - a_{{{k}}} = {gap}$. Find $a_{{{n}}}$.",
        lambda p: p["a"] + (p["n"] - 1) * p["d"],
        lambda p: [x for x in range(p["a"], p["a"] + p["n"] * p["d"], p["d"])][p["n"] - 1],
    ),
    Topic(
        "geometric sequence", "common",
        lambda r: {"a": r.randint(1, 4), "r": r.choice([2, 3]), "m": 4, "k": r.choice([5, 6])},
        "모든 항이 양수인 등비수열 $\\{{a_n\\}}$에서 $a_1 = {a}$, $a_{{{m}}} = {am}$일 때, $a_{{{k}}}$의 값을 구하시오.",
        "In the geometric sequence $\\{{a_n\\}}$ of positive terms, $a_1 = {a}$ and $a_{{{m}}} = {am}$. Find $a_{{{k}}}$.",
        lambda p: p["a"] * p["r"] ** (p["k"] - 1), _geometric,
    ),
    Topic(
        "sum", "common", lambda r: {"a": r.randint(1, 3), "b": r.randint(1, 6), "n": r.randint(5, 8)},
        "$\\sum_{{k=1}}^{{{n}}} ({a}k^2 + {b}k)$의 값을 구하시오.",
        "Find the value of $\\sum_{{k=1}}^{{{n}}} ({a}k^2 + {b}k)$.",
        lambda p: p["a"] * p["n"] * (p["n"] + 1) * (2 * p["n"] + 1) // 6 + p["b"] * p["n"] * (p["n"] + 1) // 2,
        lambda p: sum(p["a"] * k * k + p["b"] * k for k in range(1, p["n"] + 1)),
    ),
    Topic(
        "recurrence", "common",
        lambda r: {"a": r.randint(1, 9), "p": r.randint(2, 4), "q": r.randint(1, 5), "n": r.randint(8, 14)},
        "수열 $\\{{a_n\\}}$은 $a_1 = {a}$이고 모든 자연수 $n$에 대하여 $a_{{n+1}} = a_n + {p}n + {q}$이다. "
        "$a_{{{n}}}$의 값을 구하시오.",
        "The sequence $\\{{a_n\\}}$ has $a_1 = {a}$ and $a_{{n+1}} = a_n + {p}n + {q}$ for every natural number $n$. "
        "Find $a_{{{n}}}$.",
        lambda p: p["a"] + p["p"] * p["n"] * (p["n"] - 1) // 2 + p["q"] * (p["n"] - 1), _last_term,
    ),
    Topic(
        "derivative", "common", lambda r: {"a": r.randint(1, 4), "b": r.randint(1, 9), "c": r.randint(1, 9), "x": r.randint(2, 4)},
        "함수 $f(x) = {a}x^3 + {b}x^2 - {c}x + 1$에 대하여 $f'({x})$의 값을 구하시오.",
        "For $f(x) = {a}x^3 + {b}x^2 - {c}x + 1$, find $f'({x})$.",
        lambda p: 3 * p["a"] * p["x"] ** 2 + 2 * p["b"] * p["x"] - p["c"],
        lambda p: _slope(lambda x: p["a"] * x**3 + p["b"] * x**2 - p["c"] * x + 1, p["x"]),
    ),
    Topic(
        "tangent", "common", lambda r: {"a": r.randint(2, 5), "b": r.randint(1, 9)},
        "곡선 $y = -x^2 + {b}$ 위의 점 $({a}, {ya})$에서의 접선의 $y$절편을 구하시오.",
        "Find the $y$-intercept of the tangent to the curve $y = -x^2 + {b}$ at the point $({a}, {ya})$.",
        lambda p: p["a"] ** 2 + p["b"],
        lambda p: (-(p["a"] ** 2) + p["b"]) - p["a"] * _slope(lambda x: -x * x + p["b"], p["a"]),
    ),
    Topic(
        "local maximum", "common", lambda r: {"a": r.randint(2, 5), "b": r.randint(1, 40)},
        "함수 $f(x) = x^3 - {aa}x + {b}$의 극댓값을 구하시오.",
        "Find the local maximum of $f(x) = x^3 - {aa}x + {b}$.",
        lambda p: 2 * p["a"] ** 3 + p["b"],
        lambda p: max(x**3 - 3 * p["a"] ** 2 * x + p["b"] for x in (n / 1000 - 2 * p["a"] for n in range(2000 * p["a"]))),
    ),
    Topic(
        "integral", "common", lambda r: {"a": r.randint(1, 3), "b": r.randint(1, 6), "c": r.randint(1, 9), "x": r.randint(2, 4)},
        "$\\int_0^{{{x}}} ({a3}x^2 + {b2}x + {c})\\,dx$의 값을 구하시오.",
        "Find the value of $\\int_0^{{{x}}} ({a3}x^2 + {b2}x + {c})\\,dx$.",
        lambda p: p["a"] * p["x"] ** 3 + p["b"] * p["x"] ** 2 + p["c"] * p["x"],
        lambda p: _simpson(lambda x: 3 * p["a"] * x * x + 2 * p["b"] * x + p["c"], 0, p["x"]),
    ),
    Topic(
        "area", "common", lambda r: {"m": 6 * r.randint(1, 2)},
        "곡선 $y = x^2$과 직선 $y = {m}x$로 둘러싸인 부분의 넓이를 구하시오.",
        "Find the area enclosed by the curve $y = x^2$ and the line $y = {m}x$.",
        lambda p: p["m"] ** 3 // 6, lambda p: _simpson(lambda x: p["m"] * x - x * x, 0, p["m"]),
    ),
    Topic(
        "limit", "common", lambda r: {"a": r.randint(2, 9), "b": r.randint(1, 9)},
        "$\\lim_{{x \\to {a}}} \\frac{{x^2 - {amb}x - {ab}}}{{x - {a}}}$의 값을 구하시오.",
        "Find the value of $\\lim_{{x \\to {a}}} \\frac{{x^2 - {amb}x - {ab}}}{{x - {a}}}$.",
        lambda p: p["a"] + p["b"],
        lambda p: _slope(lambda x: x * x - (p["a"] - p["b"]) * x - p["a"] * p["b"], p["a"]),
    ),
    Topic(
        "velocity", "common", lambda r: {"a": r.randint(2, 5), "b": r.randint(1, 20)},
        "수직선 위를 움직이는 점 P의 시각 $t$ ($t \\ge 0$)에서의 위치가 $x = t^3 - {a3}t^2 + {b3}t$이다. "
        "점 P의 가속도가 0일 때의 점 P의 속도에 {shift}을 더한 값을 구하시오.",
        "The position of a point P on a line at time $t$ ($t \\ge 0$) is $x = t^3 - {a3}t^2 + {b3}t$. Find {shift} more "
        "than its velocity at the time when its acceleration is 0.",
        lambda p: 3 * p["b"] - 3 * p["a"] ** 2 + 100,
        lambda p: _slope(lambda t: t**3 - 3 * p["a"] * t * t + 3 * p["b"] * t, p["a"]) + 100,
    ),
    Topic(
        "inequality", "common", lambda r: {"b": r.choice([2, 3]), "n": r.randint(100, 900)},
        "부등식 ${b}^{{x}} \\le {n}${object} 만족시키는 자연수 $x$의 개수를 구하시오.",
        "How many natural numbers $x$ satisfy ${b}^{{x}} \\le {n}$?",
        lambda p: math.floor(math.log(p["n"]) / math.log(p["b"]) + 1e-12),
        lambda p: sum(p["b"] ** x <= p["n"] for x in range(1, 20)),
    ),
    Topic(
        "sine", "common", lambda r: {"k": r.randint(3, 12)},
        "$0 \\le x < 2\\pi$일 때, 방정식 $\\sin {k}x = \\frac{{1}}{{2}}$의 서로 다른 실근의 개수를 구하시오.",
        "For $0 \\le x < 2\\pi$, how many different real roots has the equation $\\sin {k}x = \\frac{{1}}{{2}}$?",
        lambda p: 2 * p["k"], _count_sine,
    ),
    Topic(
        "series", "calculus", lambda r: {"a": r.randint(2, 30), "d": r.randint(2, 5)},
        "등비급수 $\\sum_{{n=1}}^{{\\infty}} {first} \\left(\\frac{{{dm}}}{{{d}}}\\right)^{{n-1}}$의 합을 구하시오.",
        "Find the sum of the geometric series $\\sum_{{n=1}}^{{\\infty}} {first} \\left(\\frac{{{dm}}}{{{d}}}\\right)^{{n-1}}$.",
        lambda p: p["a"] * p["d"],
        lambda p: sum(p["a"] * ((p["d"] - 1) / p["d"]) ** n for n in range(400)),
    ),
    Topic(
        "exponential derivative", "calculus", lambda r: {"a": r.randint(2, 9), "b": r.randint(1, 30)},
        "함수 $f(x) = ({b}x + 1)e^{{{a}x}}$에 대하여 $f'(0)$의 값을 구하시오.",
        "For $f(x) = ({b}x + 1)e^{{{a}x}}$, find $f'(0)$.",
        lambda p: p["a"] + p["b"], lambda p: _slope(lambda x: (p["b"] * x + 1) * math.exp(p["a"] * x), 0),
    ),
    Topic(
        "logarithmic integral", "calculus", lambda r: {"a": r.randint(2, 40), "k": r.randint(2, 9)},
        "$\\int_1^{{e^{{{k}}}}} \\frac{{{a}}}{{x}}\\,dx$의 값을 구하시오.",
        "Find the value of $\\int_1^{{e^{{{k}}}}} \\frac{{{a}}}{{x}}\\,dx$.",
        lambda p: p["a"] * p["k"], lambda p: _simpson(lambda u: p["a"], 0, p["k"]),
    ),
    Topic(
        "repetition", "statistics", lambda r: {"n": r.randint(5, 12)},
        "방정식 $x + y + z = {n}${object} 만족시키는 음이 아닌 정수 $x, y, z$에 대하여 $x \\ge 1$인 순서쌍 $(x, y, z)$의 개수를 구하시오.",
        "How many ordered triples $(x, y, z)$ of non-negative integers with $x \\ge 1$ satisfy $x + y + z = {n}$?",
        lambda p: math.comb(p["n"] + 1, 2),
        lambda p: sum(sum(t) == p["n"] and t[0] >= 1 for t in product(range(p["n"] + 1), repeat=3)),
    ),
    Topic(
        "arrangement", "statistics", lambda r: {"a": r.randint(2, 3), "b": 2, "c": r.randint(1, 2)},
        "문자 $A$ {a}개, $B$ {b}개, $C$ {c}개를 모두 일렬로 나열하는 경우의 수를 구하시오.",
        "In how many ways can {a} letters $A$, {b} letters $B$ and {c} letters $C$ all be arranged in a row?",
        lambda p: math.factorial(p["a"] + p["b"] + p["c"])
        // (math.factorial(p["a"]) * math.factorial(p["b"]) * math.factorial(p["c"])),
        lambda p: len(set(permutations("A" * p["a"] + "B" * p["b"] + "C" * p["c"]))),
    ),
    Topic(
        "two balls", "statistics", lambda r: {"r": r.randint(3, 7), "b": r.randint(2, 6)},
        "주머니에 빨간 공 {r}개와 파란 공 {b}개가 들어 있다. 이 주머니에서 공 2개를 동시에 꺼낼 때, 두 공의 색이 같을 확률은 "
        "$\\frac{{q}}{{p}}$이다. $p + q$의 값을 구하시오. (단, $p$와 $q$는 서로소인 자연수이다.)",
        "A bag holds {r} red and {b} blue balls. Two balls are drawn at once. The probability that they have the same "
        "colour is $\\frac{{q}}{{p}}$ with coprime natural numbers $p$ and $q$. Find $p + q$.",
        lambda p: _lowest(math.comb(p["r"], 2) + math.comb(p["b"], 2), math.comb(p["r"] + p["b"], 2)), _same_colour,
    ),
    Topic(
        "two dice", "statistics", lambda r: {"s": r.randint(4, 6), "t": r.randint(8, 9)},
        "한 개의 주사위를 두 번 던질 때 나온 눈의 수 중 적어도 하나가 {s}이다. 이때 두 눈의 수의 합이 {t} 이상일 확률은 "
        "$\\frac{{q}}{{p}}$이다. $p + q$의 값을 구하시오. (단, $p$와 $q$는 서로소인 자연수이다.)",
        "A die is thrown twice and at least one throw shows {s}. Given this, the probability that the sum of the throws "
        "is {t} or more is $\\frac{{q}}{{p}}$ with coprime natural numbers $p$ and $q$. Find $p + q$.",
        _dice_formula, _dice_sum,
    ),
    Topic(
        "binomial variance", "statistics", lambda r: {"d": 3, "n": 9 * r.randint(2, 6), "c": r.randint(2, 3)},
        "확률변수 $X$가 이항분포 $B\\left({n}, \\frac{{1}}{{{d}}}\\right)$을 따를 때, $V({c}X + 1)$의 값을 구하시오.",
        "The random variable $X$ has the binomial distribution $B\\left({n}, \\frac{{1}}{{{d}}}\\right)$. Find $V({c}X + 1)$.",
        lambda p: p["c"] ** 2 * p["n"] * (p["d"] - 1) // p["d"] ** 2, _variance,
    ),
    Topic(
        "ellipse", "geometry", lambda r: dict(zip("ab", r.choice([(5, 3), (5, 4), (13, 5), (13, 12), (17, 8), (25, 7)]), strict=True)),
        "타원 $\\frac{{x^2}}{{{a2}}} + \\frac{{y^2}}{{{b2}}} = 1$의 두 초점을 F, F'이라 하고, 장축의 끝이 아닌 타원 위의 점 P에 "
        "대하여 삼각형 PFF'의 둘레의 길이를 구하시오.",
        "Let F and F' be the foci of the ellipse $\\frac{{x^2}}{{{a2}}} + \\frac{{y^2}}{{{b2}}} = 1$, and P a point of it that is "
        "no end of the major axis. Find the perimeter of the triangle PFF'.",
        lambda p: 2 * p["a"] + 2 * math.isqrt(p["a"] ** 2 - p["b"] ** 2), _perimeter,
    ),
    Topic(
        "vectors", "geometry", lambda r: {"a": r.randint(2, 4), "b": r.randint(3, 5), "d": r.randint(1, 5), "m": 2, "n": r.randint(1, 3)},
        "두 벡터 $\\vec{{a}}$, $\\vec{{b}}$에 대하여 $|\\vec{{a}}| = {a}$, $|\\vec{{b}}| = {b}$, $\\vec{{a}} \\cdot \\vec{{b}} = {d}$일 때, "
        "$|{m}\\vec{{a}} + {n}\\vec{{b}}|^2$의 값을 구하시오.",
        "For two vectors, $|\\vec{{a}}| = {a}$, $|\\vec{{b}}| = {b}$ and $\\vec{{a}} \\cdot \\vec{{b}} = {d}$. Find "
        "$|{m}\\vec{{a}} + {n}\\vec{{b}}|^2$.",
        lambda p: p["m"] ** 2 * p["a"] ** 2 + 2 * p["m"] * p["n"] * p["d"] + p["n"] ** 2 * p["b"] ** 2, _length,
    ),
)  # fmt: skip


def derived(p: dict[str, int]) -> dict[str, Any]:
    """What the texts show beside the drawn numbers."""
    shown: dict[str, Any] = dict(p)
    if "d" in p and "m" in p and "k" in p:
        shown["gap"] = (p["m"] - p["k"]) * p["d"]
    if "r" in p and "m" in p:
        shown["am"] = p["a"] * p["r"] ** (p["m"] - 1)
    if "a" in p:
        a, b = p["a"], p.get("b", 0)
        shown |= {"ya": b - a * a, "aa": 3 * a * a, "a3": 3 * a, "b3": 3 * b, "b2": 2 * b, "amb": a - b, "ab": a * b}
    if "d" in p and "a" in p:
        shown |= {"first": p["a"], "dm": p["d"] - 1}
    return shown | {"shift": 100, "object": particle(str(p.get("n", 0)), "을/를")}


def drawn(topic: Topic, seed: int) -> dict[str, int]:
    """The numbers of a topic's problem; the same on any machine."""
    digest = hashlib.sha256(f"csat/{topic.name}/{seed}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))
    while True:
        numbers = topic.draw(rng)
        if 0 <= topic.solve(numbers) <= 999:
            return numbers


def items(name: str, language: str, options: Mapping[str, Any]) -> list[Item]:
    """One problem of each topic."""
    found = []
    for topic in TOPICS:
        numbers = drawn(topic, options["seed"])
        shown = derived(numbers)
        if topic.name == "ellipse":
            shown |= {"a2": numbers["a"] ** 2, "b2": numbers["b"] ** 2}
        text = (topic.korean if language == "ko" else topic.english).format(**shown)
        text = _ONE.sub("", text.replace("- -", "+ ").replace("+ 0x ", "").replace("- 0x ", ""))
        found.append(
            Item(
                topic.name.replace(" ", "-"),
                {"question": text},
                str(topic.solve(numbers)),
                tags=(topic.part, topic.name),
            )
        )
    return found
