"""Rollout speed: our engine beside transformers' `generate` with the same weights, alternating in one run.

    python bench/rollout_speed.py [--batch 64 256 512] [--rounds 5] [--threads 2] [--json FILE]

What is compared: new tokens per second, prompts included in the time, of a whole set of `--batch` answers at the tiny
recipe's shape on the CPU. Weights are random; ours are exported as a release and loaded by transformers, and the
scores of both are compared before anything is timed. All prompts have one length and all answers have `--new` tokens
(no stop token), so that the peer needs no padding, no mask of it, and no step for few survivors. Both draw at
temperature 1 from the whole vocabulary.

* Ours is `Engine.complete` in fp32 with `--batch` slots. It returns the log-probability of every token, as RL needs.
* The peer returns tokens only. It is tried in fp32 and in bf16, each with its dynamic and its static cache, and with
  the static cache under torch.compile; what is fastest in these trials is the peer of the rounds.

`--group` answers share each prompt, as in RL; `generate` reads the prompt of each of them, our engine reads it once.

Each round times both sides once, in alternating order; a round's ratio is of its own two figures, and the table has
the median and the range of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
from transformers import Exaone4ForCausalLM, GenerationConfig
from transformers.utils import logging

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe

TINY = Path(__file__).parent.parent / "recipes" / "tiny.toml"
SPECIAL = {"bos": 1, "eos": 2, "pad": 0}
SETTINGS = [("float32", ""), ("float32", "static"), ("float32", "compiled"), ("bfloat16", ""), ("bfloat16", "static")]
"""dtype and cache of the peer's trials; "compiled" is the static cache under torch.compile."""


@dataclass(frozen=True)
class Job:
    """`batch` answers of `new` tokens; `prompts` has one row an answer, `group` neighbours are equal."""

    batch: int
    new: int
    prompts: torch.Tensor


def make_job(spec: ModelSpec, batch: int, group: int, length: int, new: int) -> Job:
    """Random prompts of `length` tokens."""
    gen = torch.Generator().manual_seed(0)
    prompts = torch.randint(16, spec.vocab, (-(-batch // group), length), generator=gen)
    return Job(batch, new, prompts.repeat_interleave(group, 0)[:batch])


class Ours:
    """The engine, fp32."""

    name = "dokja, float32"

    def __init__(self, model: Decoder, job: Job):
        self.engine, self.job, self.seed = Engine(model, slots=job.batch), job, 0

    def __call__(self) -> None:
        """One set of answers."""
        prompts = self.job.prompts.tolist()
        self.seed += 1
        answers = self.engine.complete(
            Request(str(i), p, self.job.new, seed=self.seed * 1_000_003 + i) for i, p in enumerate(prompts)
        )
        assert sum(len(a.tokens) for a in answers) == self.job.batch * self.job.new


class Peer:
    """transformers in one of `SETTINGS`."""

    def __init__(self, folder: Path, job: Job, dtype: str, cache: str):
        self.job, self.name = job, f"transformers, {dtype}" + (f", {cache} cache" if cache else "")
        self.model = Exaone4ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
        if cache == "compiled":
            self.model.forward = torch.compile(self.model.forward, dynamic=False)
        self.config = GenerationConfig(
            max_new_tokens=job.new, min_new_tokens=None, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            eos_token_id=None, pad_token_id=SPECIAL["pad"], cache_implementation="static" if cache else None,
        )  # fmt: skip

    def __call__(self) -> None:
        """One set of answers."""
        with torch.inference_mode():
            out = self.model.generate(self.job.prompts, generation_config=self.config)
        assert out.shape == (self.job.batch, self.job.prompts.shape[1] + self.job.new)


def tokens_per_second(side: Ours | Peer) -> float:
    """New tokens over the time of one whole set."""
    began = time.perf_counter()
    side()
    return side.job.batch * side.job.new / (time.perf_counter() - began)


def check_equal(model: Decoder, folder: Path, job: Job) -> float:
    """Largest difference of the two fp32 models' scores on the first prompt; raises where it is more than rounding."""
    peer = Exaone4ForCausalLM.from_pretrained(folder, dtype="float32").eval()
    with torch.inference_mode():
        apart = (model(job.prompts[:1]) - peer(job.prompts[:1]).logits).abs().max().item()
    if apart > 1e-3:
        raise SystemExit(f"The two models' scores differ by {apart:g}: they are not the same model.")
    return apart


def measure(model: Decoder, folder: Path, job: Job, rounds: int, settings: list[tuple[str, str]]) -> dict[str, Any]:
    """Chooses the peer, then times both sides `rounds` times in alternating order."""
    trials: dict[str, float] = {}
    peers: dict[str, Peer] = {}
    for setting in settings:
        peer = Peer(folder, job, *setting)
        began = time.perf_counter()
        side_first = tokens_per_second(peer)
        trials[peer.name] = max(side_first, tokens_per_second(peer))
        peers[peer.name] = peer
        took = time.perf_counter() - began
        print(f"{job.batch}: trial of {peer.name}: {trials[peer.name]:,.0f} tokens/s ({took:.0f} s)", file=sys.stderr)
    sides: list[Ours | Peer] = [Ours(model, job), peers[max(trials, key=lambda name: trials[name])]]
    for side in sides:
        tokens_per_second(side)
    rates: list[list[float]] = [[], []]
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            rates[side].append(tokens_per_second(sides[side]))
        print(f"{job.batch}: round {number + 1}: {rates[0][-1]:,.0f}, {rates[1][-1]:,.0f} tokens/s", file=sys.stderr)
    ratios = [a / b for a, b in zip(*rates, strict=True)]
    return {
        "batch": job.batch,
        "trials": trials,
        "sides": [{"name": s.name, "tokens_per_second": r} for s, r in zip(sides, rates, strict=True)],
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
    }


def show(found: list[dict[str, Any]], console: Console) -> None:
    """One row a batch size."""
    table = Table(box=box.SIMPLE)
    for n, column in enumerate(("answers at once", "dokja", "the peer", "tokens/s", "ours / theirs")):
        table.add_column(column, justify="left" if n == 2 else "right", no_wrap=n != 2)
    for row in found:
        ours, peer = (statistics.median(side["tokens_per_second"]) for side in row["sides"])
        r = row["ratio"]
        times = f"{r['median']:.2f} × ({r['min']:.2f} – {r['max']:.2f})"
        table.add_row(str(row["batch"]), f"{ours:,.0f}", row["sides"][1]["name"], f"{peer:,.0f}", times)
    console.print(table)


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 512], help="answers at once")
    parser.add_argument("--group", type=int, default=8, help="answers of one prompt")
    parser.add_argument("--prompt", type=int, default=45, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is timed")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both sides")
    parser.add_argument("--no-compile", action="store_true", help="leave out the peer under torch.compile")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    recipe = load_recipe(TINY)
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    model = Decoder(spec).init_weights(0).requires_grad_(False)
    model.head.normal_(0.0, spec.width**-0.5, generator=torch.Generator().manual_seed(1))  # zero before training
    settings = [s for s in SETTINGS if s[1] != "compiled" or not args.no_compile]
    console, found = Console(highlight=False, width=None if sys.stdout.isatty() else 100), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(spec, dict(model.named_parameters()), folder, SPECIAL)
        jobs = [make_job(spec, batch, args.group, args.prompt, args.new) for batch in args.batch]
        apart = check_equal(model, folder, jobs[0])
        for job in jobs:
            found.append(measure(model, folder, job, args.rounds, settings))
    console.print(
        f"{spec.params / 1e6:.1f} M parameters, prompts of {args.prompt} tokens, {args.group} answers each of "
        f"{args.new} tokens; scores of both agree to {apart:.0e}"
    )
    show(found, console)
    if args.json:
        figures = {"environment": describe_environment(args.threads), "batches": found}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
