"""Judging over an endpoint beside lm-evaluation-harness: requests per second and what the client takes of the cores.

    python bench/judge_speed.py --data FOLDER --lm-python PYTHON [--items 1000] [--concurrency 32] [--delay 0.02]
        [--rounds 3] [--json FILE]

FOLDER is the data of GSM8K (as for `dokja judge --suite gsm8k --data`), PYTHON that of an environment with
`lm-eval[api]`. Both ask the same questions of the same endpoint, one after the other, in alternating order: a server in
a process of its own that answers every request after `--delay` seconds with the same worked solution, so that only the
clients differ. Requests per second are those that the server saw, from its first to its last, with its own time to
answer; a client's time for imports and data does not count. The client's processor time is that of its
process, with all threads, from the first request to the last; ours grades and writes its records meanwhile, lm-eval
behind its last request. So the whole commands are timed as well, imports and grading included.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console

from serve_load import SRC, core_seconds, free_port, process

SAID = "There are 3 + 4 = 7 apples, and each costs 2. So the price is 7 * 2 = 14.\n\nThe answer is \\boxed{14}."


async def answer(port: int, delay: float) -> None:
    """The endpoint: counts requests and notes when they came and went."""
    seen: list[tuple[float, float]] = []
    watched = 0

    def note() -> None:
        seen.append((time.perf_counter(), core_seconds(watched) if watched else 0.0))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal watched
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = [h for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")]
                await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
                if head.startswith(b"POST"):
                    note()
                    await asyncio.sleep(delay)
                    message = {"role": "assistant", "content": SAID}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    usage = {"prompt_tokens": 90, "completion_tokens": 40, "total_tokens": 130}
                    told: Any = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
                    told |= {"choices": [choice], "usage": usage}
                    note()
                elif b"/told" in head.split(b"\r\n")[0]:
                    first, last = (seen[0], seen[-1]) if seen else ((0.0, 0.0), (0.0, 0.0))
                    told = {"requests": len(seen) // 2, "seconds": last[0] - first[0], "core": last[1] - first[1]}
                    seen.clear()
                elif b"/watch/" in head:
                    watched, told = int(head.split(b"/watch/")[1].split()[0]), {}
                else:
                    told = {"object": "list", "data": [{"id": "m", "object": "model"}]}
                body = json.dumps(told).encode()
                kind = b"content-type: application/json\r\ncontent-length: "
                writer.write(b"HTTP/1.1 200 OK\r\n" + kind + str(len(body)).encode() + b"\r\n\r\n" + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


def run(argv: list[str], env: dict[str, str], log: Path, url: str) -> dict[str, float]:
    """Runs a client to its end, which the server watches -> what the whole command took. Raises SystemExit where it
    fails."""
    began, before = time.perf_counter(), os.times()
    with log.open("ab") as out:
        popen = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
        urllib.request.urlopen(f"{url}/watch/{popen.pid}").close()
    if popen.wait():
        raise SystemExit(f"{argv[:4]} ended with {popen.returncode}:\n{log.read_text()[-3000:]}")
    after = os.times()
    cores = after.children_user + after.children_system - before.children_user - before.children_system
    return {"whole_s": time.perf_counter() - began, "whole_core_s": cores}


def ours(url: str, items: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Our runner."""
    argv = [sys.executable, "-m", "dokja", "judge", f"{url}/v1#m", "--suite", "gsm8k", "--data", str(args.data)]
    argv += ["--limit", str(items), "--repeats", "1", "--modes", "direct", "--temperature", "0"]
    argv += ["--max-tokens", "256", "--concurrency", str(args.concurrency), "--out", str(folder / f"{time.time()}")]
    return run(argv, {**os.environ, "PYTHONPATH": str(SRC)}, folder / "ours.log", url)


def harness(url: str, items: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """lm-evaluation-harness, with a task of the same questions."""
    with gzip.open(next(args.data.glob("test.jsonl*")), "rt", encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(items), strict=False)]
    data = folder / f"gsm8k-{items}.jsonl"
    data.write_text("".join(lines), encoding="utf-8")
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / "asked.yaml").write_text(
        f"task: asked\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {data}}}\ntest_split: test\n"
        "output_type: generate_until\n"
        'doc_to_text: "{{question}}\\n\\nPlease reason step by step, and put your final answer within \\\\boxed{}."\n'
        "doc_to_target: \"{{answer.split('####')[-1].strip()}}\"\n"
        "generation_kwargs: {until: ['Question:'], do_sample: false, temperature: 0.0, max_gen_toks: 256}\n"
        "filter_list:\n  - name: flexible-extract\n    filter:\n      - function: regex\n        group_select: -1\n"
        '        regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"\n      - function: take_first\n'
        "metric_list:\n  - metric: exact_match\n    aggregation: mean\n    higher_is_better: true\n",
        encoding="utf-8",
    )
    told = f"model=m,base_url={url}/v1/chat/completions,num_concurrent={args.concurrency},max_retries=3"
    argv = [args.lm_python, "-m", "lm_eval", "run", "--model", "local-chat-completions", "--model_args", told]
    argv += ["--tasks", "asked", "--include_path", str(folder / "tasks"), "--apply_chat_template"]
    env = {**os.environ, "OPENAI_API_KEY": "none", "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    env["HF_HOME"] = str(folder / "hf")
    return run(argv, env, folder / "harness.log", url)


def measure(args: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """All rounds."""
    port = free_port()
    url, found = f"http://127.0.0.1:{port}", {"ours": [], "lm-eval": []}
    sides = {"ours": ours, "lm-eval": harness}
    argv = [sys.executable, __file__, "--serve", str(port), "--delay", str(args.delay)]
    with process(argv, f"{url}/v1/models", folder / "server.log", 1):
        for number in range(args.rounds):
            for name in sides if number % 2 == 0 else reversed(sides):
                whole = sides[name](url, args.items, args, folder)
                seen = told(url)
                one = {**whole, "requests": seen["requests"], "rate": seen["requests"] / seen["seconds"]}
                one["core_ms"] = 1000 * seen["core"] / seen["requests"]
                found[name].append(one)
                console.print(
                    f"  {name}: {one['requests']} requests, {one['rate']:.0f}/s, {one['core_ms']:.2f} ms each"
                )
    return found


def told(url: str) -> dict[str, Any]:
    """What the server has seen since it was asked last."""
    with urllib.request.urlopen(f"{url}/told") as response:
        found: dict[str, Any] = json.load(response)
    return found


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of GSM8K")
    parser.add_argument("--lm-python", help="Python of an environment with lm-eval[api]")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that the endpoint takes to answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(answer(args.serve, args.delay))
        return
    if not args.data or not args.lm_python:
        parser.error("--data and --lm-python are needed")
    console = Console(highlight=False, width=120)
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(args, Path(temporary), console)
    units = {"rate": "requests/s", "core_ms": "ms of a core a request", "whole_s": "s of the command"}
    for key, unit in (units | {"whole_core_s": "s of cores of the command"}).items():
        ratios = [a[key] / b[key] for a, b in zip(found["ours"], found["lm-eval"], strict=True)]
        medians = {name: statistics.median(one[key] for one in rounds) for name, rounds in found.items()}
        console.print(
            f"{unit}: ours {medians['ours']:.2f}, lm-eval {medians['lm-eval']:.2f}, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
