"""RL algorithms from the same starting weights at equal time.

    python bench/rl_algorithms.py RUN [--algorithms grpo,dapo,agapo_token] [--variants NAME:key=value,key=value ...]
        [--recipe recipes/tiny.toml] [--seeds 3] [--seconds 150] [--jobs 2] [--out FOLDER] [--set rl.x=y ...]

RUN is a run folder of `dokja build` with a finished tokenizer and sft (or preference) stage. Every (algorithm or
variant, seed) is a stage `rl` in a process of its own with the whole stage's code, at a constant learning rate, `jobs`
of them at a time with cores // jobs threads each. Algorithms take turns, another one first for each seed, so that a
machine that is slower for a while slows none in particular. What is not set is as each algorithm was published.

* Time is the sum of the steps' seconds: answers, rewards and update, without the evaluations every few steps.
* A seed decides prompts and answers. The starting weights and the held-out problems are the same for all seeds, so
  that the range over seeds is that of training alone. Held-out problems are answered greedily.
* A run goes on to the first evaluation after `seconds`; the table's accuracies are interpolated between the two
  evaluations around `seconds`, and its other figures are of the steps within `seconds`.
* Held-out accuracy is of 3 problems for each task, level and language: 252 with all tasks, so that one evaluation's
  standard error is 2 to 3 points; all algorithms answer the same ones. A process's first step compiles, on its time.
* A run that fails (its loss was not finite, say) is named and left out, and the others go on.

FOLDER gets rl_algorithms.json (every evaluation), rl_algorithms.svg (the curves) and each process's log.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from dokja.errors import DokjaError
from dokja.ledger.environment import cores, describe_environment
from dokja.ledger.metrics import read_metrics
from dokja.ledger.progress import Progress
from dokja.ledger.run import Run
from dokja.recipe.load import load_recipe
from dokja.recipe.schema import Recipe
from dokja.road import rl
from dokja.road.asking import exams
from dokja.road.context import Context
from dokja.tasks.problem import Problem
from rl_curves import FIGURES, picture, summary

TINY = Path(__file__).parent.parent / "recipes" / "tiny.toml"
STEPS = 10**6
CONSTANT = ("rl.schedule='wsd'", "rl.warmup=0.0", "rl.decay=0.0", f"rl.steps={STEPS}", f"rl.checkpoint_every={STEPS}")
EVALUATED = ("rl.eval_every=10", "rl.eval_per_cell=3")
STANDSTILL = (
    *(f"rl.{k}=0.0" for k in ("lr_matrix", "lr_embed", "lr_head", "lr_other", "weight_decay")),
    "rl.algorithm='rloo'", "rl.rounds=1", "rl.prompts=1", "rl.group=2", "rl.updates=1", "rl.pool=0", "rl.eval_every=1",
)  # fmt: skip
"""One small step at rate 0: its evaluation is that of the starting weights."""


class Enough(Exception):
    """The time of a run is up."""


class Clock(Progress):
    """Raises Enough at the first evaluation after `limit` seconds of steps."""

    metrics: Path
    limit: float

    def update(self, step: int, text: str = "") -> None:
        """A step is done and in the metrics."""
        super().update(step, text)
        rows = read_metrics(self.metrics)
        if rows and "eval_think" in rows[-1] and sum(row["seconds"] for row in rows) >= self.limit:
            raise Enough


@dataclass(frozen=True)
class Timed(Context):
    """A context whose stages end when their time is up."""

    limit: float = 0.0

    def progress(self, total: int, label: str, start: int = 0) -> Progress:
        """The bar that watches the clock."""
        clock = Clock(total, label, self.attempt.log_path, start=start)
        clock.metrics, clock.limit = self.stage("rl") / "metrics.jsonl", self.limit
        return clock


@dataclass(frozen=True)
class Task:
    """One process: stage `rl` of RUN's weights with these sets, in a scratch folder."""

    name: str
    seed: int
    run: str
    recipe: str
    sets: Sequence[str]
    seconds: float
    exam_seed: int
    folder: str


def one(task: Task) -> None:
    """Walks the stage in this process until its time is up; metrics.jsonl is what it leaves."""
    root = Path(task.folder)
    for stage in ("tokenizer", "pretrain", "context", "sft", "preference"):
        if (Path(task.run) / stage).is_dir():
            (root / stage).symlink_to((Path(task.run) / stage).resolve())
    recipe, run = load_recipe(task.recipe, task.sets), Run(root)

    def same_exams(recipe: Recipe, per_cell: int) -> tuple[set[bytes], list[Problem]]:
        return exams(recipe.model_copy(update={"seed": task.exam_seed}), per_cell)

    with patch.object(rl, "exams", same_exams), suppress(Enough):
        rl.walk(Timed(recipe, run, run.new_attempt(), limit=task.seconds), run.stage_dir("rl"))


def launch(task: Task, jobs: int, out: Path) -> list[dict[str, Any]]:
    """`one` in its own process -> each line of its metrics with `elapsed`, the seconds so far; none if it failed."""
    threads = str(max(1, cores() // jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": "5000"}
    log = out / f"{task.name}_{task.seed}.log"
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as file:
        told = json.dumps({**vars(task), "folder": scratch, "sets": [*task.sets, f"threads={threads}"]})
        command = [sys.executable, __file__, "--one", told]
        if subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode:
            print(f"{task.name}, seed {task.seed}, failed:", log.read_text().strip()[-300:], file=sys.stderr)
            return []
        rows = read_metrics(Path(scratch) / "rl" / "metrics.jsonl")
    elapsed = np.cumsum([row["seconds"] for row in rows])
    print(f"{task.name}, seed {task.seed}: {len(rows)} steps in {elapsed[-1]:.1f} s", file=sys.stderr, flush=True)
    return [{**row, "elapsed": round(float(at), 4)} for row, at in zip(rows, elapsed, strict=True)]


def lanes_of(algorithms: str, variants: Sequence[str]) -> dict[str, list[str]]:
    """What is compared, by name: its sets. A variant's keys are those of [rl] unless they have a dot."""
    lanes = {name: [f"rl.algorithm={name!r}"] for name in filter(None, algorithms.split(","))}
    for text in variants:
        name, _, settings = text.partition(":")
        lanes[name] = [s if "." in s.partition("=")[0] else f"rl.{s}" for s in filter(None, settings.split(","))]
    return lanes


def turns(names: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    """Every (name, seed): all names once per seed, another one first each time."""
    for seed in range(seeds):
        first = seed * len(names) // seeds
        yield from ((name, seed) for name in (*names[first:], *names[:first]))


def show(results: dict[str, list[dict[str, Any]]], start: dict[str, float], seconds: float) -> None:
    """The table at `seconds`: mean over seeds, and least to most."""
    table = Table(box=box.SIMPLE, title=f"after {seconds:g} s of steps: mean over seeds (least – most)")
    columns = {"eval_think": 100.0, "eval_direct": 100.0, "eval_thought_tokens": 1.0, "steps": 1.0, "mismatch_kl": 1e6,
               "kept": 100.0}  # fmt: skip
    table.add_column("")
    for column in ("thinking %", "at once %", "thought tokens", "steps", "mismatch KL ·10⁻⁶", "kept %"):
        table.add_column(column, justify="right")
    table.add_row("start", *(f"{columns[k] * start[k]:.1f}" for k in FIGURES), "", "", "")
    for name, runs in results.items():
        cells = [] if runs else ["failed"]
        for key, by in columns.items():
            if not (found := [by * run["at_limit"][key] for run in runs]):
                break
            cells.append(f"{np.mean(found):.1f}" + f" ({min(found):.1f} – {max(found):.1f})" * (len(found) > 1))
        table.add_row(name, *cells)
    Console(highlight=False, width=None if sys.stdout.isatty() else 150).print(table)


def main() -> None:
    """Reads the command line, runs, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", nargs="?", help="run folder with finished tokenizer and sft or preference stages")
    parser.add_argument("--algorithms", default="grpo,dapo,agapo_sequence,agapo_token", help="with commas between")
    parser.add_argument(
        "--variants", nargs="*", action="extend", default=[], help="NAME:key=value,key=value with keys of [rl]"
    )
    parser.add_argument("--recipe", default=str(TINY), help="the recipe that RUN was built from")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--seconds", type=float, default=150, help="steps' seconds of a run")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("rl_algorithms"), help="folder for results")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], help="recipe keys for all, such as rl.prompts=32"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        one(Task(**json.loads(args.one))) if args.one else compare(args)
    except DokjaError as error:
        raise SystemExit(str(error)) from None


def compare(args: argparse.Namespace) -> None:
    """Runs every algorithm and variant with every seed, prints the table, writes JSON and SVG."""
    run = Path(args.run or "")
    preferred = (run / "preference" / "weights" / "model.safetensors").exists()
    if not preferred and not (run / "sft" / "weights" / "model.safetensors").exists():
        raise SystemExit(f"{run} has no finished stage sft or preference. Name a run that `dokja build` has finished.")
    built = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    lanes = lanes_of(args.algorithms, args.variants)
    base = ("preference={}" if preferred else "preference=none", *CONSTANT, *EVALUATED, *args.set)
    for sets in (STANDSTILL, *lanes.values()):
        if load_recipe(args.recipe, (*base, *sets)).model.model_dump() != built["model"]:
            raise SystemExit(f"{run} was built with another model. Name its recipe: --recipe FILE --set model.width=…")

    def task(name: str, sets: Sequence[str], seconds: float, number: int = 0) -> Task:
        seed = built["seed"] + number
        own = (*base, *sets, f"seed={seed}")
        return Task(name, seed, args.run, args.recipe, own, seconds, built["seed"], "")

    args.out.mkdir(parents=True, exist_ok=True)
    if not (stood := launch(task("start", STANDSTILL, 0.0), args.jobs, args.out)):
        raise SystemExit("The starting weights cannot be evaluated, so nothing was compared.")
    start = {key: stood[0][key] for key in FIGURES}
    tasks = [task(name, lanes[name], args.seconds, number) for name, number in turns(list(lanes), args.seeds)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in lanes}
    figures = {
        "environment": describe_environment(max(1, cores() // args.jobs)), "recipe": Path(args.recipe).name,
        "seconds": args.seconds, "jobs": args.jobs, "start": start, "algorithms": results,
    }  # fmt: skip
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            for done, rows in zip(tasks, pool.map(lambda t: launch(t, args.jobs, args.out), tasks), strict=True):
                results[done.name] += (
                    [{"seed": done.seed, "sets": done.sets, **summary(rows, start, done.seconds)}] if rows else []
                )
                (args.out / "rl_algorithms.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        except BaseException:  # Ctrl-C: what has not begun is not begun
            pool.shutdown(cancel_futures=True)
            raise
    show(results, start, args.seconds)
    svg = picture(results, start, args.seconds)
    (args.out / "rl_algorithms.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
