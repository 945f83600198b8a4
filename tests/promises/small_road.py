"""A road short enough to be walked many times: two layers, a few dozen steps, everything else as in the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dokja.ledger.metrics import TIMING_KEYS, read_metrics

RECIPE = """
name = "small"
scale = 2
threads = 1
model = { width = 64, head_dim = 16, heads = 4, kv_heads = 2, ffn = 128, context = 128, window = 32 }
tokenizer = { vocab = 400, sample_mb = 0.2 }
corpus.sources = [{ kind = "tasks", name = "tasks", problems = 1500, tasks = ["addsub", "bits", "sum"] }]
judge = { tasks = ["addsub", "bits", "sum"], per_cell = 1, max_tokens = 48, budget = 40, batch = 16 }

[pretrain]
tokens = 30_720
batch_tokens = 1024
seq_len = 128
checkpoint_every = 3
ema = 0.9
compile = false

[sft]
tokens = 24_576
batch_tokens = 1024
seq_len = 128
checkpoint_every = 3
compile = false

[preference]  # so short a training answers nothing right: groups by reward, which the format term tells apart
objective = "grouper"
prompts = 96
samples = 4
batch_pairs = 8
max_tokens = 24
budget = 16
checkpoint_every = 3
compile = false

[rl]
drop = "all"
steps = 20
prompts = 6
group = 4
max_tokens = 24
budget = 16
checkpoint_every = 3
eval_every = 10
eval_per_cell = 1
compile = false
"""


def write_recipe(folder: Path, **changes: str) -> Path:
    """recipe.toml in `folder`, with texts of it replaced."""
    text = RECIPE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def command(recipe: Path, runs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "dokja", "build", str(recipe), "--runs", str(runs), *more]


def start(recipe: Path, runs: Path, *more: str) -> subprocess.Popen[str]:
    """The build in a process of its own."""
    return subprocess.Popen(
        command(recipe, runs, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def build(recipe: Path, runs: Path, *more: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    process = start(recipe, runs, *more)
    text, _ = process.communicate(timeout=300)
    return process.returncode, text


def stage_result(run: Path, stage: str) -> dict[str, Any]:
    """All that must not depend on how often a run was killed: final tensors bit for bit, and metrics without times."""
    newest = sorted((run / stage / "checkpoints").glob("step_*"))[-1]
    files = [*sorted(newest.glob("*.safetensors")), run / stage / "weights" / "model.safetensors"]
    metrics = read_metrics(run / stage / "metrics.jsonl")
    rows = [{k: v for k, v in row.items() if k not in TIMING_KEYS} for row in metrics]
    rollouts = {f.name: f.read_bytes() for f in sorted((run / stage).rglob("*.jsonl.zst"))}
    return {**{f.name + str(i): f.read_bytes() for i, f in enumerate(files)}, **rollouts, "metrics": rows}


def ledger(run: Path) -> list[dict[str, Any]]:
    """The ledger's entries without clock times and what hangs on them."""
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "prev", "hash")} for line in lines]
