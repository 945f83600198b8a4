"""The server under load: 1 to 128 streams at once, beside its own engine without a server, and beside llama.cpp's.

    python bench/serve_load.py MODEL [MODEL ...] [--streams 1 8 32 128] [--seconds 20] [--rounds 3] [--json FILE]
        [--llama-server PROGRAM | --llama-python PYTHON] [--soak 10000]

MODEL is a release or run folder, or a shape of bench/shapes.py by name ("100m": random weights, written to --cache).
Every stream asks, reads its answer to the end and asks again until the time is over, so that as many answers as there
are streams are always at work. Told are, of the time after a second of warming up:

* tokens per second, as the usage of the answers counts them, and the times to the first token and between two arrivals
  of tokens (50th and 99th percentile), as a client sees them;
* the same requests given to the engine in a process of its own, with no server around it, as many at a time; a round
  times both, one after the other, in alternating order, and the overhead is the median of the rounds' ratios;
* seconds of a core that server and engine took for a thousand tokens.

The client is this process: it speaks HTTP by hand, so that it costs little beside what it measures, but on a machine
with few cores it takes its share. `--soak N` asks N short questions, 32 at a time, and tells the memory of both
processes on the way. llama.cpp gets our GGUF export of the same weights (16 bits) and the questions as plain texts;
its own server is `--llama-server`; `--llama-python` is an environment with llama-cpp-python[server], which answers one
request at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from workers import TICKS, Worker

SRC = Path(__file__).parent.parent / "src"
WARM = 1.0
"""Seconds at the beginning of a turn that do not count."""
WORDS = "three four seven times plus minus apples trains water 서울 날씨 오늘 얼마 몇 시간 거리 속도 물 사과".split()  # noqa: SIM905


def question(number: int, words: int) -> str:
    """Question `number`, unlike the others from its beginning on, so that no prefix is known already."""
    drawn = random.Random(number)
    return " ".join([str(number), *(drawn.choice(WORDS) for _ in range(words))])


@dataclass
class Turn:
    """What one turn of load found."""

    tokens: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    answers: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds if self.seconds else 0.0


class Load:
    """Streams against one server. `body` makes the body of a request from its number."""

    def __init__(self, url: str, path: str, body: Callable[[int], dict[str, Any]]) -> None:
        self.host, port = re.search(r"//([^:/]+):(\d+)", url).groups()  # type: ignore[union-attr]
        self.port, self.path, self.body, self.number = int(port), path, body, 0

    def run(self, streams: int, seconds: float) -> Turn:
        """As many streams at once, for so long."""
        return asyncio.run(self._run(streams, seconds))

    def count(self, streams: int, requests: int) -> Turn:
        """So many requests, as many at once."""
        return asyncio.run(self._run(streams, None, requests))

    async def _run(self, streams: int, seconds: float | None, requests: int = 1 << 60) -> Turn:
        turn, begin = Turn(), time.perf_counter()
        start, end = (begin + WARM, begin + WARM + seconds) if seconds is not None else (begin, float("inf"))
        last = self.number + requests

        async def stream() -> None:
            while time.perf_counter() < end and self.number < last:
                self.number += 1
                try:
                    await self._ask(turn, self.body(self.number), start, end)
                except (OSError, asyncio.IncompleteReadError):
                    turn.failed += 1

        await asyncio.gather(*(stream() for _ in range(streams)))
        turn.seconds = seconds if seconds is not None else time.perf_counter() - begin
        return turn

    async def _ask(self, turn: Turn, body: dict[str, Any], start: float, end: float) -> None:
        """One request. Tokens are counted as they arrive: events with a delta in them, until the usage tells better."""
        raw = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = f"POST {self.path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}connection: close\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw)
            asked, before, arrivals, text = time.perf_counter(), None, [], b""
            while data := await reader.read(1 << 16):
                now = time.perf_counter()
                text += data
                if b'"delta":{"' in data or b'"text":"' in data:
                    if before is not None:
                        arrivals.append((now, now - before))
                    elif now >= start:
                        turn.first.append(now - asked)
                    before = now
        finally:
            writer.close()
        if before is None or not text.startswith(b"HTTP/1.1 200"):
            turn.failed += 1
            return
        events = [t for t, _ in arrivals]
        told = re.findall(rb'"completion_tokens": ?(\d+)', text)
        tokens = int(told[-1]) if told else len(re.findall(rb'"text": ?"', text))
        inside = sum(start <= t <= end for t in events)
        # an answer that stands across an end of the turn counts by its share of arrivals
        turn.tokens += round(tokens * inside / len(events)) if events else 0
        turn.between += [gap for t, gap in arrivals if start <= t <= end]
        turn.answers += start <= before <= end


# --- the engine alone ------------------------------------------------------------------------------------------------


def alone(told: dict[str, Any]) -> None:
    """The process of the engine alone: reads {"streams", "seconds", "number"}, answers {"tokens", "seconds"}."""
    import torch

    from dokja.serve.asking import Ask, plan
    from dokja.serve.facts import Facts
    from dokja.serve.worker import load
    from dokja.text.chat import Message

    options = {"slots": told["slots"], "weights": None if told["weights"] == "fp32" else told["weights"]}
    engine, info = load({"kind": "model", "path": told["path"], "options": options}, 0)
    torch.set_num_threads(told["threads"])  # alone it may have all of them, whatever a server would leave free
    facts = Facts.from_info(info)
    print(json.dumps({"context": facts.context}), flush=True)

    def request(number: int) -> Any:
        ask = Ask(
            [Message("user", question(number, told["words"]))], {}, max_tokens=length(number, told["new"]), seed=number
        )
        return plan(ask, facts, str(number)).request

    for line in sys.stdin:
        job = json.loads(line)
        number, running, tokens = job["number"], 0, 0
        begin = time.perf_counter()
        start, end, counted = begin + WARM, begin + WARM + job["seconds"], 0.0
        while (now := time.perf_counter()) < end:
            while running < job["streams"]:
                number, running = number + 1, running + 1
                engine.submit(request(number))
            done: list[Any] = []
            found = len(engine.step(done))
            running -= len(done)
            if now >= start:
                tokens, counted = tokens + found, counted + time.perf_counter() - now
        left = True
        while left:  # what still runs is finished outside the time
            left = bool(engine.step()) or engine.stats()["waiting"] > 0
        print(json.dumps({"tokens": tokens, "seconds": counted, "number": number}), flush=True)


# --- servers ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def process(argv: Sequence[str], url: str, log: Path, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it answers; ended at the end. Raises SystemExit where it never does."""
    env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": str(threads)}
    with log.open("wb") as out:
        popen = subprocess.Popen(list(argv), stdout=out, stderr=out, env=env)
    try:
        for _ in range(1200):
            if popen.poll() is not None:
                raise SystemExit(f"{argv[0]} ended:\n{log.read_text()[-2000:]}")
            if _answers(url):
                break
            time.sleep(0.5)
        yield popen
    finally:
        popen.terminate()
        try:
            popen.wait(90)
        except subprocess.TimeoutExpired:
            popen.kill()


def _answers(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        return bool(urllib.request.urlopen(url, timeout=2).status == 200)
    except (OSError, urllib.error.URLError):
        return False


def processes(popen: subprocess.Popen[bytes]) -> dict[str, int]:
    """The pids of the server and of its engine."""
    found = {"server": popen.pid}
    for child in Path(f"/proc/{popen.pid}/task/{popen.pid}/children").read_text().split():
        if "dokja.serve.worker" in Path(f"/proc/{child}/cmdline").read_text():
            found["engine"] = int(child)
    return found


def core_seconds(pid: int) -> float:
    """What a process has used of the cores."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def megabytes(pid: int) -> float:
    """The memory of a process that is its own (no mapped files)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


# --- one model -------------------------------------------------------------------------------------------------------


def length(number: int, new: int) -> int:
    """The most tokens of answer `number`: `new` on average, and different, so that streams do not march in step."""
    return random.Random(-number).randint(new // 2, new + new // 2)


def chat_body(args: argparse.Namespace, new: int | None = None) -> Callable[[int], dict[str, Any]]:
    """Bodies of chats, as `alone` asks them."""
    return lambda number: {
        "model": "m", "messages": [{"role": "user", "content": question(number, args.words)}], "stream": True,
        "stream_options": {"include_usage": True}, "max_tokens": new or length(number, args.new), "seed": number,
    }  # fmt: skip


def text_body(args: argparse.Namespace) -> Callable[[int], dict[str, Any]]:
    """Bodies of plain texts, for llama.cpp."""
    return lambda number: {
        "model": "m", "prompt": question(number, args.words), "stream": True, "max_tokens": length(number, args.new),
        "seed": number, "stream_options": {"include_usage": True}, "temperature": 1.0,
    }  # fmt: skip


def measure(path: Path, args: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """All turns of one model."""
    settings = {"path": str(path), "slots": args.slots, "threads": args.threads, "new": args.new, "words": args.words}
    settings["weights"] = args.weights
    command = [sys.executable, str(Path(__file__)), "--alone", json.dumps(settings)]
    engine = Worker("engine alone", command, folder / "alone.log", {"PYTHONPATH": str(SRC)})
    port = free_port()
    argv = [sys.executable, "-m", "dokja", "serve", f"m={path}", "--port", str(port), "--no-pages"]
    argv += ["--slots", str(args.slots), "--queue", "4096", "--weights", args.weights]
    url = f"http://127.0.0.1:{port}"
    turns: dict[int, list[dict[str, Any]]] = {n: [] for n in args.streams}
    with process(argv, f"{url}/health/ready", folder / "server.log", args.threads) as popen:
        pids, load = processes(popen), Load(url, "/v1/chat/completions", chat_body(args))
        engine.start()
        load.run(min(args.slots, max(args.streams)), 1.0)  # caches grow to their size
        for number in range(args.rounds):
            for streams in args.streams:
                found: dict[str, Any] = {}
                for side in ("server", "alone") if number % 2 == 0 else ("alone", "server"):
                    if side == "alone":
                        told = engine.ask(streams=streams, seconds=args.seconds, number=10_000_000 * (number + 1))
                        found["alone"] = told["tokens"] / told["seconds"]
                        continue
                    before = {name: core_seconds(pid) for name, pid in pids.items()}
                    turn = load.run(streams, args.seconds)
                    cost = {name: core_seconds(pid) - before[name] for name, pid in pids.items()}
                    share = max(turn.tokens, 1) * (args.seconds + WARM) / args.seconds / 1000
                    found |= told_of(turn) | {"core_seconds": {name: c / share for name, c in cost.items()}}
                found["overhead"] = 1 - found["rate"] / found["alone"]
                turns[streams].append(found)
                console.print(f"  {streams} streams: {found['rate']:.0f} tokens/s, alone {found['alone']:.0f}")
        engine.close()
        memory = soak(load, args, pids) if args.soak else []
    figures: dict[str, Any] = {"turns": turns, "memory": memory}
    if args.llama_server or args.llama_python:
        figures["llama.cpp"] = measure_llama(path, args, folder)
    return figures


def told_of(turn: Turn) -> dict[str, Any]:
    """Figures of a turn; times in milliseconds."""
    return {
        "rate": turn.rate, "answers": turn.answers, "failed": turn.failed,
        "first": percentiles(turn.first), "between": percentiles(turn.between),
    }  # fmt: skip


def percentiles(seconds: Sequence[float]) -> list[float] | None:
    """50th and 99th, in milliseconds."""
    if len(seconds) < 2:
        return None
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return [1000 * cuts[49], 1000 * cuts[98]]


def soak(load: Load, args: argparse.Namespace, pids: dict[str, int]) -> list[dict[str, float]]:
    """Memory after every twentieth of the short requests."""
    body, found = load.body, []
    load.body = chat_body(args, new=4)
    for part in range(20):
        turn = load.count(32, args.soak // 20)
        found.append({"requests": (part + 1) * (args.soak // 20), "failed": turn.failed}
                     | {name: megabytes(pid) for name, pid in pids.items()})  # fmt: skip
    load.body = body
    return found


def measure_llama(path: Path, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """llama.cpp's server with our export of the same weights, or why there is none."""
    from dokja.engine.load import find_folder
    from dokja.errors import ConfigError
    from dokja.proof.gguf import export_gguf

    file, port = folder / "m.gguf", free_port()
    try:
        export_gguf(find_folder(path), file, "f16")
    except ConfigError as error:
        return {"refused": str(error)}
    context = str(args.slots * (2 * args.new + 8 * args.words + 64))
    if args.llama_server:
        argv = [args.llama_server, "-m", str(file), "--port", str(port), "-c", context, "-np", str(args.slots)]
        argv += ["-t", str(args.threads)]
        name = "llama-server"
    else:
        argv = [args.llama_python, "-m", "llama_cpp.server", "--model", str(file), "--port", str(port)]
        argv += ["--n_ctx", "1024", "--n_threads", str(args.threads), "--interrupt_requests", "false"]
        name = "llama-cpp-python (one request at a time)"
    url = f"http://127.0.0.1:{port}"
    with process(argv, f"{url}/v1/models", folder / "llama.log", args.threads):
        load = Load(url, "/v1/completions", text_body(args))
        load.run(1, 1.0)
        turns = {n: [told_of(load.run(n, args.seconds)) for _ in range(args.rounds)] for n in args.streams}
    return {"name": name, "turns": turns}


# --- telling ---------------------------------------------------------------------------------------------------------


def show(name: str, figures: dict[str, Any], console: Console) -> None:
    """Tables of one model."""
    table = Table(box=box.SIMPLE, title=name, title_justify="left")
    columns = (
        "streams",
        "tokens/s",
        "engine alone",
        "overhead",
        "first token ms",
        "between ms",
        "server s/1000",
        "failed",
    )
    for n, column in enumerate((*columns, "llama.cpp tokens/s", "its first ms", "its between ms")):
        if n < len(columns) or "turns" in figures.get("llama.cpp", {}):
            table.add_column(column, justify="right")
    for streams, turns in figures["turns"].items():
        row = [str(streams), *(f"{middle(turns, key):,.0f}" for key in ("rate", "alone"))]
        row += [f"{middle(turns, 'overhead'):+.1%}", pair(turns, "first"), pair(turns, "between")]
        row += [
            f"{statistics.median(t['core_seconds']['server'] for t in turns):.3f}",
            str(sum(t["failed"] for t in turns)),
        ]
        if "turns" in figures.get("llama.cpp", {}):
            peer = figures["llama.cpp"]["turns"][streams]
            row += [f"{middle(peer, 'rate'):,.0f}", pair(peer, "first"), pair(peer, "between")]
        table.add_row(*row)
    console.print(table)
    peer = figures.get("llama.cpp", {})
    if told := peer.get("refused") or peer.get("name"):
        console.print(f"llama.cpp: {told}", markup=False)
    if memory := figures["memory"]:
        quarter, last = memory[len(memory) // 4], memory[-1]
        told = ", ".join(f"{n} {quarter[n]:.1f} → {last[n]:.1f} MB" for n in ("server", "engine"))
        console.print(f"memory from request {quarter['requests']:,} to {last['requests']:,}: {told}")


def middle(turns: Sequence[dict[str, Any]], key: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(t[key] for t in turns)


def pair(turns: Sequence[dict[str, Any]], key: str) -> str:
    """Medians of both percentiles over the rounds."""
    known = [t[key] for t in turns if t[key] is not None]
    return " / ".join(f"{statistics.median(k[i] for k in known):,.1f}" for i in range(2)) if known else "–"


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="folders, or names of shapes")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32, 128], help="at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind")
    parser.add_argument("--slots", type=int, default=128, help="answers that the engine writes at once")
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer at most, on average")
    parser.add_argument("--weights", default="fp32", help="that ours keeps: fp32, bf16, int8, int4 (llama.cpp has 16)")
    parser.add_argument("--words", type=int, default=12, help="of a question")
    parser.add_argument("--threads", type=int, default=2, help="of every engine")
    parser.add_argument("--soak", type=int, default=0, help="short requests while memory is watched")
    parser.add_argument("--llama-server", help="llama.cpp's own server")
    parser.add_argument("--llama-python", help="Python of an environment with llama-cpp-python[server]")
    parser.add_argument("--cache", type=Path, help="folder for random checkpoints; else one that goes away")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        alone(json.loads(args.alone))
        return
    from dokja.ledger.environment import describe_environment
    from shapes import SHAPES, random_checkpoint, shape

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    figures: dict[str, Any] = {"environment": describe_environment(args.threads), "settings": vars(args), "models": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for model in args.models:
            folder = Path(temporary) / str(len(figures["models"]))
            folder.mkdir()
            path = Path(model)
            if model.removesuffix("-full") in SHAPES and not path.exists():
                path = random_checkpoint((args.cache or folder) / f"{model}-readable", shape(model), readable=True)
            console.print(f"{model} ...")
            figures["models"][model] = measure(path, args, folder, console)
            show(model, figures["models"][model], console)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
