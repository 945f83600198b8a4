"""What the multi-token head's drafts save: plain decoding beside 1, 2 and 3 drafts a step, alternating in one run.

    python bench/mtp_speed.py RELEASE [--batch 1 8] [--drafts 1 2 3] [--problems 60] [--rounds 7] [--json FILE]

What is compared: new tokens per second, prompts included in the time, of the judge's problems answered greedily
(`--temperature` for drawn answers) with `--batch` slots on the CPU in fp32, thinking and at once apart. RELEASE is a
trained model with [model.mtp], such as the run of recipes/tiny-mtp.toml. Every answer with drafts must equal the plain
one, token by token and log-probability by log-probability, or the bench stops.

Each round times every setting once, in an order that turns by one each round; a round's ratio is of its own figures,
and the table has the median and the range of the ratios. On a machine that is busy with other things `--cpu-time` (with
`--threads 1`) counts the seconds of this process instead of the clock's.

`acceptance` is the share of drafts that were right, `tokens a step` what a sequence took in a step on average, its
first token aside, and `steps` how many steps remain of plain's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from dokja.engine.answers import encode_prompt
from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.load import find_folder, load_decoder
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import LANGUAGES, eval_set
from dokja.text.chat import END, MODES, THINK_END, Mode
from dokja.text.tokenizer import Tokenizer


@dataclass
class Side:
    """One setting: its engine, what it answered, and its tokens per second by round."""

    draft: int
    engine: Engine
    answers: list[Completion]
    rates: list[float]

    def round(self, requests: list[Request], clock: Callable[[], float]) -> None:
        """Answers all requests once more and notes the rate."""
        began = clock()
        self.answers = self.engine.complete(requests)
        self.rates.append(sum(len(a.tokens) for a in self.answers) / (clock() - began))


def ask(tokenizer: Tokenizer, mode: Mode, problems: int, temperature: float, context: int) -> list[Request]:
    """Problems of the judge's kind, spread over families, levels and languages; as many tokens as the judge allows."""
    found = eval_set(get_tasks(("all",)), 1, LANGUAGES, 0)
    longest = context * 3 // 4
    close = (tokenizer.special_id(THINK_END),) if mode == "think" else ()
    requests = [
        Request(
            f"{mode}{i}", encode_prompt(problem.messages, tokenizer, None, mode == "think")[0], longest, temperature,
            seed=i, stop=(tokenizer.special_id(END),), think_budget=longest * 7 // 8 if close else None,
            think_close=close,
        )
        for i, problem in enumerate(found[:: max(1, len(found) // problems)][:problems])
    ]  # fmt: skip
    return [replace(r, max_tokens=min(longest, context - len(r.prompt))) for r in requests if len(r.prompt) < context]


def check_equal(plain: list[Completion], drafted: list[Completion], draft: int, exact: bool) -> None:
    """Raises SystemExit where an answer differs; log-probabilities bit for bit where the C++ path makes both."""
    for a, b in zip(plain, drafted, strict=True):
        if a.tokens != b.tokens or (exact and a.logprobs != b.logprobs):
            raise SystemExit(f"The answer to {a.id} with {draft} drafts is not the plain one: {a.tokens} / {b.tokens}")


def measure(
    model: Decoder, requests: list[Request], batch: int, drafts: list[int], rounds: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """Times plain decoding and every number of drafts `rounds` times; the first, untimed, checks the answers."""
    sides = [Side(d, Engine(model, slots=batch, draft=d), [], []) for d in (0, *drafts)]
    for side in sides:
        side.round(requests, clock)
        side.rates.clear()
        check_equal(sides[0].answers, side.answers, side.draft, side.engine._forward._native is not None)
    steps = [side.engine.stats()["steps"] for side in sides]
    for number in range(rounds):
        for at in range(len(sides)):
            sides[(at + number) % len(sides)].round(requests, clock)
    rows = []
    for side, own in zip(sides, steps, strict=True):
        stats = side.engine.stats()
        ratios = [a / b for a, b in zip(side.rates, sides[0].rates, strict=True)]
        rows.append(
            {
                "batch": batch,
                "draft": side.draft,
                "acceptance": stats["acceptance"],
                "tokens_a_step": 1 + stats["acceptance"] * side.draft,
                "steps": own / steps[0],
                "tokens_per_second": side.rates,
                "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            }
        )
    return rows


def show(found: list[dict[str, Any]], console: Console) -> None:
    """One row a setting."""
    table = Table(box=box.SIMPLE)
    for n, column in enumerate(
        ("mode", "batch", "drafts", "acceptance", "tokens a step", "steps", "tokens/s", "with / without drafts")
    ):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    for row in found:
        r, draft = row["ratio"], row["draft"]
        table.add_row(
            row["mode"],
            str(row["batch"]),
            str(draft or "none"),
            f"{row['acceptance']:.0%}" if draft else "",
            f"{row['tokens_a_step']:.2f}",
            f"{row['steps']:.2f} ×",
            f"{statistics.median(row['tokens_per_second']):,.0f}",
            f"{r['median']:.2f} × ({r['min']:.2f} – {r['max']:.2f})" if draft else "",
        )
    console.print(table)


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("release", type=Path, help="a trained model with a multi-token head")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="slots")
    parser.add_argument("--drafts", type=int, nargs="+", default=[1, 2, 3], help="drafts a step")
    parser.add_argument("--problems", type=int, default=60, help="answers of a round, in each mode")
    parser.add_argument("--rounds", type=int, default=7, help="times each setting is timed")
    parser.add_argument("--temperature", type=float, default=0.0, help="of the answers")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--cpu-time", action="store_true", help="count this process's own seconds")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    folder = find_folder(args.release)
    model, tokenizer = load_decoder(folder).requires_grad_(False), Tokenizer.load(folder)
    spec, found = model.spec, []
    for mode in MODES:
        requests = ask(tokenizer, mode, args.problems, args.temperature, spec.context)
        for batch in args.batch:
            rows = measure(model, requests, batch, args.drafts, args.rounds, clock)
            found += [{"mode": mode, **row} for row in rows]
            print(f"{mode}, batch {batch}: measured", file=sys.stderr)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    cost = (spec.mtp_params + spec.vocab * spec.width) / spec.active_params
    console.print(
        f"{spec.layers} layers, {spec.params / 1e6:.2f} M parameters, {spec.mtp_params / 1e6:.2f} M of them the "
        f"head's; a draft multiplies with {cost:.0%} of what a plain token does"
    )
    show(found, console)
    if args.json:
        figures = {"environment": describe_environment(args.threads), "rows": found}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
