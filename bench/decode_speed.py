"""Reading and writing speed of a large model on the CPU: dokja, transformers and llama.cpp, taking turns in one run.

    pip install llama-cpp-python gguf       # in an environment of its own; compiles for a quarter of an hour
    python bench/decode_speed.py --cache FOLDER --llama-python PATH [--rounds 5] [--json FILE] [--svg FILE]
    python bench/decode_speed.py --cache FOLDER --quick       # a tiny shape, to try the script itself

What is compared: tokens per second of a random checkpoint of EXAONE 4.0 1.2B's shape, which is written into FOLDER once
(with its GGUF files and packed weights 12 GB): `prefill`, from asking to the first token of one prompt of 512 or 2048
tokens, and `decode`, steps after prompts of `--prompt` tokens were read, for 1, 8 or 32 sequences. No prompt comes
twice to an engine. Everybody takes the best token and uses `--threads` threads.

* dokja: `Engine(weights="bf16" | "int8" | "int4")`; int4 keeps the output matrix in int8.
* transformers: `generate` in bf16, sdpa, its usual cache.
* llama.cpp: `llama_decode`, one token of each sequence a batch, its defaults (flash attention as it chooses, a cache in
  f16). The BF16 file is written by dokja, Q8_0 and Q4_0 by llama_model_quantize with its defaults; what it makes of the
  output matrix is told below the table. Weights are read into memory, not mapped.

Both peers get large pages too (malloc's and torch's own switches); dokja asks for them itself. Each engine is a process
that stays loaded as long as memory allows and sleeps while others have their turn; what a sleeping engine used of a
core is printed. Each round gives every engine a turn for every job, in an order that turns by one each round; a round's
ratio is of its own figures, and the tables have medians and ranges.

`of limit` is bytes a step must read (weights once, cached keys and values of every sequence) times steps per second
over what the memory gave just before and after the turn: a compiled loop on as many threads, in large pages.

Then the same decode of one sequence, quiet and with one foreign process computing without end, in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from decode_report import bars, show, terminal
from dokja.errors import ConfigError
from dokja.ledger.environment import describe_environment, version
from dokja.model.spec import ModelSpec
from shapes import random_checkpoint, shape
from workers import (
    Memory,
    Sleepers,
    Worker,
    WorkerError,
    foreign_core,
    make_room,
)

ENGINES = ("dokja int4", "dokja int8", "dokja bf16", "transformers bf16", "llama.cpp Q4_0", "llama.cpp Q8_0",
           "llama.cpp BF16")  # fmt: skip
BITS = {"bf16": (16.0, 16.0), "int8": (8.0, 8.0), "int4": (4.5, 8.0)}
"""Of a weight, and of a weight of the output matrix (engine/wide.py)."""
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
INSTALL = (
    "llama.cpp is left out: {}. Install llama-cpp-python into an environment of its own (pip compiles it for a quarter "
    "of an hour) and name its Python with --llama-python; gguf belongs beside dokja (pip install 'dokja[gguf]')."
)
GB = 1e9
MOST = 20.0
"""Seconds after which a decode ends early."""


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr)


@dataclass(frozen=True)
class Job:
    """One thing to time: a prompt of `length` tokens, or `steps` of `batch` sequences after prompts of `length`."""

    name: str
    do: str
    length: int
    batch: int = 1
    steps: int = 0


@dataclass
class Side:
    """An engine, the bytes of weights that a step reads, what it needs to load, and its figures by job and round."""

    name: str
    worker: Worker
    bytes: float
    needs: float
    rates: dict[str, list[float]] = field(default_factory=dict)
    limits: dict[str, list[float]] = field(default_factory=dict)
    busy: list[tuple[float, float]] = field(default_factory=list)


class Field:
    """All engines of a run."""

    def __init__(self, sides: list[Side], spec: ModelSpec, memory: Memory):
        self.sides, self.spec, self.memory = sides, spec, memory
        self.workers = [s.worker for s in sides]
        self.sleepers = Sleepers(self.workers)
        self.random = Random(0)

    def prompts(self, batch: int, length: int) -> list[list[int]]:
        """Tokens that nobody has seen."""
        return [[self.random.randrange(16, self.spec.vocab) for _ in range(length)] for _ in range(batch)]

    def load(self, side: Side) -> bool:
        """Whether the engine had to be loaded; others make room for it where they must."""
        if side.worker.process is not None:
            return False
        began = time.monotonic()
        make_room(self.workers, side.worker, int(side.needs + 1.5 * GB))
        side.worker.start()
        side.worker.ask(do="prefill", prompts=self.prompts(1, 64))  # allocators and caches settle
        say(f"{side.name} loaded in {time.monotonic() - began:.0f} s")
        return True

    def turn(self, side: Side, job: Job, prompts: list[list[int]], steps: int | None = None) -> float:
        """Tokens per second."""
        self.load(side)
        with self.sleepers.during(side.worker):
            count = job.steps if steps is None else steps
            told = side.worker.ask(do=job.do, prompts=prompts, steps=count, most=MOST)
        return float(told["tokens"] / told["seconds"])

    def step_bytes(self, side: Side, job: Job) -> float:
        """What one step of a decode reads, in the middle of it. Keys and values have 16 bits with everybody."""
        s = self.spec
        per_token = 4 * s.kv_heads * s.head_dim * s.layers
        return side.bytes + job.batch * (job.length + job.steps / 2) * per_token

    def round(self, number: int, jobs: list[Job]) -> None:
        """Every job with every engine."""
        order = [self.sides[(i + number) % len(self.sides)] for i in range(len(self.sides))]
        for job in jobs:
            before = self.memory.read()
            for side in order:
                if self.load(side):
                    before = self.memory.read()
                rate = self.turn(side, job, self.prompts(job.batch, job.length))
                after = self.memory.read()
                side.rates.setdefault(job.name, []).append(rate)
                if job.do == "decode":
                    read = self.step_bytes(side, job) * rate / job.batch
                    side.limits.setdefault(job.name, []).append(read / GB / ((before + after) / 2))
                before = after
            say(f"round {number + 1}: {job.name}: " + ", ".join(f"{s.name} {s.rates[job.name][-1]:.1f}" for s in order))

    def disturbed(self, number: int, job: Job) -> None:
        """One sequence, quiet and beside a foreign process, by turns."""
        for side in [s for s in self.sides if not s.name.startswith("transformers")]:
            quiet = self.turn(side, job, self.prompts(1, job.length))
            with foreign_core():
                busy = self.turn(side, job, self.prompts(1, job.length))
            side.busy.append((quiet, busy))
            say(f"busy core, round {number + 1}: {side.name}: {busy:.1f} of {quiet:.1f}")


def gguf_files(folder: Path, python: str, threads: int, log: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The three GGUF files of a checkpoint, and what is to be told of them. WorkerError where they cannot be made."""
    from dokja.proof.gguf import export_gguf

    files = {name: folder / f"{name.lower()}.gguf" for name in ("BF16", "Q8_0", "Q4_0")}
    if not files["BF16"].exists():
        export_gguf(folder, files["BF16"], "bf16")
    wanted = {n: str(p) for n, p in files.items() if not p.exists()}
    settings = {"engine": "quantise", "path": str(files["BF16"]), "threads": threads, "targets": wanted}
    worker = Worker("quantising", command(python, settings), log)
    try:
        told = worker.start()
    finally:
        worker.close()
    return files, {"llama_cpp_python": told["version"]}


def read_bytes(path: Path) -> tuple[float, str]:
    """Bytes of a GGUF file that a step reads, and the type of its output matrix."""
    import gguf

    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    own = "output.weight" in tensors
    last = tensors["output.weight" if own else "token_embd.weight"]
    return sum(float(t.n_bytes) for n, t in tensors.items() if not (own and n == "token_embd.weight")), (
        last.tensor_type.name
    )


def command(python: str, settings: dict[str, Any]) -> list[str]:
    """What starts an engine's process."""
    return [python, str(Path(__file__).with_name("decode_engines.py")), json.dumps(settings)]


def make_sides(
    folder: Path, spec: ModelSpec, args: argparse.Namespace, notes: list[str], facts: dict[str, Any]
) -> list[Side]:
    """The engines that are there; `notes` says who is not."""
    log, slots = folder / "engines.log", max(args.batch)
    output = spec.vocab * spec.width
    rest = spec.params - output * (1 if spec.tied else 2)
    sides: list[Side] = []
    environment = {
        "OMP_NUM_THREADS": str(args.threads),
        "HF_HUB_OFFLINE": "1",
        "DOKJA_CACHE": str(args.cache / "dokja"),
    }

    def add(name: str, python: str, size: float, needs: float, **settings: Any) -> None:
        large = {} if name.startswith("dokja") else LARGE_PAGES
        told = {"threads": args.threads, "slots": slots, **settings}
        sides.append(Side(name, Worker(name, command(python, told), log, {**environment, **large}), size, needs))

    files: dict[str, Path] = {}
    if any(name.startswith("llama.cpp") for name in args.engines):
        try:
            files, told = gguf_files(folder, args.llama_python, args.threads, log)
            facts["llama.cpp"] = told
        except (WorkerError, ConfigError) as error:
            notes.append(INSTALL.format(str(error).splitlines()[-1].rstrip(".")))
    for name in args.engines:
        kind, bits = name.split()
        if kind == "dokja":
            inner, last = BITS[bits]
            size = (rest * inner + output * last) / 8
            add(name, sys.executable, size, 2 * output + size, engine="dokja", path=str(folder), bits=bits)
        elif kind == "transformers" and version("transformers") is None:
            notes.append("transformers is left out: it is not installed. Install it: pip install transformers.")
        elif kind == "transformers":
            add(name, sys.executable, 2.0 * (rest + output), 4.0 * spec.params, engine=kind, path=str(folder))
        elif files:
            size, last_type = read_bytes(files[bits])
            facts["llama.cpp"][f"{bits} output matrix"] = last_type
            add(name, args.llama_python, size, 1.5 * size, engine=kind, path=str(files[bits]))
    return sides


def check_same(contest: Field, count: int = 6) -> dict[str, int]:
    """How often each engine's best token after a prompt is the first bf16 one's; raises where the 16-bit ones are of
    different models."""
    prompts = contest.prompts(count, 24)
    found: dict[str, list[int]] = {}
    for side in contest.sides:
        contest.load(side)
        found[side.name] = side.worker.ask(do="next", prompts=prompts)["tokens"]
    exact = [name for name in found if name.lower().endswith("bf16")]
    first = found[exact[0] if exact else next(iter(found))]
    same = {name: sum(a == b for a, b in zip(first, tokens, strict=True)) for name, tokens in found.items()}
    if any(same[name] < count / 2 for name in exact):
        raise SystemExit(f"The engines do not run the same model: best tokens equal in {same} of {count} prompts.")
    return {name: equal for name, equal in same.items()} | {"of": count}


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the checkpoint and its GGUF files")
    parser.add_argument("--llama-python", default=sys.executable, help="Python of an environment with llama-cpp-python")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="ENGINE",
                        help=f"some of {', '.join(map(repr, ENGINES))}")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="times each engine is timed")
    parser.add_argument("--prefill", type=int, nargs="*", default=[512, 2048], help="tokens of the prompts to read")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="sequences of a decode")
    parser.add_argument("--prompt", type=int, default=32, help="tokens before a decode")
    parser.add_argument("--steps", type=int, default=32, help="steps of one sequence; fewer of more")
    parser.add_argument("--threads", type=int, default=2, help="of every engine")
    parser.add_argument("--no-busy", action="store_true", help="leave out the foreign core")
    parser.add_argument("--quick", action="store_true", help="a tiny shape and few tokens, to try the script")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--svg", type=Path, help="file to draw the shares of the limit to")
    args = parser.parse_args()
    if args.quick:
        args.prefill, args.batch, args.steps, args.rounds = [64, 128], [1, 2, 4], 8, min(args.rounds, 2)
    name = "quick" if args.quick else "1.2b"
    spec, notes, facts = shape(name), [], {}
    folder = random_checkpoint(args.cache / f"exaone4-{name}", spec)
    jobs = [Job(f"prefill {n}", "prefill", n) for n in args.prefill]
    jobs += [Job(f"decode {b}", "decode", args.prompt, b, max(args.steps // (1 + b // 8), 6)) for b in args.batch]
    sides, memory = make_sides(folder, spec, args, notes, facts), Memory(folder, args.threads)
    contest = Field(sides, spec, memory)

    try:
        same = check_same(contest)
        for job in jobs:  # caches grow to their size
            for side in sides:
                contest.turn(side, job, contest.prompts(job.batch, job.length), min(job.steps, 2))
        for number in range(args.rounds):
            contest.round(number, jobs)
        for number in range(0 if args.no_busy else args.rounds):
            contest.disturbed(number, next(j for j in jobs if j.do == "decode" and j.batch == min(args.batch)))
        room = {s.name: s.worker.memory() for s in sides}
    finally:
        memory.close()
        for side in sides:
            side.worker.close()
    figures = {
        "environment": describe_environment(args.threads), "parameters": spec.params, "shape": spec.to_dict(),
        "jobs": [vars(j) for j in jobs], "memory_gb_per_second": memory.found, "same_first_tokens": same,
        "notes": notes, "peers": facts, "asleep": contest.sleepers.worst,
        "engines": {
            s.name: {"bytes_per_step": s.bytes, "memory": room[s.name], "tokens_per_second": s.rates,
                     "of_limit": s.limits, "quiet_and_disturbed": s.busy, **s.worker.facts} for s in sides
        },
    }  # fmt: skip
    show(figures, terminal())
    if args.svg:
        args.svg.write_text(bars(figures), encoding="utf-8")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
