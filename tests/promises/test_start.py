"""A road that starts from a checkpoint: from our own release, fully and by pairs; killed, resumed, tampered with."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
import small_road as small
from safetensors.torch import load_file

RECIPE = """
name = "later"
init = "{init}"
threads = 1
corpus.sources = [{{ kind = "tasks", name = "tasks", problems = 800, tasks = ["addsub", "bits", "sum"] }}]
judge = {{ tasks = ["addsub", "bits", "sum"], per_cell = 1, max_tokens = 48, budget = 40, batch = 16 }}

[sft]
tokens = 16_384
batch_tokens = 1024
checkpoint_every = 3
compile = false
"""
LORA = "\n[lora]\nrank = 4\nlr = 0.002\n"
RL = """
[rl]
drop = "all"
steps = 4
prompts = 6
group = 4
max_tokens = 24
budget = 16
checkpoint_every = 2
eval_every = 4
eval_per_cell = 1
compile = false
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release of a small run (pretraining and SFT)."""
    folder = tmp_path_factory.mktemp("first")
    recipe = small.write_recipe(folder)
    code, text = small.build(recipe, folder / "runs", "--set", "preference=none", "--set", "rl=none")
    assert code == 0, text
    return folder / "runs" / "small" / "release"


def write(folder: Path, init: Path, more: str = "") -> Path:
    path = folder / "later.toml"
    path.write_text(RECIPE.format(init=init) + more)
    return path


def test_a_road_from_a_release_carries_its_inputs_and_licence(release: Path, tmp_path: Path) -> None:
    recipe = write(tmp_path, release)
    code, text = small.build(recipe, tmp_path / "runs")
    assert code == 0 and "starting from" in text and "Apache License 2.0" in text, text
    run = tmp_path / "runs" / "later"
    inputs = json.loads((run / "sft" / "manifest.json").read_text())["inputs"]
    assert inputs["init/licence"] == "Apache-2.0" and len(inputs["init/model.safetensors"]) == 64
    assert (run / "tokenizer" / "tokenizer.json").read_bytes() == (release / "tokenizer.json").read_bytes()
    first = json.loads((run / "sft" / "metrics.jsonl").read_text().splitlines()[0])
    before = [json.loads(line) for line in (release.parent / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert first["loss"] < before[len(before) // 2]["loss"]  # it goes on from what the release had learned
    card = (run / "release" / "README.md").read_text()
    assert "Built from release, which lies under Apache License 2.0." in card and "trained-from-scratch" not in card


@pytest.mark.parametrize("more", ["", LORA], ids=["full", "lora"])
def test_killed_and_resumed_it_ends_the_same(more: str, release: Path, tmp_path: Path) -> None:
    recipe = write(tmp_path, release, more)
    code, text = small.build(recipe, tmp_path / "straight", "--stage", "sft")
    assert code == 0, text
    rng = random.Random(len(more))
    runs, metrics = tmp_path / "runs", tmp_path / "runs" / "later" / "sft" / "metrics.jsonl"
    for _ in range(2):
        process = small.start(recipe, runs, "--stage", "sft")
        seen, wait = metrics.stat().st_size if metrics.exists() else 0, rng.randint(1, 4) * 100
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > seen + wait):
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, text = small.build(recipe, runs, "--stage", "sft")
    assert code == 0, text
    assert small.stage_result(runs / "later", "sft") == small.stage_result(tmp_path / "straight" / "later", "sft")


def test_pairs_are_all_that_a_checkpoint_keeps_and_rl_learns_by_them(release: Path, tmp_path: Path) -> None:
    recipe = write(tmp_path, release, LORA + RL)
    code, text = small.build(recipe, tmp_path / "runs", "--stage", "rl", "--set", "sft=none")
    assert code == 0, text
    stage = tmp_path / "runs" / "later" / "rl"
    newest = sorted((stage / "checkpoints").glob("step_*"))[-1]
    assert all(".lora." in name for name in load_file(newest / "model.safetensors"))
    assert not any("lora" in name for name in load_file(stage / "weights" / "model.safetensors"))
    base = json.loads((stage / "adapter" / "base.json").read_text())
    inputs = json.loads((stage / "manifest.json").read_text())["inputs"]
    assert base["sha256"] == inputs["init/model.safetensors"]


def test_a_tampered_checkpoint_is_refused(release: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for file in release.iterdir():
        (mine / file.name).write_bytes(file.read_bytes())
    recipe = write(tmp_path, mine)
    code, text = small.build(recipe, tmp_path / "runs", "--stage", "sft")
    assert code == 0, text
    data = bytearray((mine / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (mine / "model.safetensors").write_bytes(data)
    code, text = small.build(recipe, tmp_path / "runs", "--stage", "sft")
    assert code != 0 and "another recipe, input" in text and "--rebuild" in text, text
