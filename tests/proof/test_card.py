import json
import re
import shutil

import pytest
from run_folder import answer, full_run, judge, write

from dokja.proof.card import model_card
from dokja.proof.report_read import read_run


@pytest.fixture
def run(tmp_path):
    return full_run(tmp_path / "small")


def front_matter(card):
    head, rest = card.removeprefix("---\n").split("---\n", 1)
    return {line.split(": ", 1)[0]: json.loads(line.split(": ", 1)[1]) for line in head.splitlines()}, rest


def test_front_matter_says_what_hubs_need(run):
    fields, rest = front_matter(model_card(read_run(run)))
    assert fields["license"] == "apache-2.0" and fields["language"] == ["ko", "en"]
    assert fields["pipeline_tag"] == "text-generation" and fields["library_name"] == "transformers"
    assert rest.startswith("\n# small-release\n")


def test_front_matter_cannot_be_broken_out_of(run):
    write(run / "recipe.json", {"release": {"licence": 'MIT"\n---\nevil: [1]', "name": "a\n---\n<script>"}})
    fields, rest = front_matter(model_card(read_run(run)))
    assert fields["license"] == 'mit"\n---\nevil: [1]' and "evil" not in fields
    assert "<script>" not in re.sub(r"\\<", "", rest)


def test_card_holds_the_measured_figures_in_both_languages(run):
    card = model_card(read_run(run))
    english, korean = card.split("## 한국어")
    assert "Korean, Thinking" in english and "Built by Kim" in english
    assert "한국어, 생각하고 답하기" in korean and "만든 사람: Kim" in korean
    for figure in ("75.0\u00a0%", "+50.0", "0 / 32", "3,000", "| 1.400 | 1.900 | 2.300 |", "1.2 × 10¹¹", "1.5 GB"):
        assert figure in english and figure in korean, figure
    assert "add (75\u00a0%)" in english


def test_card_tells_what_followed_pretraining_and_what_each_stage_changed(run):
    english, korean = model_card(read_run(run)).split("## 한국어")
    for figure in ("| 53.1\u00a0% (", "+21.9 (", "−4.0 (", "simper", "agapo_token", "75.0\u00a0% ("):
        assert (figure in english) == (figure in korean), figure
    assert "| SFT, Thinking | " in english and "| SFT, 생각하고 답하기 | " in korean
    assert "Reinforcement learning (agapo_token): 30 steps" in english and "강화 학습(agapo_token): 30스텝" in korean
    assert english.count("| RL, ") == english.count("| Preference, ") == korean.count("| 선호, ") == 2


def test_a_run_without_preference_and_rl_does_not_speak_of_them(run):
    for name in ("preference", "rl"):
        shutil.rmtree(run / name)
    (run / "judge" / "stages.json").unlink()
    card = model_card(read_run(run))
    assert "By stage" not in card and "단계별" not in card and "Reinforcement" not in card and "simper" not in card


def test_tables_keep_their_columns_whatever_names_hold(run):
    judge(run, [answer(99, task="a|b\nc `d` <e> [f](g)")])
    card = model_card(read_run(run))
    for block in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert "a\\|b c \\`d\\` \\<e\\> \\[f\\](g)" in card


def test_what_was_not_measured_is_not_mentioned(tmp_path):
    (tmp_path / "bare").mkdir()
    card = model_card(read_run(tmp_path / "bare"))
    assert "### Results" not in card and "### Cost" not in card and "### 비용" not in card
    assert "### Use" in card and "None" not in card and "nan" not in card


def test_python_of_the_card_compiles(run):
    found = re.findall(r"```python\n(.*?)```", model_card(read_run(run)), re.DOTALL)
    assert len(found) == 2
    for code in found:
        compile(code, "card", "exec")
