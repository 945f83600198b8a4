"""Speed of RL: our step beside TRL's GRPOTrainer with the same weights, alternating in one run.

    python bench/rl_speed.py [--rounds 5] [--peer-python PYTHON_WITH_TRL] [--threads 2] [--json FILE]

What is compared: seconds of one whole step (answers, rewards, update) on the CPU, at the tiny recipe's shape with
random weights. Both sides get the same 64 prompts of the recipe's own task families, write 8 answers to each with at
most 96 tokens at temperature 1, and train on all of them once, without a reference model. Random weights seldom end
an answer, so that nearly all have full length on both sides. TRL's answers are drawn with its own random numbers.

* Ours is the stage's own path: `RolloutSource.round` (engine in fp32, graders, rewards, packing), `step_gradients`
  with the recipe's algorithm in the dtype the stage would choose, and `Optimizer.step`. No group is dropped.
* The peer is rl_peer.py in a process of its own, without vLLM, beta 0, no gradient checkpointing, AdamW. It is tried
  in fp32, in bf16 autocast and with bf16 weights, with dynamic and static cache, in micro batches of 64 and of 512
  answers; what is fastest in these trials is the peer of the rounds. Its reward is a count of one character.

Each round times both sides once, in alternating order, while the other waits; a round's ratio is of its own two
figures, and the table has the median and the range of the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from dokja.engine.engine import Engine
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe
from dokja.recipe.schema import RlConfig
from dokja.tasks.problem import Problem
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import LANGUAGES, eval_set
from dokja.text.chat import render
from dokja.text.tokenizer import Tokenizer, train_tokenizer
from dokja.train.compiled import Runner
from dokja.train.loop import Plan, micro_rows, step_gradients
from dokja.train.objectives.sampled import SampledObjective
from dokja.train.optim import Optimizer, fast_bf16
from dokja.train.rollouts.source import RolloutSource

TINY = Path(__file__).parent.parent / "recipes" / "tiny.toml"
SPECIAL = {"bos": 1, "eos": 2, "pad": 0}
PRECISIONS = ("fp32", "bf16 autocast", "bf16 weights")
SLOTS = 256


@dataclass(frozen=True)
class Job:
    """What both sides do in a step; `folder` has the release and prompts.json."""

    folder: Path
    config: RlConfig
    tokenizer: Tokenizer
    problems: list[Problem]
    threads: int


class Ours:
    """The stage's own path."""

    def __init__(self, job: Job, model: Decoder):
        self.dtype = torch.bfloat16 if fast_bf16(torch.device("cpu")) else torch.float32
        self.name = f"dokja, training in {str(self.dtype).removeprefix('torch.')}"
        c, problems = job.config, job.problems
        rows = micro_rows(torch.device("cpu"), c.seq_len)
        arms = list(dict.fromkeys((p.task, p.level) for p in problems))
        source = RolloutSource(
            Engine(model, slots=SLOTS), job.tokenizer, c, {"direct": arms},
            lambda mode, arm, language, number: problems[number % len(problems)], LANGUAGES,
            rows=rows, seed=0, folder=job.folder / "rollouts",
        )  # fmt: skip
        self.source = source
        objective = SampledObjective(c.algorithm, c)
        self.plan = Plan(c, 1, objective, source, rows, job.folder, {})
        rates = {k: getattr(c, k) for k in ("lr_matrix", "lr_embed", "lr_head", "lr_other")}
        self.optimizer = Optimizer(model, rates, c.weight_decay, c.optimizer)
        self.runner = Runner(model, self.dtype, c.compile, rows)
        self.number = 0
        self.parts: dict[str, float] = {}

    def step(self) -> float:
        """One step -> its seconds."""
        began = time.perf_counter()
        (batch,) = self.source.round(self.number)
        answered = time.perf_counter()
        step_gradients(self.runner, self.plan, batch, self.plan.config.clip)
        self.optimizer.step(1e-3)
        self.runner.model.zero_grad(set_to_none=True)
        self.number += 1
        done = time.perf_counter()
        self.parts = {"answers": answered - began, "update": done - answered, "tokens": batch.stats["generated"]}
        return done - began


class Peer:
    """A process with GRPOTrainer, one step a request."""

    def __init__(self, job: Job, python: str, precision: str, cache: str | None, micro: int):
        self.name = f"TRL, {precision}, micro batches of {micro}" + (f", {cache} cache" if cache else "")
        told = {"precision": precision, "cache": cache, "micro": micro, "group": job.config.group,
                "new": job.config.max_tokens, "threads": job.threads}  # fmt: skip
        script = Path(__file__).with_name("rl_peer.py")
        self.log = job.folder / "peer.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, str(script), str(job.folder), str(job.folder / "prompts.json"), json.dumps(told)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
        self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.name} ended: " + "\n".join(self.log.read_text().splitlines()[-3:]))
        return dict(json.loads(line))

    def step(self) -> float:
        """One step -> its seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._hear()["seconds"])

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def make_job(folder: Path, args: argparse.Namespace) -> tuple[Job, Decoder]:
    """A random model with a tokenizer of the task families' own text, and prompts in both languages."""
    section = f"rl={{prompts={args.prompts}, group={args.group}, max_tokens={args.new}, think_share=0.0, drop='all'}}"
    recipe = load_recipe(TINY, [section, "rl.curriculum=false"])
    assert recipe.rl is not None
    tasks = get_tasks(("all",))
    texts = [p.prompt + "\n" + p.trace for p in eval_set(tasks, 20)]
    tokenizer = train_tokenizer(texts, recipe.tokenizer.vocab)
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    model = Decoder(spec).init_weights(0)
    with torch.no_grad():
        model.head.normal_(0.0, spec.width**-0.5, generator=torch.Generator().manual_seed(1))  # zero before training
    export(spec, dict(model.named_parameters()), folder, SPECIAL)
    tokenizer.save(folder)
    every = eval_set(tasks, 1, seed=1)
    problems = [every[i * len(every) // args.prompts] for i in range(args.prompts)]
    prompts = []
    for p in problems:
        tokens = tokenizer.encode_segments(render(p.messages, thinking=False, add_generation_prompt=True))[0]
        prompts.append({"text": tokenizer.decode(tokens, markers=True), "tokens": tokens})
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    return Job(folder, recipe.rl, tokenizer, problems, args.threads), model


def choose_peer(job: Job, python: str) -> tuple[Peer, dict[str, float]]:
    """The fastest of TRL's settings: precisions first, then cache and micro batch of the fastest precision."""
    trials: dict[str, float] = {}
    best: tuple[float, tuple[str, str | None, int]] = (float("inf"), ("fp32", None, 64))

    def attempt(precision: str, cache: str | None, micro: int) -> None:
        nonlocal best
        try:
            peer = Peer(job, python, precision, cache, micro)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return
        try:
            trials[peer.name] = min(peer.step(), peer.step())
            best = min(best, (trials[peer.name], (precision, cache, micro)), key=lambda pair: pair[0])
            print(f"trial of {peer.name}: {trials[peer.name]:.1f} s", file=sys.stderr)
        except RuntimeError as error:
            print(error, file=sys.stderr)
        finally:
            peer.close()

    for precision in PRECISIONS:
        attempt(precision, None, 64)
    attempt(best[1][0], "static", 64)
    attempt(*best[1][:2], job.config.prompts * job.config.group)
    if not trials:
        raise SystemExit(f"TRL did not run under {python}. Name a Python that has trl: --peer-python PATH.")
    return Peer(job, python, *best[1]), trials


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=64, help="prompts a step")
    parser.add_argument("--group", type=int, default=8, help="answers of one prompt")
    parser.add_argument("--new", type=int, default=96, help="most tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is timed")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both sides")
    parser.add_argument("--peer-python", default=sys.executable, help="Python of an environment with trl")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        job, model = make_job(Path(name), args)
        peer, trials = choose_peer(job, args.peer_python)
        try:
            ours = Ours(job, model)
            sides: tuple[Ours, Peer] = (ours, peer)
            for side in sides:  # compilers and allocators settle
                side.step()
            seconds: list[list[float]] = [[], []]
            for number in range(args.rounds):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    seconds[side].append(sides[side].step())
                print(f"round {number + 1}: {seconds[0][-1]:.1f} s, {seconds[1][-1]:.1f} s", file=sys.stderr)
        finally:
            peer.close()
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    table = Table(box=box.SIMPLE, title=f"{args.prompts} prompts × {args.group} answers of up to {args.new} tokens")
    table.add_column("side", overflow="fold")
    for column in ("seconds a step", "theirs / ours"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row(ours.name, f"{statistics.median(seconds[0]):.2f}", "")
    times = f"{ratio['median']:.2f} × ({ratio['min']:.2f} – {ratio['max']:.2f})"
    table.add_row(peer.name, f"{statistics.median(seconds[1]):.2f}", times)
    console.print(table)
    console.print(f"our last step: answers {ours.parts['answers']:.2f} s, update {ours.parts['update']:.2f} s")
    if args.json:
        figures = {
            "environment": describe_environment(args.threads), "trials": trials, "ratio": ratio, "parts": ours.parts,
            "sides": [{"name": s.name, "seconds": found} for s, found in zip(sides, seconds, strict=True)],
        }  # fmt: skip
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
