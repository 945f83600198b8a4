"""The planner beside reality on this CPU: the time of a training step, and the bytes that layers keep.

    python bench/plan_check.py [--shape tiny|100m] [--rounds 5] [--json FILE]

Time: `dokja plan --device cpu` measures the machine and predicts a step of recipes/tiny.toml; `Ours` of
bench/train_speed.py runs such steps. Both are done in every round; the figure is the median of measured / predicted.
Where other work is under way the clock is no measure, since the peak is the best of many short tries and a step is not;
so seconds of the processor, over the threads used, are given as well. The prediction takes a share of the measured peak
(`cli.plan.CPU_MFU`), rows of one document each, and nothing for what is neither a product nor Muon's.

Bytes: what the trainer's compiled layers hand to their backward pass for one micro batch, over what the formula says.
Weights and their copies in bf16 are left out of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from dokja.cli.plan import CPU_MFU, this_machine
from dokja.model.plan.memory import Job, activations
from dokja.model.plan.mesh import Mesh
from dokja.model.plan.step import step
from dokja.train.compiled import Runner
from dokja.train.optim import fast_bf16
from train_speed import SHAPES, Ours, Shape, make_shape


def job_of(shape: Shape) -> Job:
    """The shape's step as the planner has it."""
    config, width = shape.config, 2 if fast_bf16(torch.device("cpu")) else 4
    return Job(config.seq_len, config.batch_tokens, micro_rows=shape.rows, value_bytes=width)


def kept(runner: Runner, shape: Shape) -> int:
    """Bytes of one micro batch that the layers keep, weights and their casts apart."""
    parameters = list(runner.model.parameters())
    weights = {p.untyped_storage().data_ptr() for p in parameters}
    cast = {tuple(p.shape) for p in parameters} | {tuple(p.shape[::-1]) for p in parameters}
    stored: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point() and tuple(tensor.shape) not in cast:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    size = (shape.rows, shape.config.seq_len)
    tokens = np.random.default_rng(0).integers(16, shape.spec.vocab, size)
    held: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        # the result is held so that no address is used twice
        held.append(runner._hidden(tokens, np.ones(size, dtype=np.int32)))
    return sum(stored.values())


def seconds_of_step(ours: Ours) -> tuple[float, float]:
    """Seconds of one step by the clock, and of the processor over the threads used. The batch is brought down to the
    recipe's from the tokens that are timed."""
    ours.prepare()
    began = time.perf_counter(), time.process_time()
    ours.gradients()
    between = time.perf_counter(), time.process_time()
    ours.update()
    done = time.perf_counter(), time.process_time()
    times = ours.shape.config.batch_tokens / ours.shape.timed
    wall, cpu = ((b - a) * times + c - b for a, b, c in zip(began, between, done, strict=True))
    return wall, cpu / torch.get_num_threads()


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    console, rounds = Console(highlight=False), []
    with tempfile.TemporaryDirectory() as folder:
        shape = make_shape(args.shape, Path(folder))
        ours, job = Ours(shape), job_of(shape)
        seconds_of_step(ours)  # compiles
        for _ in range(args.rounds):
            device = this_machine(0.5)
            planned = step(shape.spec, Mesh(), job, device).seconds
            wall, cpu = seconds_of_step(ours)
            rounds.append({"peak": device.flops, "predicted": planned, "clock": wall, "processor": cpu})
            console.print(
                f"peak {device.flops / 1e9:,.0f} GFLOP/s: {planned:.3f} s for {job.batch_tokens:,} tokens predicted, "
                f"{wall:.3f} s by the clock, {cpu:.3f} s of the processor"
            )
        bytes_ = kept(ours.runner, shape)
    formula = activations(shape.spec, Mesh(), job, 0)
    for name in ("clock", "processor"):
        ratios = [r[name] / r["predicted"] for r in rounds]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        console.print(f"{name}: measured / predicted {statistics.median(ratios):.2f} ({spread}), {CPU_MFU:.0%} assumed")
    console.print(
        f"activations of a micro batch of {job.micro_tokens:,} tokens: {bytes_ / 1e6:,.1f} MB kept, "
        f"{formula / 1e6:,.1f} MB by the formula, ratio {bytes_ / formula:.2f}"
    )
    if args.json:
        told = {"shape": args.shape, "rounds": rounds, "kept": bytes_, "formula": formula}
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
