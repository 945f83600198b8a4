"""Training speed of the small mixture of experts beside a dense model of equal active size, alternating in one run.

    python bench/moe_speed.py [--rounds 9] [--threads N] [--json FILE]

Both are `recipes/tiny-moe.toml` in the trainer's own path (see bench/train_speed.py): whole optimiser steps with
compiled layers, clipping, Muon and AdamW, and for the mixture the balancing of experts. The dense model differs in
its feed-forward only, which is as wide as all networks that a token meets in the mixture together. Tokens per second
are of real tokens; a round's ratio is of its own two figures. Where the time goes is told by the two halves of a step:
`gradients` (forward and backward) and `update` (of all parameters, and the mixture has more of them).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from dokja.data.shards import ShardSet, ShardWriter
from dokja.ledger.environment import describe_environment
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe
from dokja.train.balance import Balance
from train_speed import Ours, Shape, spread, tokens_per_second

RECIPE = Path(__file__).parent.parent / "recipes" / "tiny-moe.toml"
MEAN = 80
"""Tokens of a random document, on average."""


class Side(Ours):
    """The trainer's path with the balancing of experts, where there are any."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.name = shape.name
        self.balance = Balance.of(self.model, shape.config.balance_rate, shape.config.balance_loss)
        self.runner.balance = self.balance

    def gradients(self) -> int:
        """Forward and backward of a step; returns its tokens, without padding."""
        if self.balance:
            self.balance.begin(self.batch.tokens)
        tokens = super().gradients()
        if self.balance:
            self.balance.end()
        return tokens

    def update(self) -> None:
        """Clipping, one optimiser step, one step of the biases."""
        super().update()
        if self.balance:
            self.balance.move()


def shapes(folder: Path) -> tuple[Shape, Shape]:
    """The recipe's mixture and the dense model of its active size, over the same random documents in `folder`."""
    recipe = load_recipe(RECIPE)
    config = recipe.pretrain
    assert config is not None
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    assert spec.moe is not None
    dense = dataclasses.replace(spec, moe=None, ffn=spec.moe.ffn * (spec.moe.active + spec.moe.shared))
    rng = np.random.default_rng(0)
    with ShardWriter(folder, spec.vocab) as writer:
        while writer.tokens < 40 * config.batch_tokens:
            writer.add(rng.integers(16, spec.vocab, 2 + int(rng.lognormal(math.log(MEAN) - 0.18, 0.6))))
    shape = Shape("mixture", spec, config, 8192, config.batch_tokens, ShardSet.open(folder))
    return shape, dataclasses.replace(shape, name="dense", spec=dense)


def measure(rounds: int) -> dict[str, Any]:
    """Times both sides `rounds` times, in alternating order."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [Side(shape) for shape in shapes(Path(folder))]
        for side in sides:
            for _ in range(3):  # compilers and allocators settle
                tokens_per_second(side)
        rates: dict[str, list[float]] = {side.name: [] for side in sides}
        halves: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                rates[side.name].append(tokens_per_second(side))
                halves[side.name].append(side.seconds)
            now = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
            print(f"round {number + 1} of {rounds}: {now} tokens/s", file=sys.stderr)
    mixture, dense = (side.name for side in sides)
    return {
        "batch_tokens": sides[0].shape.config.batch_tokens,
        "dtype": str(sides[0].dtype),
        "sides": [
            {
                "name": side.name,
                "spec": side.shape.spec.to_dict(),
                "parameters": side.shape.spec.params,
                "active_parameters": side.shape.spec.active_params,
                "tokens_per_second": rates[side.name],
                "seconds": {
                    half: statistics.median(s[half] for s in halves[side.name]) for half in ("gradients", "update")
                },
            }
            for side in sides
        ],
        "ratio": spread([a / b for a, b in zip(rates[mixture], rates[dense], strict=True)]),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The figures as a table."""
    r = found["ratio"]
    title = f"steps of {found['batch_tokens']:,} tokens in {found['dtype'].removeprefix('torch.')}"
    caption = f"mixture / dense {r['median']:.2f} ({r['min']:.2f} – {r['max']:.2f})"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=box.SIMPLE)
    table.add_column("side")
    for column in ("parameters", "active", "tokens/s", "gradients, s", "update, s"):
        table.add_column(column, justify="right", no_wrap=True)
    for side in found["sides"]:
        sizes = [f"{side[key] / 1e6:.2f} M" for key in ("parameters", "active_parameters")]
        halves = [f"{side['seconds'][half]:.3f}" for half in ("gradients", "update")]
        table.add_row(side["name"], *sizes, f"{statistics.median(side['tokens_per_second']):,.0f}", *halves)
    console.print(table)


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="times each side is timed")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own choice when left out")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = {"environment": describe_environment(torch.get_num_threads()), **measure(args.rounds)}
    show(found, Console(highlight=False, width=None if sys.stdout.isatty() else 100))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
