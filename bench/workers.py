"""Engines in processes of their own, for benches that give each a short turn in every round (needs nothing of dokja).

Only one works at a time; the others wait in a read and use no core, which `Sleepers` checks. Requests and answers are
JSON objects, one a line, so that the two sides may run under different Pythons.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


class WorkerError(RuntimeError):
    """A worker ended, or answered with an error; the text says which and why."""


class Worker:
    """A process that answers requests; started at the first one, and again after `close`."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None):
        self.name, self.command, self.log = name, list(command), log
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}
        self.used = 0.0
        """When it last answered, for whoever needs its memory."""

    def start(self) -> dict[str, Any]:
        """Starts it unless it runs -> what it says of itself when it is ready."""
        if self.process is None:
            with self.log.open("a") as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    env=self.environment,
                )  # fmt: skip
            self.facts = self._hear()
        return self.facts

    def ask(self, **told: Any) -> dict[str, Any]:
        """One request -> its answer. Raises WorkerError where there is none."""
        self.start()
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # _hear says why it ended
            self.process.stdin.write(json.dumps(told) + "\n")
            self.process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        self.used = time.monotonic()
        if not line:
            self.close()
            told = self.log.read_text(errors="replace").splitlines()[-3:]
            raise WorkerError(f"{self.name} ended: " + "\n".join(told))
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return dict(answer)

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far; 0 where it does not run."""
        if self.process is None:
            return 0.0
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
        return 0.0

    def memory(self) -> int:
        """Bytes that it holds and nobody else does, roughly."""
        if self.process is None:
            return 0
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        return 0

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Sleepers:
    """Checks that who waits uses no core: `worst` has, by name, the largest share of one in somebody else's turn."""

    def __init__(self, workers: Sequence[Worker]):
        self.workers, self.worst = workers, {w.name: 0.0 for w in workers}

    @contextlib.contextmanager
    def during(self, turn: Worker) -> Iterator[None]:
        """Watches the others while `turn` works."""
        others = [w for w in self.workers if w is not turn and w.process is not None]
        before, began = [w.cpu_seconds() for w in others], time.monotonic()
        yield
        took = time.monotonic() - began
        for worker, spent in zip(others, before, strict=True):
            if took > 0.2:
                share = (worker.cpu_seconds() - spent) / took
                self.worst[worker.name] = max(self.worst[worker.name], share)


class Memory:
    """The machine's own limit: bytes per second of plain reading, by a small C++ program that sleeps in between."""

    def __init__(self, folder: Path, threads: int, megabytes: int = 512, seconds: float = 0.4):
        source, program = Path(__file__).with_name("read_speed.cpp"), folder / "read_speed"
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            raise SystemExit("Measuring the memory needs a C++ compiler. Install g++.")
        flags = ["-O3", "-march=native", "-std=c++17", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
        self.process = subprocess.Popen(
            [str(program), str(threads), str(megabytes), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.found: list[float] = []

    def read(self) -> float:
        """GB/s now."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.found.append(float(self.process.stdout.readline()))
        return self.found[-1]

    def close(self) -> None:
        """Ends the program."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def foreign_core() -> Iterator[None]:
    """Another program computes meanwhile, without end and pinned nowhere."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        yield
    finally:
        process.kill()
        process.wait()


def serve(begin: Callable[[dict[str, Any]], tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]]) -> None:
    """The worker's side: `begin` gets the settings of the command line and returns what it says when it is ready, and
    what answers a request. What libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    try:
        facts, answer = begin(json.loads(sys.argv[1]))
    except ImportError as error:
        return say({"error": f"{error.name or error} is not installed"})
    say(facts)
    for line in sys.stdin:
        say(answer(json.loads(line)))


def available_bytes() -> int:
    """Memory that could be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def make_room(workers: Sequence[Worker], wanted: Worker, needed: int) -> None:
    """Ends workers, the longest unused first, until `wanted` can start with `needed` bytes."""
    if wanted.process is not None:
        return
    loaded = sorted((w for w in workers if w.process is not None), key=lambda w: w.used)
    while loaded and available_bytes() < needed:
        loaded.pop(0).close()
        time.sleep(0.5)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Spread of the rounds' own ratios."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def times(r: Mapping[str, float], digits: int = 2) -> str:
    """`1.32 × (1.20 – 1.41)`."""
    return f"{r['median']:.{digits}f} × ({r['min']:.{digits}f} – {r['max']:.{digits}f})"
