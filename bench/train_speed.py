"""Training speed: our loop beside transformers' `Exaone4ForCausalLM` with a plain AdamW loop, alternating in one run.

    python bench/train_speed.py [--shape tiny|100m|all] [--rounds 5] [--compile] [--json FILE]

What is compared: tokens per second of whole optimiser steps on the CPU, at the same shape, number of parameters and
tokens per step; both sides clip the gradient norm.

* Ours is the trainer's own path: packed documents that do not see each other, `Runner.backward` on every micro batch
  (compiled layers, native attention, chunked loss, the dtype the trainer would choose), clipping, `Optimizer.step`.
  Padding slots are work but do not count as tokens.
* The peer is `model(input_ids, labels=...)`, `backward`, clipping, `torch.optim.AdamW(fused=True)`, sdpa attention.
  It is given plain full rows without document boundaries or padding: it needs no mask of documents, and every slot
  counts. It is tried in fp32, in bf16 autocast and with bf16 weights, in micro batches as large as ours and, in the
  fastest of the three, a quarter as large; what is fastest in these trials is the peer of the rounds. (bf16 weights
  lose small updates and would not be how one trains; they may win all the same.) `--compile` adds that setting under
  torch.compile as a second peer.

What is not compared: quality per token. The optimisers differ (ours is Muon with AdamW, dearer per step), and so
does what the rows mean. A big step is not timed to its end: `timed tokens` of it are, and their forward and backward
time is multiplied up, for both sides alike, before the time of one update is added.

Each round times every side once, in alternating order; a round's ratio is of its own two figures, and the table has
the median and the range of the ratios. `of peak` is 6 · N_active · tokens/s over the best matrix product measured
here in the same dtype (attention's own products are left out of it).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from transformers import Exaone4Config, Exaone4ForCausalLM

from dokja.data.loader import Loader
from dokja.data.shards import ShardSet, ShardWriter
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.model.families import exaone4
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe
from dokja.recipe.schema import TrainConfig
from dokja.train.compiled import Runner
from dokja.train.machine import gemm_peak
from dokja.train.objectives import Language
from dokja.train.optim import Optimizer, fast_bf16

TINY = Path(__file__).parent.parent / "recipes" / "tiny.toml"
SHAPES: dict[str, tuple[tuple[str, ...], int, int, int]] = {
    # changes to the recipe, mean tokens of a document, tokens of a micro batch, tokens of a step that are timed
    "tiny": ((), 80, 8192, 16_384),
    "100m": (
        ("scale=12", "model.width=640", "model.context=1024", "tokenizer.vocab=32768", "pretrain.tokens=1_500_000_000",
         "pretrain.batch_tokens=131_072"),
        600, 2048, 2048,
    ),
}  # fmt: skip
SETTINGS = ("fp32", "bf16 autocast", "bf16 weights")
TRIAL_SECONDS = 6.0
"""A setting is tried for this long, and at least twice."""


@dataclass(frozen=True)
class Shape:
    """One size of model and of step. Tokens: `micro` of a forward and backward pass, `timed` of those of a step."""

    name: str
    spec: ModelSpec
    config: TrainConfig
    micro: int
    timed: int
    shards: ShardSet

    @property
    def rows(self) -> int:
        """Rows of a micro batch."""
        return self.micro // self.config.seq_len


def make_shape(name: str, folder: Path) -> Shape:
    """The shape's recipe, and random documents of its usual lengths in `folder`."""
    sets, mean, micro, timed = SHAPES[name]
    recipe = load_recipe(TINY, sets)
    config = recipe.pretrain
    assert config is not None
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    rng = np.random.default_rng(0)
    with ShardWriter(folder, spec.vocab) as writer:
        while writer.tokens < 40 * timed:
            length = 2 + int(rng.lognormal(math.log(mean) - 0.18, 0.6))
            writer.add(rng.integers(16, spec.vocab, length))
    return Shape(name, spec, config, micro, timed, ShardSet.open(folder))


class Ours:
    """The trainer's path. `gradients` and `update` are the two halves of a step, `seconds` what the last one took."""

    seconds: dict[str, float]

    def __init__(self, shape: Shape):
        self.shape, config = shape, shape.config
        self.dtype = torch.bfloat16 if fast_bf16(torch.device("cpu")) else torch.float32
        self.name = f"dokja, {str(self.dtype).removeprefix('torch.')}"
        self.model = Decoder(shape.spec).init_weights(0)
        rates = {k: getattr(config, k) for k in ("lr_matrix", "lr_embed", "lr_head", "lr_other")}
        self.optimizer = Optimizer(self.model, rates, config.weight_decay)
        self.runner = Runner(self.model, self.dtype, True, shape.rows)
        self.objective = Language(np.ones(shape.spec.vocab, dtype=np.int64))
        self.loader = Loader([(shape.shards, 1.0)], config.seq_len, shape.timed // config.seq_len, 0)
        self.number = 0

    def prepare(self) -> None:
        """Outside of the clock: the next batch, which the trainer prefetches in a thread."""
        self.batch = self.loader.batch(self.number)
        self.weights = self.objective.weights(self.batch, self.batch.targets)
        self.number += 1
        torch.use_deterministic_algorithms(True)  # as the trainer does

    def gradients(self) -> int:
        """Forward and backward of the timed micro batches; returns their tokens, without padding."""
        b, size = self.batch, self.shape.rows
        for at in range(0, len(b.tokens_BL), size):
            rows = slice(at, at + size)
            self.runner.backward(b.tokens_BL[rows], b.docs_BL[rows], b.targets_BL[rows], self.weights(rows))
        return b.tokens

    def update(self) -> None:
        """Clipping and one optimiser step."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.shape.config.clip, foreach=True)
        self.optimizer.step(1e-3)
        self.model.zero_grad(set_to_none=True)
        torch.use_deterministic_algorithms(False)


class Peer:
    """transformers and AdamW in one of `SETTINGS`, `rows` rows a pass; the same members as `Ours`."""

    seconds: dict[str, float]

    def __init__(self, shape: Shape, setting: str, rows: int, compile: bool = False):
        self.shape, self.setting, self.rows = shape, setting, rows
        self.name = f"transformers, {setting}, {rows} × {shape.config.seq_len}" + (", compiled" if compile else "")
        self.dtype = torch.float32 if setting == "fp32" else torch.bfloat16
        config = exaone4.config_from(shape.spec, {"bos": 1, "eos": 2, "pad": 0})
        config |= {"attn_implementation": "sdpa", "use_cache": False}
        self.model = Exaone4ForCausalLM(Exaone4Config(**config)).train()
        assert sum(p.numel() for p in self.model.parameters()) == shape.spec.params, "the two models differ in shape"
        if setting == "bf16 weights":
            self.model.bfloat16()
        self.call: Callable[..., Any] = torch.compile(self.model, dynamic=False) if compile else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
        self.stream = self._batches()

    def _batches(self) -> Iterator[list[torch.Tensor]]:
        """The same documents end to end, in rows without padding."""
        tokens, seq_len = self.shape.shards.token_files[0], self.shape.config.seq_len
        while True:
            for at in range(0, len(tokens) - self.shape.timed, self.shape.timed):
                rows = tokens[at : at + self.shape.timed].astype(np.int64).reshape(-1, seq_len)
                yield list(torch.from_numpy(rows).split(self.rows))

    def prepare(self) -> None:
        """Outside of the clock: the next batch."""
        self.batch = next(self.stream)

    def gradients(self) -> int:
        """Forward and backward of the timed micro batches; returns their tokens."""
        for rows in self.batch:
            mixed: AbstractContextManager[object] = nullcontext()
            if self.setting == "bf16 autocast":
                mixed = torch.autocast("cpu", torch.bfloat16)
            with mixed:
                loss = self.call(input_ids=rows, labels=rows).loss / len(self.batch)
            loss.backward()
            loss.item()
        return self.shape.timed

    def update(self) -> None:
        """Clipping and one optimiser step."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.shape.config.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def tokens_per_second(side: Ours | Peer) -> float:
    """One step of the shape's whole batch, of which `timed` tokens are really computed."""
    side.prepare()
    began = time.perf_counter()
    tokens = side.gradients()
    between = time.perf_counter()
    side.update()
    done = time.perf_counter()
    times = side.shape.config.batch_tokens / side.shape.timed
    side.seconds = {"gradients": (between - began) * times, "update": done - between}
    return tokens * times / ((between - began) * times + done - between)


def measure(shape: Shape, rounds: int, compile: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Chooses the peer, then times all sides `rounds` times in alternating order."""
    trials: dict[tuple[str, int], float] = {}

    def attempt(setting: str, rows: int) -> None:
        peer, began = Peer(shape, setting, rows), time.monotonic()
        found: list[float] = []
        while len(found) < 2 or (time.monotonic() - began < TRIAL_SECONDS and len(found) < 6):
            found.append(tokens_per_second(peer))
        trials[setting, rows] = max(found)
        say(f"{shape.name}: trial of {peer.name}: {trials[setting, rows]:,.0f} tokens/s")

    for setting in SETTINGS:
        attempt(setting, shape.rows)
    if shape.rows > 1:
        attempt(max(trials, key=lambda key: trials[key])[0], max(1, shape.rows // 4))
    fastest = max(trials, key=lambda key: trials[key])
    sides: list[Ours | Peer] = [Ours(shape), Peer(shape, *fastest), *([Peer(shape, *fastest, True)] if compile else [])]
    for side in sides:
        for _ in range(2):  # compilers and allocators settle
            tokens_per_second(side)
    peaks = {dtype: gemm_peak(dtype) for dtype in {side.dtype for side in sides}}
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            rates[side.name].append(tokens_per_second(side))
        now = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
        say(f"{shape.name}: round {number + 1} of {rounds}: {now} tokens/s")
    peaks = {dtype: max(peak, gemm_peak(dtype)) for dtype, peak in peaks.items()}
    flops = 6 * shape.spec.active_params
    return {
        "spec": shape.spec.to_dict(),
        "parameters": shape.spec.params,
        "active_parameters": shape.spec.active_params,
        "seq_len": shape.config.seq_len,
        "batch_tokens": shape.config.batch_tokens,
        "micro_tokens": shape.micro,
        "timed_tokens": shape.timed,
        "trials": [{"setting": s, "rows": rows, "tokens_per_second": rate} for (s, rows), rate in trials.items()],
        "gemm_gflops": {str(dtype): peak for dtype, peak in peaks.items()},
        "sides": [
            {
                "name": side.name,
                "tokens_per_second": rates[side.name],
                "seconds_of_last_step": side.seconds,
                "median": statistics.median(rates[side.name]),
                "share_of_peak": flops * statistics.median(rates[side.name]) / (peaks[side.dtype] * 1e9),
                "ratio": spread([a / b for a, b in zip(rates[sides[0].name], rates[side.name], strict=True)]),
            }
            for side in sides
        ],
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(name: str, found: dict[str, Any], console: Console) -> None:
    """One shape as a table."""
    title = (
        f"{name}: {found['parameters'] / 1e6:.1f} M parameters, rows of {found['seq_len']}, "
        f"steps of {found['batch_tokens']:,} tokens ({found['timed_tokens']:,} timed)"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("side", overflow="fold")
    for column in ("tokens/s", "of peak", "ours / theirs"):
        table.add_column(column, justify="right", no_wrap=True)
    for n, side in enumerate(found["sides"]):
        r = side["ratio"]
        times = f"{r['median']:.2f} × ({r['min']:.2f} – {r['max']:.2f})" if n else ""
        table.add_row(side["name"], f"{side['median']:,.0f}", f"{100 * side['share_of_peak']:.0f} %", times)
    console.print(table)


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is timed")
    parser.add_argument("--compile", action="store_true", help="also time transformers under torch.compile")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own choice when left out")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    result: dict[str, Any] = {"environment": describe_environment(torch.get_num_threads()), "shapes": {}}
    for name in SHAPES if args.shape == "all" else [args.shape]:
        with tempfile.TemporaryDirectory() as folder:
            shape = make_shape(name, Path(folder))
            result["shapes"][name] = measure(shape, args.rounds, args.compile, lambda s: print(s, file=sys.stderr))
    for name, found in result["shapes"].items():
        show(name, found, console)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
