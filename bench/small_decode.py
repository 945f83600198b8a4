"""Small models: our engine beside transformers' `generate`, and what that is worth to the stages of the road.

    python bench/small_decode.py --cache FOLDER [--rounds 5] [--batch 1 8 32 128] [--json FILE]
    python bench/small_decode.py --cache FOLDER --stages [--model RELEASE]
    python bench/small_decode.py --cache FOLDER --quick [--stages]

Without --stages: new tokens per second, prompts included in the time, of sets of `--batch` answers of `--new` tokens
drawn at temperature 1, at the tiny recipe's shape and at 100 M parameters with random weights. Both sides get the same
prompts and are tried in fp32 and bf16, the peer with its dynamic and its static cache as well; what is fastest in these
trials is timed in the rounds. The peer returns tokens alone, ours the log-probability of each as well.

With --stages: seconds of the judge's stage (`run_suite`: prompts, answers, grading, records) and of one round of RL's
sampling (`RolloutSource.round`: prompts, answers, grading, rewards, packing) with the tiny recipe's settings, once with
our engine in fp32 and once with transformers behind the same interface (peer_engine.py says what it leaves out), in the
faster of fp32 and bf16 and in the fastest of three batch sizes. RELEASE is a trained run or release of
recipes/tiny.toml; with random weights nearly no answer ends before its last token.

Each round times both sides once, in alternating order; a round's ratio is of its own figures, and the tables have the
median and the range of the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from dokja.engine.engine import Engine
from dokja.engine.load import find_folder, load_decoder
from dokja.judge.local import EngineAnswerer
from dokja.judge.records import Sampling
from dokja.judge.runner import items_of, run_suite
from dokja.judge.suite import build_suite
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.recipe.load import load_recipe
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import LANGUAGES, eval_set
from dokja.text.chat import MODES
from dokja.text.tokenizer import Tokenizer, train_tokenizer
from dokja.train.rollouts.source import RolloutSource
from peer_engine import PeerEngine
from rollout_speed import Job, Ours, Peer, check_equal, tokens_per_second
from shapes import random_checkpoint, shape
from workers import ratios, spread, times

TINY = Path(__file__).parent.parent / "recipes" / "tiny.toml"
PEERS = [("float32", ""), ("float32", "static"), ("bfloat16", ""), ("bfloat16", "static")]


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr)


def peer(folder: Path, job: Job, dtype: str, cache: str) -> Peer:
    """transformers, whose answers have full length too."""
    side = Peer(folder, job, dtype, cache)
    side.model.generation_config.eos_token_id = None  # fills what a call's own config leaves out
    return side


def ours(model: Decoder, job: Job, weights: Any) -> Ours:
    """Our engine in fp32, or with bf16 weights."""
    side = Ours(model, job)
    if weights:
        side.engine, side.name = Engine(model, slots=job.batch, weights=weights), f"dokja, {weights}"
    return side


def fastest(sides: list[Any]) -> tuple[Any, dict[str, float]]:
    """The better of two tries of each decides."""
    trials = {side.name: max(tokens_per_second(side), tokens_per_second(side)) for side in sides}
    for name, rate in trials.items():
        say(f"  trial of {name}: {rate:,.0f} tokens/s")
    return max(sides, key=lambda side: trials[side.name]), trials


def decode(model: Decoder, folder: Path, job: Job, rounds: int) -> dict[str, Any]:
    """Rounds of the fastest of both sides."""
    mine, trials = fastest([ours(model, job, weights) for weights in (None, "bf16")])
    theirs, more = fastest([peer(folder, job, *setting) for setting in PEERS])
    rates: dict[str, list[float]] = {mine.name: [], theirs.name: []}
    for number in range(rounds):
        for side in (mine, theirs) if number % 2 == 0 else (theirs, mine):
            rates[side.name].append(tokens_per_second(side))
    return {
        "batch": job.batch, "trials": {**trials, **more}, "ours": mine.name, "theirs": theirs.name,
        "tokens_per_second": rates, "ratio": ratios(rates[mine.name], rates[theirs.name]),
    }  # fmt: skip


def decodes(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """A table for every shape."""
    found: dict[str, Any] = {}
    for name in ("quick",) if args.quick else ("tiny", "100m"):
        spec = shape(name)
        folder = random_checkpoint(args.cache / f"small-{name}", spec, torch.float32)
        model = load_decoder(folder).requires_grad_(False)
        gen = torch.Generator().manual_seed(0)
        rows = found.setdefault(name, [])
        for batch in args.batch:
            job = Job(batch, args.new, torch.randint(16, spec.vocab, (batch, args.prompt), generator=gen))
            apart = check_equal(model, folder, job)
            say(f"{name}, {batch} at once (scores agree to {apart:.0e}):")
            rows.append(decode(model, folder, job, args.rounds))
        title = f"{name}: {spec.params / 1e6:.1f} M parameters, {args.prompt} + {args.new} tokens, new tokens/s"
        table = Table(box=box.SIMPLE, title=title, title_justify="left")
        for n, column in enumerate(("at once", "ours", "", "theirs", "", "ours / theirs")):
            table.add_column(column, justify="left" if n in (1, 3) else "right")
        for row in rows:
            a, b = (f"{spread(r)['median']:,.0f}" for r in row["tokens_per_second"].values())
            table.add_row(str(row["batch"]), row["ours"], a, row["theirs"], b, times(row["ratio"]))
        console.print(table)
    return found


@dataclass(frozen=True)
class Stages:
    """The model, and what both stages need."""

    folder: Path
    model: Decoder
    tokenizer: Tokenizer
    recipe: Any
    per_cell: int

    def judge(self, engine: Any) -> Callable[[], None]:
        """The judge's stage, with the recipe's settings but `per_cell` problems and one answer each."""
        suite, j = build_suite(("all",), self.per_cell), self.recipe.judge

        def run() -> None:
            with tempfile.TemporaryDirectory() as out:
                answerer = EngineAnswerer(engine, self.tokenizer, model_id="bench", model_sha256="")
                sampling = Sampling(j.temperature, j.top_p, j.max_tokens, j.budget)
                run_suite(items_of(suite.problems, MODES, 1, sampling), answerer, out)

        return run

    def rl(self, engine: Any) -> Callable[[], None]:
        """One round of answers; the same problems each time, without a curriculum."""
        c, every = self.recipe.rl, eval_set(get_tasks(("all",)), 1, seed=1)
        arms = list(dict.fromkeys((p.task, p.level) for p in every))
        spaced = [every[i * len(every) // c.prompts] for i in range(c.prompts)]

        def run() -> None:
            with tempfile.TemporaryDirectory() as out:
                source = RolloutSource(
                    engine, self.tokenizer, c, {"think": arms, "direct": arms},
                    lambda mode, arm, language, number: spaced[number % c.prompts], LANGUAGES, rows=8, seed=0,
                    folder=Path(out),
                )  # fmt: skip
                source.round(0)

        return run


def seconds(work: Callable[[], None]) -> float:
    """Of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def make_stages(args: argparse.Namespace) -> Stages:
    """The trained model, or random weights with a tokenizer of the problems' own text."""
    sets = ["rl.curriculum=false", "rl.drop='all'"]
    if args.quick:
        sets += ["rl.prompts=8", "rl.group=2", "rl.max_tokens=24", "rl.budget=16", "judge.max_tokens=24"]
        sets += ["judge.budget=16", "judge.batch=32"]
    recipe = load_recipe(TINY, sets)
    if args.model:
        folder = find_folder(args.model)
        return Stages(folder, load_decoder(folder).requires_grad_(False), Tokenizer.load(folder), recipe, args.per_cell)
    folder = random_checkpoint(args.cache / "small-tiny-stages", shape("tiny"), torch.float32)
    texts = [p.prompt + "\n" + p.trace for p in eval_set(get_tasks(("all",)), 20)]
    tokenizer = train_tokenizer(texts, recipe.tokenizer.vocab)
    return Stages(folder, load_decoder(folder).requires_grad_(False), tokenizer, recipe, args.per_cell)


def stages(args: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """A row for each of the two stages."""
    s, found = make_stages(args), []
    mine = Engine(s.model, slots=max(s.recipe.judge.batch, 256))
    for name, make in (("judge", s.judge), ("one round of RL's sampling", s.rl)):
        trials: dict[str, float] = {}
        best: tuple[float, PeerEngine] | None = None
        for dtype in ("float32", "bfloat16"):
            for batch in (64,) if args.quick else (64, 256, 512):
                if batch != 64 and dtype not in (best[1].name if best else dtype):
                    continue  # sizes are tried in the faster dtype alone
                side = PeerEngine(s.folder, dtype, batch)
                trials[side.name] = seconds(make(side))
                say(f"{name}: trial of {side.name}: {trials[side.name]:.1f} s")
                if best is None or trials[side.name] < best[0]:
                    best = (trials[side.name], side)
        assert best is not None
        theirs = best[1]
        make(mine)()
        before, theirs.tokens = mine.stats()["tokens"], 0
        took: list[list[float]] = [[], []]
        for number in range(args.rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                took[which].append(seconds(make(theirs if which else mine)))
            say(f"{name}: round {number + 1}: {took[0][-1]:.1f} s, {took[1][-1]:.1f} s")
        tokens = [(mine.stats()["tokens"] - before) / args.rounds, theirs.tokens / args.rounds]
        found.append({"stage": name, "trials": trials, "theirs": theirs.name, "seconds": took, "tokens": tokens,
                      "ratio": ratios(took[1], took[0])})  # fmt: skip
    kind = "a trained model" if args.model else "random weights: answers are as long as they may be"
    table = Table(box=box.SIMPLE, title=f"wall time of the stages, {kind}", title_justify="left")
    for n, column in enumerate(("stage", "ours, s", "tokens", "theirs, s", "tokens", "peer", "theirs / ours")):
        table.add_column(column, justify="left" if n in (0, 5) else "right")
    for row in found:
        a, b = (f"{spread(t)['median']:.2f}" for t in row["seconds"])
        n, m = (f"{t:,.0f}" for t in row["tokens"])
        table.add_row(row["stage"], a, n, b, m, row["theirs"], times(row["ratio"], 1))
    console.print(table)
    return found


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for random checkpoints")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 128], help="answers at once")
    parser.add_argument("--prompt", type=int, default=16, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5, help="times each side is timed")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both sides")
    parser.add_argument("--stages", action="store_true", help="time the judge's stage and a round of RL's sampling")
    parser.add_argument("--model", type=Path, help="a trained tiny model for --stages")
    parser.add_argument("--per-cell", type=int, default=2, help="the judge's problems per family, level and language")
    parser.add_argument("--quick", action="store_true", help="a smaller shape and short answers, to try the script")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    if args.quick:
        args.batch, args.new, args.rounds, args.per_cell = [1, 4], 16, 2, 1
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    found = {"stages": stages(args, console)} if args.stages else {"shapes": decodes(args, console)}
    if args.json:
        figures = {"environment": describe_environment(args.threads), **found}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
