"""Promise 1: killed at any moment and started again with the same command, a run ends bit for bit the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import small_road as small


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and the run of it that nobody disturbed, all stages that learn."""
    folder = tmp_path_factory.mktemp("straight")
    recipe = small.write_recipe(folder)
    code, text = small.build(recipe, folder / "runs", "--stage", "rl")
    assert code == 0, text
    return recipe, folder / "runs" / "small"


def kill_during(recipe: Path, runs: Path, stage: str, during_save: bool, steps: int, rng: random.Random) -> str:
    """Starts the build and SIGKILLs it inside `stage`: in the middle of a save, or after a random number of new steps.

    Returns "saving", "training" or "finished" (the stage was over before the moment came).
    """
    process = small.start(recipe, runs, "--stage", stage)
    folder = runs / "small" / stage
    metrics, manifest = folder / "metrics.jsonl", folder / "manifest.json"
    seen = metrics.stat().st_size if metrics.exists() else 0
    wait = rng.randint(1, steps) * 100  # a metrics line is a little over 100 bytes
    moment = "finished"
    while process.poll() is None:
        if during_save and any((folder / "checkpoints").glob("*.partial")):
            moment = "saving"
            break
        if not during_save and metrics.exists() and metrics.stat().st_size > seen + wait and not manifest.exists():
            time.sleep(rng.random() * 0.02)
            moment = "training"
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = list((folder / "checkpoints").glob("*.partial"))
    return moment if moment != "saving" or left else "between"


BEFORE = {"pretrain": "shards", "sft": "pretrain", "preference": "sft", "rl": "preference"}


@pytest.mark.parametrize("stage", BEFORE)
def test_ten_kills_change_nothing(stage: str, straight: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, reference = straight
    rng = random.Random(stage)
    runs = tmp_path / "runs"
    shutil.copytree(reference, runs / "small")  # the stages before this one were walked by nobody else
    for later in list(BEFORE)[list(BEFORE).index(stage) :]:
        shutil.rmtree(runs / "small" / later)
    trim_ledger(runs / "small", stage)
    moments = [kill_during(recipe, runs, stage, i % 2 == 0, 4, rng) for i in range(10)]
    assert moments.count("saving") >= 1, moments
    assert moments.count("training") >= 2, moments
    code, text = small.build(recipe, runs, "--stage", stage)
    assert code == 0, text
    run = runs / "small"
    assert small.stage_result(run, stage) == small.stage_result(reference, stage)
    mine = small.ledger(run)
    assert mine == small.ledger(reference)[: len(mine)] and mine[-1]["stage"] == stage


def trim_ledger(run: Path, stage: str) -> None:
    """The ledger as it was before `stage` began."""
    lines = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if json.loads(line).get("stage") == stage)
    (run / "ledger.jsonl").write_text("".join(lines[:first]))


def test_sigterm_saves_at_once_and_the_same_command_goes_on(straight: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, reference = straight
    runs = tmp_path / "runs"
    process = small.start(recipe, runs, "--stage", "pretrain", "--set", "pretrain.checkpoint_every=1000")
    metrics = runs / "small" / "pretrain" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "run the same command to go on" in text, text
    assert list((runs / "small" / "pretrain" / "checkpoints").glob("step_*")), "no checkpoint was written"
    code, text = small.build(recipe, runs, "--stage", "pretrain", "--set", "pretrain.checkpoint_every=1000")
    assert code == 0 and "resuming at step" in text, text
    weights = "pretrain/weights/model.safetensors"
    assert (runs / "small" / weights).read_bytes() == (reference / weights).read_bytes()
