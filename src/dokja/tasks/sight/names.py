"""Words for what is seen, in both languages, and the grading of answers that name it."""

from __future__ import annotations

from typing import NamedTuple

from dokja.tasks.extract import final_part, same_word, tidy
from dokja.tasks.sight.canvas import Canvas, Colour, Point, corners, star


class Hue(NamedTuple):
    """A colour: its RGB, its name by language, and the Korean form before a noun."""

    rgb: Colour
    en: str
    ko: str
    before: str

    def name(self, language: str) -> str:
        """The name as an answer."""
        return self.ko if language == "ko" else self.en

    def of(self, noun: str, language: str) -> str:
        """`red circle`, `빨간 원`."""
        return f"{self.before if language == 'ko' else self.en} {noun}"


HUES = (
    Hue((214, 40, 40), "red", "빨간색", "빨간"),
    Hue((40, 80, 210), "blue", "파란색", "파란"),
    Hue((40, 150, 60), "green", "초록색", "초록"),
    Hue((235, 195, 30), "yellow", "노란색", "노란"),
    Hue((140, 50, 170), "purple", "보라색", "보라"),
    Hue((35, 35, 35), "black", "검은색", "검은"),
)
SHAPES = {
    "circle": ("circle", "원"),
    "triangle": ("triangle", "삼각형"),
    "square": ("square", "사각형"),
    "star": ("star", "별"),
}
"""Kind of shape -> (English, Korean) noun."""
POLYGONS = {
    3: ("triangle", "삼각형"),
    4: ("quadrilateral", "사각형"),
    5: ("pentagon", "오각형"),
    6: ("hexagon", "육각형"),
    8: ("octagon", "팔각형"),
}
"""Corners -> (English, Korean) name."""
SIDES = {"en": (("left", "right"), ("above", "below")), "ko": (("왼쪽", "오른쪽"), ("위", "아래"))}
"""By axis (across, down): the word for the smaller and for the larger coordinate."""
NO_YES = {"en": ("no", "yes"), "ko": ("아니요", "네")}
_CHOICES = (
    *(tuple(hue.name(language) for hue in HUES) for language in ("en", "ko")),
    *zip(*POLYGONS.values(), strict=True),
    *((*across, *down) for across, down in SIDES.values()),
    *NO_YES.values(),
)
"""Answers that stand against one another."""
_SAME = {
    "빨간색": ("빨강", "빨간"), "파란색": ("파랑", "파란"), "초록색": ("초록", "녹색"), "노란색": ("노랑", "노란"),
    "보라색": ("보라",), "검은색": ("검정", "검정색", "검은"),
    "사각형": ("네모", "사변형"), "삼각형": ("세모",), "원": ("동그라미", "원형"), "별": ("별 모양",),
    "quadrilateral": ("square", "rectangle"),
    "왼쪽": ("왼편", "좌측"), "오른쪽": ("오른편", "우측"), "위": ("위쪽",), "아래": ("아래쪽", "밑"),
    "above": ("up",), "below": ("down", "under"),
    "네": ("예", "맞다", "평행하다", "평행"), "아니요": ("아니오", "아니다"),
}  # fmt: skip


def same_name(reference: str, answer: str) -> bool | None:
    """Whether `answer` says `reference` or another word for it; None where it holds no word at all, or names more than
    one of the choices that the question leaves."""
    choices = next(group for group in _CHOICES if reference in group)
    named = {choice for word in tidy(answer).split() for choice in choices if _says(choice, word)}
    last = [word for word in final_part(answer).split() if any(_says(choice, word) for choice in choices)]
    if len(named) > 1 or len(last) > 1:
        return None
    return _says(reference, answer) if any(map(str.isalpha, answer)) else None


def _says(name: str, text: str) -> bool:
    return any(same_word(word, text) for word in (name, *_SAME.get(name, ())))


def noun(kind: str, language: str) -> str:
    """The word for a shape."""
    return SHAPES[kind][language == "ko"]


def paint(canvas: Canvas, kind: str, centre: Point, radius: float, colour: Colour, turn: float) -> None:
    """A shape of SHAPES that fits into a circle of `radius`."""
    if kind == "circle":
        canvas.circle(centre, radius * 0.9, colour)
    elif kind == "star":
        canvas.polygon(star(centre, radius * 1.05, turn), colour)
    else:
        canvas.polygon(corners(centre, radius, 3 if kind == "triangle" else 4, turn), colour)
