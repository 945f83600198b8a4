"""A whole road of a model that sees, a few seconds long: what it was shown is written down, hashed and shown."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from dokja.data.shards import ShardSet
from dokja.errors import ConfigError, DataError
from dokja.judge.records import read_records
from dokja.road import build
from dokja.road import problems as road_problems
from dokja.road.problems import question
from dokja.tasks.registry import TASKS
from dokja.tasks.splits import image_sha256
from dokja.text.chat import IMAGE, SPECIALS

RECIPE = """
name = "seeing"
scale = 1
threads = 1
tokenizer = { vocab = 400, sample_mb = 0.05 }
corpus.sources = [
  { kind = "tasks", name = "sight", problems = 60, tasks = ["where", "digits"] },
  { kind = "tasks", name = "words", problems = 60, tasks = ["addsub"] },
]
judge = { tasks = ["where", "addsub"], per_cell = 1, max_tokens = 16, budget = 8, batch = 32 }

[model]
width = 32
head_dim = 16
ffn = 48
layers = 2
pattern = "LG"
context = 160
window = 64

[model.vision]
layers = 1
width = 16
heads = 2
kv_heads = 1
ffn = 16
full = [0]
patch = 16
temporal_patch = 1
window = 64

[pretrain]
tokens = 1_280
batch_tokens = 640
seq_len = 160
compile = false

[sft]
tokens = 2_560
batch_tokens = 640
seq_len = 160
history_share = 0.5
compile = false
"""


def write(folder, text=RECIPE):
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    return build(write(folder), runs=folder / "runs", say=lambda sentence: None)


def test_conversations_keep_their_images_beside_as_many_places(run):
    shards = ShardSet.open(run / "shards" / "sft" / "sight")
    place = SPECIALS.index(IMAGE)
    counts = [len(shards.images(n)) for n in range(shards.documents)]
    assert set(counts) == {1, 2, 3} and sum(counts) == shards.index["images"]  # earlier exchanges show theirs, too
    for n in range(shards.documents):
        assert (shards.document(n) == place).sum() == 4 * counts[n]  # 64 x 64 pixels in tokens of 32 x 32
        assert not shards.loss(n)[shards.document(n) == place].any()
    assert not ShardSet.open(run / "shards" / "sft" / "words").has_images


def test_questions_about_images_are_no_texts_to_pretrain_on(run):
    assert [p.name for p in sorted((run / "shards" / "pretrain").iterdir())] == ["words"]


def test_only_stages_that_see_train_the_tower(run):
    from dokja.model.families import load_model

    before, after = (load_model(run / stage / "weights").vision for stage in ("pretrain", "sft"))
    same = {n: bool((p == after.get_parameter(n)).all()) for n, p in before.named_parameters()}
    assert not all(same.values()) and not same["patch_weight"]
    untouched = before.get_parameter("merger_up_bias")
    assert not untouched.any()  # as it was initialised: pretraining on words left it alone


def test_records_name_what_was_shown(run):
    records = read_records(run / "judge")
    assert {r.task: bool(r.images) for r in records} == {"where": True, "addsub": False}
    for r in records:
        shown = TASKS[r.task].problem(int(r.problem_id.rsplit("/", 1)[1]), r.level, r.language).images
        assert r.images == tuple(map(image_sha256, shown))
    assert len({r.prompt_sha256 for r in records if r.images}) == len([r for r in records if r.images])


def test_the_report_shows_the_images_themselves_and_nothing_from_elsewhere(run):
    page = (run / "report.html").read_text()
    assert "img-src data:" in page
    sources = re.findall(r'<img [^>]*src="([^"]*)"', page)
    shown = {h for r in read_records(run / "judge") for h in r.images}
    assert sources and all(s.startswith("data:image/png;base64,") for s in sources)
    for source in sources:
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
        assert image_sha256(pixels) in shown


def test_costs_count_the_tower(run):
    costs = {s: json.loads((run / s / "manifest.json").read_text())["cost"] for s in ("pretrain", "sft")}
    per_token = {s: c["flops_6nd"] / c["tokens"] for s, c in costs.items()}
    assert per_token["sft"] > 1.05 * per_token["pretrain"]


def test_a_corpus_whose_images_come_out_otherwise_is_refused(monkeypatch):
    problem = TASKS["where"].problem(3, 1, "en")
    row = road_problems.row_of(problem)
    assert question(row) == problem.messages[0]
    with pytest.raises(DataError, match="come out otherwise"):
        question({**row, "images": ["0" * 64]})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (RECIPE[RECIPE.index("[model.vision]") : RECIPE.index("[pretrain]")], "", r"Add \[model.vision\]"),
        ("[pretrain]", "[rl]\nsteps = 1\n\n[pretrain]", "cannot ask"),
    ],
)
def test_what_cannot_see_is_not_asked(tmp_path, old, new, sentence):
    assert old in RECIPE
    with pytest.raises(ConfigError, match=sentence):
        build(write(tmp_path, RECIPE.replace(old, new)), runs=tmp_path / "runs", say=lambda s: None)
