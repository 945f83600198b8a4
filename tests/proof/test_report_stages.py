import json
import math
import re

import pytest
from run_folder import full_run, write
from test_report import HOSTILE, Page

from dokja.proof.figures import Both, percent_tick
from dokja.proof.plots_stages import Trail, stage_chart
from dokja.proof.report import page
from dokja.proof.report_read import read_run
from dokja.proof.report_stages import stage_rows, stages


@pytest.fixture
def run(tmp_path):
    return full_run(tmp_path / "small")


def comparison(run):
    return json.loads((run / "judge" / "stages.json").read_text())


def test_the_table_holds_the_figures_of_the_file_in_the_order_of_the_road(run):
    found = Page(stages(read_run(run)))
    table = comparison(run)
    last = next(r for r in table["stages"][-1]["rows"] if (r["mode"], r["language"]) == ("think", None))
    change = last["difference"]
    for figure in (
        f"{100 * last['score']['value']:.1f}\u00a0%",
        f"{last['thought_tokens']['value']:.1f}",
        f"+{100 * change['score']['value']:.1f} [",
        f"−{-change['thought_tokens']['value']:.1f}",
        f"{change['gained']} gained, {change['lost']} lost",
    ):
        assert figure in found.text, figure
    rows = re.findall(r"<tr>(.*?)</tr>", stages(read_run(run)))[1:]
    assert ["SFT" in r for r in rows] == [True, False, False] * 2 and ["RL" in r for r in rows] == [
        False,
        False,
        True,
    ] * 2


def test_each_stage_is_drawn_for_each_language_and_named_in_both(run):
    html = stages(read_run(run))
    assert html.count("<figure") == 3
    assert html.count("<circle") == 3 * 3 * 2  # charts, stages, languages
    for code in ("en", "ko"):  # of three names only one differs
        assert html.count(f'class="tick {code}" lang="{code}"') == 3


def test_the_section_stands_near_the_top_and_is_left_out_with_one_stage(run):
    assert Page(page(read_run(run))).sections()[0] == "stages"
    table = comparison(run)
    write(run / "judge" / "stages.json", {**table, "stages": table["stages"][:1]})
    assert stages(read_run(run)) == ""
    (run / "judge" / "stages.json").unlink()
    assert stages(read_run(run)) == ""


@pytest.mark.parametrize("damage", ['{"stages": 3}', '{"stages": [1, {"rows": [{}]}]}', "[]", "{", '{"stages": null}'])
def test_a_damaged_table_is_left_out(run, damage):
    write(run / "judge" / "stages.json", damage)
    assert stages(read_run(run)) == "" and "stages" not in Page(page(read_run(run))).sections()


def test_rows_without_whole_figures_are_left_out(run):
    table = comparison(run)
    table["stages"][0]["rows"][0]["score"] = {"value": math.nan, "low": 0, "high": 1}
    table["stages"][1]["rows"][0]["difference"] = "much"
    table["stages"][1]["rows"][1]["mode"] = "sideways"
    before = len(stage_rows(read_run(run)))
    write(run / "judge" / "stages.json", table)
    rows = stage_rows(read_run(run))
    assert len(rows) == before - 2
    assert next(r for r in rows if (r.stage, r.mode, r.language) == ("preference", "think", None)).change is None


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_of_a_stage_stays_text(run, text):
    table = comparison(run)
    calm = Page(page(read_run(run)))
    table["stages"][1]["stage"] = text
    write(run / "judge" / "stages.json", table)
    html = page(read_run(run))
    found = Page(html)
    shown = text.replace("\x00", "␀").replace("\x1b", "␛").replace("\u202e", "\ufffd")
    assert found.text.count(shown) >= 5
    assert {t for t, _ in found.tags} <= {t for t, _ in calm.tags}


def test_the_chart_spans_its_intervals_and_leaves_out_what_was_not_measured():
    trails = [Trail([(0.5, 0.4, 0.6), None, (0.9, 0.8, 1.0)], "c1", "ko")]
    svg = stage_chart(trails, [Both.same("a"), Both("b", "나"), Both.same("c")], "x", percent_tick, height=136)
    assert svg.count("<circle") == 2 and svg.count('class="trail') == 1
    assert 'y1="114.0" y2="80.7"' in svg and 'y1="47.3" y2="14.0"' in svg  # 100 pixels from 40 % to 100 %
    assert stage_chart([Trail([None], "c1", "ko")], [Both.same("a")], "x", percent_tick) == ""
