"""Questions about images: what is drawn is what is asked, the same everywhere, and graded exactly."""

from __future__ import annotations

import re
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest

from dokja.errors import ConfigError
from dokja.tasks.registry import GROUPS, TASKS, get_tasks
from dokja.tasks.sight import canvas
from dokja.tasks.sight.hangul import SYLLABLES, jamo
from dokja.tasks.sight.names import HUES
from dokja.tasks.splits import eval_set, image_sha256, problem_key, prompt_keys, train_stream

SIGHT = GROUPS["sight"]
CELLS = [(name, level, lang) for name, task in SIGHT.items() for level in task.levels for lang in ("ko", "en")]
HANGUL = re.compile(r"[가-힣]")
EVERY = pytest.mark.parametrize("kind", CELLS, ids=["-".join(map(str, c)) for c in CELLS])


def problems(kind, seeds=range(40)):
    name, level, language = kind
    return [TASKS[name].problem(seed, level, language) for seed in seeds]


@EVERY
def test_a_seed_draws_the_same_pixels_and_another_seed_others(kind):
    first, again = problems(kind), problems(kind)
    assert [problem_key(p) for p in first] == [problem_key(p) for p in again]
    assert len({image_sha256(p.images[0]) for p in first}) == len(first)
    for p in first:
        (pixels,) = p.images
        assert (
            pixels.dtype == np.uint8 and pixels.size == 64 * 64 * 3 and all(side % 16 == 0 for side in pixels.shape[:2])
        )
        assert pixels.std() > 5  # something is there


@EVERY
def test_traces_are_short_and_end_in_the_answer_of_the_asked_language(kind):
    for p in problems(kind):
        assert re.search(rf"[>=]{re.escape(p.reference)}$", p.trace) and len(p.trace) <= 60 and len(p.prompt) <= 90, p
        assert bool(HANGUL.search(p.prompt)) == (p.language == "ko") and "{" not in p.prompt + p.trace
        if p.task != "hangul":
            assert not (p.language == "en" and HANGUL.search(p.reference))
        assert unicodedata.is_normalized("NFC", p.prompt + p.trace + p.reference)


@EVERY
def test_the_right_answer_is_right_and_others_are_wrong(kind):
    task = TASKS[kind[0]]
    for p, other in pairwise(problems(kind)):
        for said in (p.reference, f"...\n정답: {p.reference}.", f"\\boxed{{{p.reference}}}"):
            assert task.grade(p, said).reason == "right", (p, said)
        if other.reference != p.reference:
            assert task.grade(p, other.reference).reason == "wrong", (p.reference, other.reference)
    for nothing in ("", "???", "\0", "…"):
        assert task.grade(p, nothing).reason == "unparseable"


@EVERY
def test_no_answer_is_a_good_guess(kind):
    answers = [p.reference for p in problems(kind, range(200))]
    assert max(answers.count(a) for a in set(answers)) <= 0.6 * len(answers)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(("colours", 1, "ko"), {"빨간색": "빨강이에요", "검은색": "검정"}),
     (("parallel", 1, "ko"), {"네": "예", "아니요": "아니오"}),
     (("polygons", 1, "ko"), {"사각형": "사각형입니다"}), (("where", 1, "ko"), {"왼쪽": "왼쪽입니다."})],
)  # fmt: skip
def test_other_words_for_the_answer_are_right_too(kind, said):
    task, met = TASKS[kind[0]], set()
    for p in problems(kind, range(80)):
        if p.reference in said:
            met.add(p.reference)
            assert task.grade(p, said[p.reference]).reason == "right", p.reference
    assert met == set(said)


# What is drawn, read back from the pixels by code that shares nothing with the drawing.


def hue_of_pixels(pixels):
    """Number of the hue in HUES that each pixel is nearest to; -1 for the light ground."""
    rgb = np.array([h.rgb for h in HUES])
    away = np.abs(pixels[:, :, None].astype(int) - rgb).sum(-1)
    return np.where(pixels.min(-1) > 185, -1, away.argmin(-1))


def named(word):
    return next(i for i, h in enumerate(HUES) if word in (h.en, h.ko))


@pytest.mark.parametrize("level", [1, 2])
def test_the_larger_shape_covers_more_pixels(level):
    for p in problems(("larger", level, "en"), range(60)):
        area = np.bincount(hue_of_pixels(p.images[0])[hue_of_pixels(p.images[0]) >= 0], minlength=6)
        asked = [i for i, h in enumerate(HUES) if h.en in p.prompt]
        assert max(asked, key=lambda i: area[i]) == named(p.reference), p


def test_the_leftmost_and_the_lowest_lie_there():
    for p in problems(("where", 3, "en"), range(60)):
        hues = hue_of_pixels(p.images[0])
        middle = {h: np.argwhere(hues == h).mean(0) for h in range(6) if (hues == h).sum() > 25}
        axis = 1 if "left" in p.prompt or "right" in p.prompt else 0
        pick = max if "right" in p.prompt or "lowest" in p.prompt else min
        assert pick(middle, key=lambda h: middle[h][axis]) == named(p.reference), p


def test_the_highest_bar_is_as_high_as_the_trace_says():
    for p in problems(("bars", 1, "en"), range(60)):
        values = [int(v) for v in re.findall(r"[A-C](\d)", p.trace)]
        hues = hue_of_pixels(p.images[0])[:50] >= 0  # above the ground line
        heights = [hues[:, at : at + 20].sum(0).max() for at in (2, 22, 42)]
        assert np.argsort(heights).tolist() == np.argsort(values).tolist(), (p, heights)


def test_the_fonts_hold_every_letter_that_is_asked():
    for font in canvas.FONTS:
        letters = canvas._font(font, 32)
        absent = bytes(letters.getmask("\uffff"))
        for text in SYLLABLES + "0123456789ABCDE":
            drawn = letters.getmask(text)
            assert drawn.getbbox() and bytes(drawn) != absent, (font, text)
    assert len(set(SYLLABLES)) == len(SYLLABLES) == 173 and jamo("빛") == "ㅂㅣㅊ" and jamo("화") == "ㅎㅘ"


def test_tilted_text_stays_inside_the_image():
    for p in problems(("digits", 3, "en")) + problems(("hangul", 3, "ko")):
        edge = np.concatenate([p.images[0][0], p.images[0][-1], p.images[0][:, 0], p.images[0][:, -1]])
        assert edge.min() > 120, p  # dark ink would be cut there


def test_training_and_evaluation_never_show_the_same_image():
    tasks = get_tasks(["sight"])
    held_out = eval_set(tasks, 2)
    keys = prompt_keys(held_out)
    assert len(keys) == len(held_out) > len({p.prompt for p in held_out})  # questions repeat, images do not
    assert not keys & prompt_keys(list(train_stream(tasks, 400, 0, keys)))
    again = [p for p in train_stream(tasks, 400, 0, {problem_key(next(train_stream(tasks, 1, 0)))})]
    assert problem_key(again[0]) != problem_key(next(train_stream(tasks, 1, 0)))  # a seen image is drawn anew


def test_all_means_text_and_sight_means_images():
    assert not any(task.needs_images for task in get_tasks(["all"]))
    assert [t.name for t in get_tasks(["sight"])] == list(SIGHT) and len(SIGHT) == 9
    assert len(get_tasks(["all", "sight", "digits"])) == len(TASKS)
    with pytest.raises(ConfigError, match="sight"):
        get_tasks(["sigth"])


def test_without_pillow_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    canvas.pillow.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"dokja\[vision\]"):
            TASKS["digits"].problem(1, 1, "en")
    finally:
        canvas.pillow.cache_clear()
