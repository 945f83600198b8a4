import math
import re
import string

import pytest

from dokja.proof.figures import Both, count, duration, interval, percent, points, power, short, size
from dokja.proof.plots import Mark, Series, interval_track, line_chart, nice_ticks, smooth, thin
from dokja.proof.report_html import both, text
from dokja.proof.strings import keys, say


@pytest.mark.parametrize(
    ("n", "en", "ko"),
    [
        (0, "0", "0"),
        (999, "999", "999"),
        (9_999, "9,999", "9,999"),
        (12_345, "12.3 k", "1.23만"),
        (12_345_678, "12.3 M", "1,235만"),
        (3_000_000_000, "3 B", "30억"),
        (2.5e12, "2.5 T", "2.5조"),
        (None, "–", "–"),
        (math.nan, "–", "–"),
    ],
)
def test_counts_are_read_in_each_language_s_own_units(n, en, ko):
    assert count(n) == Both(en, ko)


def test_times_sizes_and_powers_read_as_people_write_them():
    assert duration(760).en == "12 min 40 s" and duration(760).ko == "12분 40초"
    assert duration(59.9).en == "1 min 00 s" and duration(3.14).en == "3.1 s" and duration(7265).ko == "2시간 01분"
    assert size(1_200_000_000).en == "1.2 GB" and size(512).en == "512 B"
    assert (power(3.14e13), power(9.99e9), power(0), power(None)) == ("3.1 × 10¹³", "1.0 × 10¹⁰", "0", "–")
    assert short(1e-5) == "1.0 × 10⁻⁵" and short(12_345) == "12,345" and short(-0.25) == "−0.25"


def test_shares_keep_their_sign_and_never_show_minus_zero():
    assert percent(0.975) == "97.5\u00a0%" and percent(math.nan) == "–" and interval(0.921, 0.99) == "[92.1,\u00a099.0]"
    assert [points(v) for v in (0.41, -0.008, -0.0001, 0.0001)] == ["+41.0", "−0.8", "0.0", "0.0"]


def test_every_sentence_exists_in_both_languages_with_the_same_places():
    def places(sentence):
        return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}

    for key, (en, ko) in keys().items():
        assert places(en) == places(ko), key
        assert en.strip() and ko.strip(), key
        if (
            re.search("[a-z]{3}", en)
            and len(en) > 12
            and key not in ("pass1_note", "card_column", "stages_pass1", "card_stage_row")
        ):
            assert re.search("[가-힣]", ko), key


def test_sentences_fill_each_language_with_its_own_words():
    assert say("lede_time", t=Both("1 min", "1분")) == Both(" in 1 min", " 1분 만에")
    assert both(Both("<b>", "나")) == '<span class="en" lang="en">&lt;b&gt;</span><span class="ko" lang="ko">나</span>'
    assert both(Both.same("same")) == "same"


def test_text_shows_what_cannot_be_seen():
    assert text("a\x00b\x1b\u202e<\n") == "a␀b␛\ufffd&lt;\n"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7.3), (-3, 2), (1e-6, 3e-6), (99.9, 100), (5, 123456)])
def test_ticks_are_few_round_and_span_the_range(low, high):
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 8 and ticks[0] <= low + 1e-9 * step and ticks[-1] >= high - 1e-9 * step
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5)
    assert nice_ticks(4, 4) == [4]


def test_smoothing_keeps_straight_lines_straight_and_does_not_lag():
    line = [(float(x), 3.0 * x) for x in range(200)]
    assert [y for _, y in smooth(line, 0.1)] == pytest.approx([y for _, y in line])
    assert smooth([(0, 1.0)]) == [(0, 1.0)] and smooth([]) == []


def test_thinning_keeps_the_ends_and_the_extremes():
    points_ = [(float(x), math.sin(x)) for x in range(10_000)]
    points_[5000] = (5000.0, 99.0)
    plain, spread = thin(points_, 100), thin(points_, 100, spread=True)
    assert len(plain) <= 101 and plain[0] == points_[0] and plain[-1] == points_[-1]
    assert len(spread) <= 100 and max(y for _, y in spread) == 99.0
    assert thin(points_[:50], 100) == points_[:50]


def test_charts_draw_inside_their_box_and_survive_odd_numbers():
    points_ = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, 2.0)]
    svg = line_chart([Series(points_, "c1"), Series(points_, "c2", "dots", "<held & out>")], 'a "label"')
    assert "nan" not in svg and "inf" not in svg and svg.count("<circle") == 2 and "&lt;held &amp; out&gt;" in svg
    spots = re.findall(r"[ML]([\d.]+) ([\d.]+)", svg)
    assert spots and all(0 <= float(v) <= 1000 for pair in spots for v in pair)
    assert line_chart([Series([(0.0, math.nan)], "c1")], "x") == line_chart([], "x") == ""
    assert "<path" in line_chart([Series([(1.0, 1.0)], "c1")], "x")


def test_tracks_place_marks_by_share_and_stay_inside():
    svg = interval_track([Mark(0.5, 0.25, 1.2, "t", "t"), Mark(0.0, -1.0, 0.1, "d", "d", hollow=True)], "x")
    assert 'cx="50.00%"' in svg and 'x1="26.00%"' in svg and 'x2="98.00%"' in svg and 'cx="2.00%"' in svg
    assert svg.count("<circle") == 2 and 'class="hollow"' in svg
