"""What the engine saves: a prompt's shared beginning from the cache, drafts from the text itself, a start from packed
weights.

    python bench/engine_gains.py --cache FOLDER [--shape tiny 1.2b] [--rounds 7] [--model RUN] [--json FILE]
    python bench/engine_gains.py --cache FOLDER --quick

Shapes have random weights; the tiny one runs in fp32, the 1.2B one in int4 (its checkpoint is written into FOLDER
once). The multi-token head's gain is in mtp_speed.py.

Prefix: seconds to the first token of a prompt of `--shared` tokens that nobody has seen and 16 more, and then of the
same beginning with 16 others behind it. Every round has a beginning of its own.

Look-up drafts: tokens per second of `--new` tokens after a prompt of `--shared` / 4, plain and with `--drafts` tokens a
step looked up in the sequence itself. Greedy text of random weights runs into loops sooner or later and would prove
nothing, so these models have their weights set: their layers add nothing, and their output matrix holds, at the place
of each token, the embedding of the token before it. What they write is then known, at the cost of a real step:

* copy       the prompt's document once more; all drafts are right: the most that can be had
* edited     the document with one token in 16 replaced
* loops      a random model as it is, greedily, into whatever loop it finds
* new text   tokens that are not in the prompt and never come twice: what trying costs

Every answer with drafts must equal the plain one. `--model` adds a trained model's own words: a run of
recipes/text.toml continues pieces of its held-out documents, greedily, drawn at temperature 1, and greedily where half
of the piece has been said a second time.

Cold start: seconds from starting Python to the first token of the 1.2B model in int4 through `load_engine`, the first
time (weights are packed; the kernels are compiled already) and from then on (from the packed file, which the system
still has in memory).

Each round times both sides once, in alternating order; tables have medians and ranges of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.load import find_folder, load_decoder
from dokja.engine.packed import PackedWeights
from dokja.engine.packed_cache import packed_dir
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.model.native.build import load
from shapes import random_checkpoint, shape
from workers import ratios, spread, times

WEIGHTS: dict[str, Any] = {"tiny": None, "quick": "int4", "1.2b": "int4"}
EDIT = 16
Row = dict[str, Any]


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr)


def fixed(folder: Path, dtype: torch.dtype | None) -> Decoder:
    """A model that nobody trains."""
    return load_decoder(folder, dtype).requires_grad_(False)


def prefix(name: str, model: Decoder, shared: int, rounds: int) -> Row:
    """First-token times cold and from the cache."""
    engine = Engine(model, slots=4, weights=WEIGHTS[name], prefix_tokens=4 * shared)
    gen = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(16, model.spec.vocab, (count,), generator=gen).tolist()

    def ask(prompt: list[int]) -> tuple[float, int]:
        request, began = Request("q", prompt, 1, temperature=0.0), time.perf_counter()
        (answer,) = engine.complete([request])
        return time.perf_counter() - began, answer.cached_tokens

    cold, warm, reused = [], [], 0
    for number in range(rounds + 1):
        beginning = draw(shared)
        first = ask(beginning + draw(16))
        second = ask(beginning + draw(16))
        if number:  # the first round is for allocators
            cold.append(first[0])
            warm.append(second[0])
            reused = second[1]
    return {"shape": name, "cold": cold, "warm": warm, "reused": reused, "ratio": ratios(warm, cold)}


def set_weights(model: Decoder, after: dict[int, int]) -> Decoder:
    """Makes `after[t]` the best token behind t, wherever it stands; see the module's first lines."""
    with torch.no_grad():
        for block in model.blocks:
            block.attn_norm.zero_()
            block.ffn_norm.zero_()
        model.norm.fill_(1.0)
        head = torch.zeros_like(model.embed)
        before = torch.tensor(list(after))
        head[torch.tensor(list(after.values()))] = model.embed[before]
    model.spec = replace(model.spec, tied=False)
    model.head = nn.Parameter(head, requires_grad=False)
    return model


def chains(vocab: int, document: int, new: int) -> tuple[dict[int, int], dict[str, tuple[list[int], list[int]]]]:
    """What follows what, and for each kind of text a prompt and its continuation of at least `new` tokens."""
    unused = iter((torch.randperm(vocab - 16, generator=torch.Generator().manual_seed(0)) + 16).tolist())
    after: dict[int, int] = {}
    found: dict[str, tuple[list[int], list[int]]] = {}

    def take(count: int) -> list[int]:
        return list(islice(unused, count))

    for kind in ("copy", "edited"):
        text = take(document)
        written = list(text)
        if kind == "edited":
            written[EDIT - 1 :: EDIT] = take(len(written[EDIT - 1 :: EDIT]))
        after.update(zip(written, [*written[1:], written[0]], strict=True))
        found[kind] = ([*text, written[0]], (written * 2)[1:])
    fresh = take(new + 1)
    after.update(pairwise(fresh))
    found["new text"] = ([*take(document), fresh[0]], fresh[1:])
    return after, found


Sides = tuple[Engine, Engine]


def rate(engine: Engine, requests: list[Request]) -> tuple[float, list[list[int]]]:
    """Tokens per second of all answers together, prompts read before the clock runs; and the answers."""
    written: dict[str, list[int]] = {engine.submit(r): [] for r in requests}
    while not all(written.values()):
        for event in engine.step():
            written[event.id].append(event.token)
    before, began = sum(map(len, written.values())), time.perf_counter()
    while events := engine.step():
        for event in events:
            written[event.id].append(event.token)
    tokens = sum(map(len, written.values())) - before
    return tokens / (time.perf_counter() - began), list(written.values())


def lookup(kind: str, sides: Sides, requests: list[Request], rounds: int, expected: list[int] | None = None) -> Row:
    """Rounds of both engines on the same requests, and what became of the drafts."""
    rates: tuple[list[float], list[float]] = ([], [])
    answers = [rate(engine, requests)[1] for engine in sides]
    if answers[0] != answers[1]:
        raise SystemExit(f"{kind}: the answer with drafts is not the plain one.")
    if expected is not None and any(a != expected[: len(a)] for a in answers[0]):
        raise SystemExit(f"{kind}: the model did not write what its weights were set to write.")
    before = sides[1].stats()
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            rates[side].append(rate(sides[side], requests)[0])
    stats = sides[1].stats()
    drafted, accepted = (stats[key] - before[key] for key in ("drafted", "accepted"))
    return {"text": kind, "batch": len(requests), "plain": rates[0], "drafts": rates[1], "drafted": drafted,
            "accepted": accepted, "ratio": ratios(rates[1], rates[0])}  # fmt: skip


def engines(model: Decoder, weights: Any, slots: int, drafts: int) -> Sides:
    """Plain, and with look-up, of the same weights."""
    packed = PackedWeights.of(model, weights) if weights else model
    return Engine(packed, slots=slots), Engine(packed, slots=slots, draft=drafts, drafter="lookup")


def set_texts(name: str, make: Callable[[], Decoder], args: argparse.Namespace) -> list[Row]:
    """The kinds of text that the module's first lines tell of."""
    model, rows, new = make(), [], args.new
    document = min(args.shared // 4, (model.spec.vocab - new - 17) // 4)  # all tokens of the texts are different
    for batch in args.batch:
        prompts = [torch.randint(16, model.spec.vocab, (16,), generator=torch.Generator().manual_seed(i)).tolist()
                   for i in range(batch)]  # fmt: skip
        requests = [Request(str(i), p, 2 * new, temperature=0.0) for i, p in enumerate(prompts)]
        rows.append(lookup("loops", engines(model, WEIGHTS[name], batch, args.drafts), requests, args.rounds))
    after, texts = chains(model.spec.vocab, document, new)
    model = set_weights(model, after)
    for batch in args.batch:
        sides = engines(model, WEIGHTS[name], batch, args.drafts)
        for kind, (prompt, expected) in texts.items():
            requests = [Request(str(i), prompt, new, temperature=0.0) for i in range(batch)]
            rows.append(lookup(kind, sides, requests, args.rounds, expected))
    for row in rows:
        row["shape"] = name
        say(f"{name}, {row['batch']} at once, {row['text']}: {times(row['ratio'])}")
    return rows


def trained(args: argparse.Namespace) -> list[Row]:
    """A trained model continues pieces of held-out documents, as they are and after half of the piece said again."""
    from low_bit_quality import of_run

    folder = find_folder(args.model)
    model, documents = load_decoder(folder).requires_grad_(False), of_run(args.model)
    if not documents:
        raise SystemExit(f"{args.model} is no run with held-out text.")
    part, rows = model.spec.context // 3, []
    for batch in args.batch:
        sides = engines(model, None, batch, args.drafts)
        for language, found in documents.items():
            pieces = [d[:part] for d in found if len(d) > part][:batch]
            for kind, again, temperature in (("greedy", 0, 0.0), ("drawn", 0, 1.0), ("twice, greedy", part // 2, 0.0)):
                requests = [Request(str(i), [*p, *p[:again]], part, temperature=temperature, seed=i)
                            for i, p in enumerate(pieces)]  # fmt: skip
                row = lookup(f"{language}, {kind}", sides, requests, args.rounds)
                rows.append({**row, "shape": "trained"})
    return rows


def cold_start(folder: Path, rounds: int, threads: int) -> Row:
    """Seconds from starting Python to the first token; the first time, and then. `parts`: of the last time."""
    child = (
        "import sys, time; began = time.perf_counter()\n"
        "import torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from dokja.engine.api import Request\n"
        "from dokja.engine.load import load_engine\n"
        "imported = time.perf_counter()\n"
        "engine = load_engine(sys.argv[1], weights='int4', slots=1)[0]\n"
        "loaded = time.perf_counter()\n"
        "engine.complete([Request('q', list(range(16, 32)), 1, temperature=0.0)])\n"
        "print(imported - began, loaded - imported, time.perf_counter() - loaded, flush=True)\n"
    )
    shutil.rmtree(packed_dir(), ignore_errors=True)
    took, parts = [], ""
    for _ in range(rounds + 1):
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", child, str(folder), str(threads)], stdout=subprocess.PIPE) as one:
            assert one.stdout is not None
            parts = one.stdout.readline().decode()
            took.append(time.perf_counter() - began)
        if one.returncode:
            raise SystemExit(f"The start of {folder} failed.")
        say(f"cold start: {took[-1]:.2f} s")
    names = ("imports", "loading", "first token")
    return {"first": took[0], "again": took[1:], "parts": dict(zip(names, map(float, parts.split()), strict=True))}


def show(found: dict[str, Any], console: Console) -> None:
    """A table for each question that was asked."""

    def table(title: str, columns: tuple[str, ...], left: int) -> Table:
        made = Table(box=box.SIMPLE, title=title, title_justify="left")
        for n, column in enumerate(columns):
            made.add_column(column, justify="left" if n < left else "right")
        return made

    made = table("first token of a prompt whose beginning is known",
                 ("shape", "cold, s", "from the cache, s", "tokens reused", "share of the cold time"), 1)  # fmt: skip
    for row in found["prefix"]:
        r = row["ratio"]
        cold, warm = (f"{spread(row[key])['median']:.4f}" for key in ("cold", "warm"))
        share = f"{r['median']:.1%} ({r['min']:.1%} – {r['max']:.1%})"
        made.add_row(row["shape"], cold, warm, f"{row['reused']:,}", share)
    if found["prefix"]:
        console.print(made)
    made = table("drafts looked up in the text, tokens/s",
                 ("model", "text", "at once", "plain", "drafts", "right", "with / without drafts"), 2)  # fmt: skip
    for row in found["lookup"]:
        plain, drafts = (f"{spread(row[key])['median']:,.1f}" for key in ("plain", "drafts"))
        right = f"{row['accepted'] / row['drafted']:.0%} of {row['drafted']:,}" if row["drafted"] else "none tried"
        made.add_row(row["shape"], row["text"], str(row["batch"]), plain, drafts, right, times(row["ratio"]))
    if found["lookup"]:
        console.print(made)
    if start := found.get("cold_start"):
        again = spread(start["again"])
        console.print(
            f"Python to first token, int4: {start['first']:.2f} s the first time, then {again['median']:.2f} s "
            f"({again['min']:.2f} – {again['max']:.2f}); the last one: "
            + ", ".join(f"{name} {took:.2f} s" for name, took in start["parts"].items())
        )


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for random checkpoints")
    parser.add_argument("--shape", nargs="+", choices=["tiny", "1.2b"], default=["tiny", "1.2b"])
    parser.add_argument("--shared", type=int, default=2048, help="tokens of the shared beginning")
    parser.add_argument("--new", type=int, default=256, help="tokens to write with drafts")
    parser.add_argument("--drafts", type=int, default=8, help="tokens looked up a step, at most")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="sequences at once with drafts")
    parser.add_argument("--rounds", type=int, default=7, help="times each side is timed")
    parser.add_argument("--model", type=Path, help="a run with held-out text, for drafts in a trained model's words")
    parser.add_argument(
        "--only", nargs="+", choices=["prefix", "lookup", "start"], default=["prefix", "lookup", "start"]
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few tokens, to try the script")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    if args.quick:
        args.shape, args.shared, args.new, args.batch, args.rounds = ["quick"], 256, 48, [1, 2], 2
    os.environ["DOKJA_CACHE"] = str((args.cache / "dokja").resolve())  # its packed weights are made anew
    torch.set_num_threads(args.threads)
    found: dict[str, Any] = {"prefix": [], "lookup": []}
    for name in args.shape:
        long = name == "tiny"  # whose own context holds no long prompt
        folder = args.cache / (f"{name}-long" if long else f"exaone4-{name}")
        random_checkpoint(folder, shape(name, 8192 if long else None))
        dtype = torch.bfloat16 if WEIGHTS[name] else None
        make = partial(fixed, folder, dtype)
        if "prefix" in args.only:
            found["prefix"].append(prefix(name, make(), args.shared, args.rounds))
        if "lookup" in args.only:
            found["lookup"] += set_texts(name, make, args)
        if "start" in args.only and WEIGHTS[name] and load("wide") and load("pack"):
            found["cold_start"] = cold_start(folder, args.rounds, args.threads)
    if args.model and "lookup" in args.only:
        found["lookup"] += trained(args)
    show(found, Console(highlight=False, width=None if sys.stdout.isatty() else 110))
    if args.json:
        figures = {"environment": describe_environment(args.threads), **found}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
