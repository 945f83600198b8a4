"""Promises 2 and 3: what is wrong is named in one sentence, and nothing is lost."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest
import small_road as small


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and its runs folder, built up to pretraining."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = small.write_recipe(folder)
    code, text = small.build(recipe, folder / "runs", "--stage", "pretrain")
    assert code == 0, text
    return recipe, folder / "runs"


@pytest.fixture
def copy(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, to be damaged."""
    recipe, runs = trained
    shutil.copytree(runs, tmp_path / "runs")
    return recipe, tmp_path / "runs"


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def complains(recipe: Path, runs: Path, *more: str) -> str:
    """The one sentence (or two) that a refused build ends with; it must not be a traceback."""
    code, text = small.build(recipe, runs, *more)
    assert code == 2, text
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


def test_unknown_key_is_refused_with_the_nearest_name(trained: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, _ = trained
    said = complains(recipe, tmp_path, "--set", "pretrain.tokns=5")
    assert "tokns" in said and "tokens" in said
    assert not (tmp_path / "small").exists()


def test_missing_corpus_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, _ = trained
    place = tmp_path / "nowhere"
    source = f'corpus.sources=[{{kind = "text", name = "mine", path = "{place}"}}]'
    answers = ("--set", "preference=none", "--set", "rl=none")  # which need problems
    said = complains(recipe, tmp_path, "--set", source, *answers)
    assert str(place) in said


def test_changed_shard_is_named(copy: tuple[Path, Path]) -> None:
    recipe, runs = copy
    shard = runs / "small" / "shards" / "sft" / "tasks" / "tokens-000.bin"
    flip(shard)
    said = complains(recipe, runs, "--stage", "sft")
    assert str(shard) in said and "altered" in said
    assert not (runs / "small" / "sft" / "checkpoints").exists()


def test_changed_recipe_is_refused_and_rebuilt_when_asked(copy: tuple[Path, Path]) -> None:
    recipe, runs = copy
    change = ("--set", "pretrain.lr_matrix=0.001", "--stage", "pretrain")
    said = complains(recipe, runs, *change)
    assert "--rebuild" in said
    weights = runs / "small" / "pretrain" / "weights" / "model.safetensors"
    before = weights.read_bytes()
    code, text = small.build(recipe, runs, *change, "--rebuild")
    assert code == 0, text
    assert weights.read_bytes() != before


def test_damaged_checkpoint_falls_back_and_ends_the_same(trained: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, runs = trained
    again = tmp_path / "runs"
    process = small.start(recipe, again, "--stage", "pretrain")
    folder = again / "small" / "pretrain" / "checkpoints"
    while process.poll() is None and len(list(folder.glob("step_*[0-9]"))) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    newest = sorted(folder.glob("step_*[0-9]"))[-1]
    flip(newest / "model.safetensors")
    code, text = small.build(recipe, again, "--stage", "pretrain")
    assert code == 0, text
    assert "was cut or altered" in text and "Falling back" in text
    assert small.stage_result(again / "small", "pretrain") == small.stage_result(runs / "small", "pretrain")


def test_second_build_of_a_running_folder_is_refused(copy: tuple[Path, Path]) -> None:
    recipe, runs = copy
    first = small.start(recipe, runs, "--stage", "sft")
    while first.poll() is None and not (runs / "small" / "sft" / "metrics.jsonl").exists():
        time.sleep(0.01)
    said = complains(recipe, runs, "--stage", "sft")
    assert f"process {first.pid}" in said
    text, _ = first.communicate(timeout=120)
    assert first.returncode == 0, text
