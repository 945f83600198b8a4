import json
import re

import pytest
import zstandard
from run_folder import full_run, reinforcement, rollout, store, write
from test_report import HOSTILE, Page

from dokja.proof.plots_tiles import Tiles, tile_chart
from dokja.proof.report import page
from dokja.proof.report_read import read_run
from dokja.proof.report_rl import curriculum
from dokja.proof.report_rl import reinforcement as section
from dokja.proof.report_training import training

CHARTS = {
    "Reward": ["reward"],
    "Accuracy in training": ["accuracy", "accuracy_think", "accuracy_direct"],
    "Accuracy by language": ["accuracy_ko", "accuracy_en"],
    "Held-out accuracy": ["eval_think", "eval_direct"],
    "Length, tokens": ["thought_tokens", "answer_tokens", "eval_thought_tokens"],
    "Entropy, nats per token": ["entropy"],
    "KL, trainer to engine": ["mismatch_kl"],
    "KL, trainer to reference": ["kl_ref"],
    "Groups that train": ["kept"],
    "Clipped tokens": ["clipped"],
    "Seconds per step": ["seconds", "rollout_seconds"],
    "Shortcuts and faults": ["forced", "wrong_mode", "wrong_language", "empty_thought", "repetition"],
}


@pytest.fixture
def run(tmp_path):
    return full_run(tmp_path / "small")


def titles(html):
    return set(re.findall(r'<figcaption><b>(?:<span class="en" lang="en">)?([^<]*)', html))


def english(html):
    """What a reader of the English page sees."""
    return Page(re.sub(r'<span class="ko" lang="ko">.*?</span>', "", html)).text


def keep(run, stage, wanted):
    """Rewrite a stage's metrics with the keys that `wanted` says yes to."""
    path = run / stage / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k == "step" or wanted(k)} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def test_every_measured_key_has_its_chart(run):
    assert titles(section(read_run(run))) >= set(CHARTS)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_is_left_out_where_its_keys_are_missing(run, chart):
    keep(run, "rl", lambda key: key not in CHARTS[chart])
    assert set(CHARTS) - titles(section(read_run(run))) == {chart}


def test_overall_accuracy_stands_in_for_the_modes(run):
    keep(run, "rl", lambda key: key == "accuracy")
    assert titles(section(read_run(run))) == {"Accuracy in training"}


def test_a_run_without_rl_has_no_such_section(tmp_path):
    (tmp_path / "bare").mkdir()
    assert section(read_run(tmp_path / "bare")) == ""


def test_the_algorithm_and_the_size_of_a_step_come_from_the_recipe(run):
    text = Page(section(read_run(run))).text
    assert "agapo_token: 6 problems a step, 4 answers to each." in text and "스텝마다 문제 6개" in text
    write(run / "recipe.json", {"rl": {"algorithm": ["odd"], "prompts": 1, "group": 2}})
    assert "problems a step" not in Page(section(read_run(run))).text


def test_faults_that_never_came_are_said_not_drawn(run):
    html = section(read_run(run))
    found = Page(html).text
    assert "never seen: wrong mode, wrong language, empty thought" in found and "한 번도 없음: 방식 어김" in found
    keep(run, "rl", lambda key: key not in ("forced", "repetition"))
    html = section(read_run(run))
    assert "never seen: wrong mode" in Page(html).text and "Shortcuts and faults" in titles(html)


def test_the_curriculum_shows_each_level_s_rates_over_time(run):
    reinforcement(run, steps=20, every=5, arms=("add/1", "add/10", "add/2", "sort/1"))
    html = curriculum(read_run(run).stage("rl"))
    assert html.count("<figure") == 2 and html.count("<rect") == 4 * 4
    levels = re.findall(r'text-anchor="end">(\d+)</text>', html)
    assert levels == ["1", "2", "10", "1"]  # by number, not by letter
    assert "from step 5 to step 20" in Page(html).text
    assert "level 1, step 20: 98\u00a0%" in html


def test_a_curriculum_of_both_modes_says_which_is_which(run):
    lines = [{"step": 5, "rate/think/add/1": 0.9, "rate/direct/add/1": 0.2}]
    write(run / "rl" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    html = curriculum(read_run(run).stage("rl"))
    assert html.count("<figure") == 2 and html.count('class="at-once"') == 1
    assert english(html).count("Thinking") == english(html).count("At once") == 1


def test_a_long_curriculum_is_thinned_to_its_first_and_last(run):
    lines = "".join(json.dumps({"step": s, "rate/think/add/1": s / 1000}) + "\n" for s in range(1, 1001))
    write(run / "rl" / "metrics.jsonl", lines)
    html = curriculum(read_run(run).stage("rl"))
    assert html.count("<rect") == 24 and "step 1:" in html and "step 1000: 100" in html


def test_tiles_tell_zero_from_nothing():
    svg = tile_chart([Tiles("1", [None, 0.0, 1.0], ["", "zero", "one"])], "x")
    assert svg.count("<rect") == 2 and 'fill-opacity="0.060"' in svg and 'fill-opacity="1.000"' in svg
    assert tile_chart([], "x") == ""


def test_stored_answers_of_the_last_step_are_shown_with_grade_and_reward(run):
    html = section(read_run(run))
    assert html.count("<article") == 8  # two modes, two languages, right and wrong
    text = english(html)
    assert "Step 30, answers stored: 24." in text
    assert "1.05 = right +1.00 · brief +0.05" in text and "−0.25 = form −0.25" in text
    store(run, [rollout(31, 0, reward=0.5, parts={}, forced=True, wrong_mode=True, detail="no number")], 31)
    text = english(section(read_run(run)))
    assert "Step 31, answers stored: 1." in text and "thought closed by force" in text and "wrong mode" in text
    assert "no number" in text and "Reward0.50" in text


def test_a_detail_that_only_repeats_the_right_answer_is_not_shown(run):
    store(run, [rollout(31, 0, detail="expected 2")], 31)
    assert "expected 2" not in Page(section(read_run(run))).text


@pytest.mark.parametrize("damage", [b"", b"no zstd", "cut", "lines"])
def test_unreadable_rollouts_are_named_and_the_rest_is_shown(run, damage):
    path = run / "rl" / "rollouts" / "step_00000030.jsonl.zst"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-20], "lines": zstandard.compress(b"{}\n{")}.get(damage, damage))
    found = Page(page(read_run(run)))
    assert "step_00000030.jsonl.zst in rl/rollouts/ could not be read" in found.text
    assert "rl" in found.sections() and "Answers of the last step" not in found.text


def test_the_report_does_not_unpack_without_end(run):
    path = run / "rl" / "rollouts" / "step_00000031.jsonl.zst"
    path.write_bytes(zstandard.compress(bytes(2**28 + 1)))
    assert "more than a report reads" in Page(page(read_run(run))).text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_rollouts_and_metrics_stay_text(run, text):
    calm = Page(page(read_run(run)))
    words = {"prompt": text, "reasoning": text, "answer": text, "reference": "42", "detail": text, "task": text}
    odd = {"level": text, "problem_id": text, "reason": text, "parts": {text: 0.5}, "score": 0.0}
    store(run, [rollout(text, 0, **words, **odd), {"mode": text, "score": text}, {"mode": "think"}], 31)
    with open(run / "rl" / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 31, f"rate/think/{text.replace('/', '')}/{text.replace('/', '')}": 0.5}) + "\n")
    found = Page(page(read_run(run)))
    shown = text.replace("\x00", "␀").replace("\x1b", "␛").replace("\u202e", "\ufffd")
    assert found.text.count(shown) >= 8 and shown.replace("/", "") in found.text
    assert {t for t, _ in found.tags} <= {t for t, _ in calm.tags}


def test_odd_types_in_rollouts_do_no_harm(run):
    odd = {"score": "high", "reward": None, "parts": [1], "prompt": None, "reasoning": 7, "answer": {}, "forced": "yes"}
    store(run, [rollout(31, 0, **odd)], 31)
    assert "Answers of the last step" in Page(section(read_run(run))).text


def test_preference_shows_how_far_better_and_worse_answers_parted(run):
    html = training(read_run(run))
    inside = html[html.index(">Preference<") :]
    assert titles(inside) >= {"Pairs in the right order", "Margin, nats per token", "Log-probability per token", "Loss"}
    assert "better answer" in inside and "Loss, nats per token" not in inside
    keep(run, "preference", lambda key: key == "loss")
    html = training(read_run(run))
    assert titles(html[html.index(">Preference<") :]) == {"Loss"}
