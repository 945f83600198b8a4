import re

import pytest
from test_compare import answers
from test_report import HOSTILE, Page

from dokja.judge.compare import Side, compare_sides
from dokja.judge.published import matching, published
from dokja.judge.records import Usage
from dokja.proof.compare_page import page, write_comparison
from dokja.proof.plots_bars import Bar, bar_track, difference_track
from dokja.proof.plots_scatter import Spot, scatter
from dokja.proof.scores_page import page as scores_page
from dokja.proof.scores_page import write_scores


@pytest.fixture
def comparison(tmp_path):
    sides = []
    for name, k, tokens in (("small", 8, 100), ("large", 14, 300)):
        usage = {"usage": Usage(10, tokens, 5), "model_sha256": name}
        records = [
            *answers([[1.0]] * k + [[0.0]] * (20 - k), **usage),
            *answers([[1.0]] * 3 + [[0.0]] * 7, "sort", language="en", **usage),
            *answers([[1.0]] * 2 + [[0.0]] * 18, mode="direct", **usage),
        ]
        sides.append(Side(name, tmp_path / name, records, {"parameters": tokens * 1e6}))
    return compare_sides(sides)


def test_page_is_well_formed_and_shows_both_languages(comparison):
    found = Page(page(comparison))
    assert found.sections() == ["bars", "spent"]
    for words in (
        "small · large",
        "56.7\u00a0%",
        "+20.0",
        "20 problems × 1",
        "문제 20개 × 1회",
        "not told apart",
        "구별되지 않음",
    ):
        assert words in found.text, words
    korean = [words for opened, words in found.words if words.strip() and re.search("[가-힣]", words)]
    assert len(korean) > 30 and 'lang="ko"' in page(comparison, "ko").split("<head>")[0]


def test_every_row_has_a_bar_per_model_and_a_difference(comparison):
    html = page(comparison)
    shown = [r for r in comparison.rows if r.kind != "task" or r.mode == "think"]
    assert html.count('class="rod"') == 2 * len(shown)
    assert html.count('class="nothing"') == len(shown)


def test_pages_load_nothing_and_run_nothing(comparison):
    for html in (page(comparison), scores_page(published().tables)):
        found = Page(html)
        assert not {"script", "link", "img", "iframe", "form"} & {tag for tag, _ in found.tags}
        assert not re.search(r"https?:|url\(|@import", html)
        assert not [
            name for _, attrs in found.tags for name in attrs if name.startswith("on") or name in ("src", "href")
        ]
        policy = next(a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv"))
        assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(comparison, tmp_path, text):
    calm = {tag for tag, _ in Page(page(comparison)).tags}
    records = answers([[1.0]] * 3, text), answers([[0.0]] * 3, text)
    found = Page(page(compare_sides([Side(text, tmp_path / n, r) for n, r in zip("ab", records, strict=True)])))
    assert {tag for tag, _ in found.tags} <= calm | {"aside", "ul", "li"}


def test_two_sizes_make_a_chart_and_one_makes_none(comparison, tmp_path):
    assert "Parameters" in Page(page(comparison)).text
    alone = [Side(n, tmp_path / n, answers([[1.0]] * 4), {"parameters": 5e6}) for n in "ab"]
    assert "spent" not in Page(page(compare_sides(alone))).sections()


def test_page_is_written_where_asked(comparison, tmp_path):
    assert write_comparison(comparison, tmp_path / "x").name == "compare.html"
    assert write_comparison(comparison, tmp_path / "y.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert write_scores(published().tables, tmp_path).name == "scores.html"


def test_bars_end_where_their_values_are():
    svg = bar_track([Bar(0.25, 0.1, 0.4, "t", "a"), Bar(1.2, 0.9, 1.3, "d", "b")], "x")
    assert re.findall(r'class="rod" x="0" y="\d+" width="([\d.]+)%"', svg) == ["25.00", "100.00"]
    assert 'x1="10.00%" x2="40.00%"' in svg
    around = difference_track([Bar(0.0, -0.1, 0.1, "d", "a"), Bar(0.2, 0.0, 0.4, "d", "b")], 0.2, "x")
    assert re.findall(r'cx="([\d.]+)%"', around) == ["50.00", "98.00"]


def spots(*places):
    return [Spot(x, y, y, y, "t", f"model {n}") for n, (x, y) in enumerate(places)]


def test_scatter_is_logarithmic_and_needs_two_places():
    assert scatter(spots((1e9, 0.5), (1e9, 0.6)), "x", str, str, 200) == ""
    svg = scatter(spots((1e9, 0.5), (1e10, 0.6), (1e11, 0.7)), "x", str, str, 200)
    a, b, c = (float(v) for v in re.findall(r'cx="([\d.]+)%"', svg))
    assert b - a == pytest.approx(c - b, abs=0.02) and a > 3 and c < 97


def test_a_narrow_span_still_has_an_axis():
    svg = scatter(spots((3.2e6, 0.5), (4.1e6, 0.6)), "x", lambda v: f"{v / 1e6:g}M", str, 200)
    assert re.search(r">\d(\.\d)?M<", svg)


def test_names_beside_spots_do_not_cover_each_other():
    close = spots((1e9, 0.5), (1.01e9, 0.502), (1.02e9, 0.498), (1.5e10, 0.5), (1.52e10, 0.501))
    svg = scatter(close, "x", str, str, 300, 800)
    found = re.findall(r'<text class="tick t" x="([\d.]+)%" y="([\d.]+)" dx="(-?\d+)" text-anchor="(\w+)"', svg)
    assert len(found) == 5
    boxes = []
    for x, y, dx, anchor in found:
        start = float(x) * 8 + float(dx) - (6 * 7 if anchor == "end" else 0)
        boxes.append((start, start + 6 * 7, float(y)))
    for n, (a, b, y) in enumerate(boxes):
        assert not [1 for c, d, z in boxes[:n] if a < d and c < b and abs(y - z) < 11]


def test_published_page_shows_every_number_and_who_measured_it():
    html = scores_page(published().tables)
    found = Page(html)
    sections = [t.id for t in published().tables]
    assert found.sections() == ["claims", "sizes", *sections, "figures"]
    assert html.count('title="LG AI Research, own model"') + html.count('who ran it is not said"') == 942
    assert "52.7†" in found.text and found.text.count("†") == 3  # the number, and the note in two languages
    assert "75.4 is the score on GPQA-Diamond" in found.text and "출처 없음" in found.text


def test_a_search_shows_its_tables_only():
    found = Page(scores_page(matching("KoBALT")))
    assert found.sections() == ["k-exaone", "exaone-4.5-text"] and "61.8" in found.text and "MMLU-Pro" not in found.text
