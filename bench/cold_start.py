"""From nothing to the first token: a fresh process, a large model in few bits from its cache, one answer.

    python bench/cold_start.py FOLDER [--shape 1.2b] [--weights int4] [--rounds 7] [--json FILE]

FOLDER receives a random checkpoint of the shape with a tokenizer of its full vocabulary (about 2.6 GB for 1.2b; delete
it afterwards), or is an official folder that is there already. A first process packs the weights into the cache and is
reported apart. Then every round starts a new interpreter, which does what `dokja chat` does: import, `load_engine`,
read a prompt of 32 tokens, write a token. Times are of the wall from before the process is started, so the
interpreter's own start counts; files are in the page cache. `import torch` alone, timed beside it in every round, is
what no engine on torch can be without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import islice, product
from pathlib import Path
from typing import Any

import tokenizers
from rich import box
from rich.console import Console
from rich.table import Table
from tokenizers import decoders, models, pre_tokenizers

from dokja.ledger.environment import describe_environment
from shapes import random_checkpoint, shape

CHILD = """
import json, sys, time
began, times = float(sys.argv[1]), {}
def mark(name):
    times[name] = time.time() - began
mark("interpreter")
import torch
mark("torch")
from dokja.engine.api import Request
from dokja.engine.load import load_engine
mark("dokja")
engine, tokenizer, info = load_engine(sys.argv[2], weights=sys.argv[3])
mark("loaded")
ids = tokenizer.encode("한국어와 English " * 20)[:32]
events = engine.generate([Request("x", ids, 16, temperature=0.0)])
next(events)
mark("first token")
for _ in events:
    pass
mark("16 tokens")
print(json.dumps(times))
"""
MARKERS = ("[PAD]", "[BOS]", "[|endofturn|]", "[|system|]", "[|user|]", "[|assistant|]", "<think>", "</think>")
PARTS = ("interpreter", "torch", "dokja", "loaded", "first token", "16 tokens")


def large_tokenizer(vocab: int) -> str:
    """A tokenizer.json with so many tokens, EXAONE 4.0's markers among them: bytes, and pairs of what came before."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate([*MARKERS, *alphabet])}
    pairs = ((a, b) for a, b in product([*ids][len(MARKERS) :], repeat=2))
    merges: list[tuple[str, str]] = []
    while len(ids) < vocab:
        for a, b in islice(pairs, vocab - len(ids)):
            if a + b not in ids:
                ids[a + b] = len(ids)
                merges.append((a, b))
        pairs = ((a, b) for a, b in product([*ids][-600:], alphabet))
    hf = tokenizers.Tokenizer(models.BPE(ids, merges))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens(list(MARKERS))
    return hf.to_str()


def start(folder: Path, weights: str) -> dict[str, float]:
    """Seconds until each part was done, in a new process."""
    began = time.time()
    command = [sys.executable, "-c", CHILD, str(began), str(folder), weights]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def torch_alone() -> float:
    began = time.time()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="1.2b")
    parser.add_argument("--weights", default="int4", choices=("bf16", "int8", "int4"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not (args.folder / "config.json").is_file():
        spec = shape(args.shape)
        random_checkpoint(args.folder, spec)
        (args.folder / "tokenizer.json").write_text(large_tokenizer(spec.vocab), encoding="utf-8")
    packing = start(args.folder, args.weights)
    rounds, alone = [], []
    for _ in range(args.rounds):
        alone.append(torch_alone())
        rounds.append(start(args.folder, args.weights))
    table = Table("until", "median", "range", box=box.SIMPLE_HEAD, title=f"seconds, {args.shape} {args.weights}")
    found: dict[str, Any] = {"import torch alone": alone, **{part: [r[part] for r in rounds] for part in PARTS}}
    for name, seconds in found.items():
        table.add_row(name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}")
    Console().print(table)
    print(f"the first time, with packing: {packing['first token']:.1f} s")
    if args.json:
        facts = {"machine": describe_environment(1), "packing": packing, **found}
        args.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
