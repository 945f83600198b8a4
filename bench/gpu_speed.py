"""What one GPU gives at the shape of EXAONE 4.0 1.2B: decoding beside transformers, and the FLOPs of training.

    python bench/gpu_speed.py [--batch 1 64] [--rounds 5] [--json FILE]
    python bench/gpu_speed.py --quick        # a small shape on the CPU: does the script itself work?

* Decoding: random weights in bf16, prompts of 128 tokens, greedy. Ours is `Engine`; theirs is `generate` with sdpa.
  Both are timed twice, for few and for many new tokens, and the difference is what decoding costs. `of limit` is the
  bytes of weights that a step must read over the bandwidth that a large copy reaches here (reads and writes counted).
* Training: whole steps of the trainer's own path on rows of 2,048 random tokens. MFU is 6 · N_active · tokens/s plus
  attention's own products, over the best matrix product measured here in bf16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.model.families import exaone4
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe
from dokja.train.compiled import Runner
from dokja.train.machine import gemm_peak
from dokja.train.optim import Optimizer

SHAPE = Path(__file__).parent.parent / "recipes" / "shapes" / "4.0-1.2b.toml"
QUICK = (
    "model.layers=2", "model.width=128", "model.heads=4", "model.kv_heads=2", "model.head_dim=32", "model.ffn=256",
    "tokenizer.vocab=1024", "model.context=512",
)  # fmt: skip
PROMPT = 128


def wait(device: str) -> float:
    """The clock, once the device has done all it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def bandwidth(device: str, size: int) -> float:
    """GB/s of copying `size` bytes, read and write both counted; best of ten."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(10):
        began = wait(device)
        target.copy_(source)
        best = max(best, 2 * size / (wait(device) - began) / 1e9)
    return best


def ours(engine: Engine, batch: int, new: int, vocab: int, device: str) -> float:
    """Seconds for `new` tokens after each of `batch` prompts."""
    draw = np.random.default_rng(batch)
    asked = [Request(str(n), draw.integers(16, vocab, PROMPT).tolist(), new, temperature=0.0) for n in range(batch)]
    began = wait(device)
    engine.complete(asked)
    return wait(device) - began


def theirs(model: Any, batch: int, new: int, vocab: int, device: str) -> float:
    """The same through transformers."""
    prompts = torch.from_numpy(np.random.default_rng(batch).integers(16, vocab, (batch, PROMPT))).to(device)
    began = wait(device)
    model.generate(prompts, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
    return wait(device) - began


def decoding(spec: ModelSpec, device: str, batches: list[int], rounds: int, new: int) -> dict[str, Any]:
    """Tokens per second of both sides at every batch, in alternating rounds."""
    from transformers import Exaone4Config, Exaone4ForCausalLM

    decoder = Decoder(spec).init_weights(0).to(device, torch.bfloat16).requires_grad_(False)
    config = exaone4.config_from(spec, {"bos": 1, "eos": 2, "pad": 0})
    peer = Exaone4ForCausalLM(Exaone4Config(**config, attn_implementation="sdpa")).to(device, torch.bfloat16).eval()
    limit = bandwidth(device, 2**31 if device != "cpu" else 2**26)
    step = 2 * (spec.params - (0 if spec.tied else spec.vocab * spec.width))
    found: dict[str, Any] = {"bandwidth_gbs": limit, "bytes_per_step": step, "batches": {}}
    for batch in batches:
        engine = Engine(decoder, slots=batch, dtype=torch.bfloat16, device=device, prefix_tokens=0)
        rates: dict[str, list[float]] = {"ours": [], "transformers": []}
        for number in range(rounds + 1):
            for name in ("ours", "transformers"):
                take, side = (ours, engine) if name == "ours" else (theirs, peer)
                few, many = (take(side, batch, n, spec.vocab, device) for n in (1, new + 1))
                if number:  # the first round warms up
                    rates[name].append(batch * new / (many - few))
        found["batches"][batch] = rates
        del engine
    return found


def training(spec: ModelSpec, device: str, rounds: int, rows: int, length: int) -> dict[str, Any]:
    """Tokens per second of whole steps, and their share of the best matrix product."""
    dtype = torch.bfloat16
    model = Decoder(spec).init_weights(0).to(device)
    rates = {"lr_matrix": 1e-3, "lr_embed": 1e-3, "lr_head": 1e-3, "lr_other": 1e-3}
    optimizer, runner = Optimizer(model, rates, 0.1), Runner(model, dtype, True, rows)
    draw, times = np.random.default_rng(0), []
    for _ in range(rounds + 2):
        tokens = draw.integers(16, spec.vocab, (rows, length + 1))
        docs = np.zeros((rows, length), dtype=np.int64)
        weights = np.full((rows, length), 1.0 / (rows * length), dtype=np.float32)
        began = wait(device)
        runner.backward(tokens[:, :-1], docs, tokens[:, 1:], weights)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step(1e-3)
        model.zero_grad(set_to_none=True)
        times.append(wait(device) - began)
    speed = [rows * length / seconds for seconds in times[2:]]
    attention = 6 * spec.layers * spec.heads * spec.head_dim * length  # causal: half of 12 · L · H · K · T
    flops, peak = 6 * spec.active_params + attention, gemm_peak(dtype, device)
    return {"tokens_per_second": speed, "mfu": flops * statistics.median(speed) / (peak * 1e9), "peak_gflops": peak}


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=128, help="tokens that are timed")
    parser.add_argument("--quick", action="store_true", help="a small shape on the CPU")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    if not args.quick and not torch.cuda.is_available():
        raise SystemExit("This measures a GPU and torch finds none here. Run it where there is one, or with --quick.")
    device = "cpu" if args.quick else "cuda"
    recipe = load_recipe(SHAPE, QUICK if args.quick else ("model.context=4096",))
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    new = 16 if args.quick else args.new
    found = {
        "environment": describe_environment(torch.get_num_threads()),
        "decoding": decoding(spec, device, args.batch, args.rounds, new),
        "training": training(spec, device, args.rounds, *((1, 128) if args.quick else (4, 2048))),
    }
    table = Table(box=box.SIMPLE, title=f"{spec.params / 1e9:.2f} B parameters, bf16", title_justify="left")
    for column in ("", "ours, tokens/s", "transformers", "ours / theirs", "of limit"):
        table.add_column(column, justify="right")
    cost = found["decoding"]["bytes_per_step"] / 1e9 / found["decoding"]["bandwidth_gbs"]
    for batch, rates in found["decoding"]["batches"].items():
        mine, other = (statistics.median(rates[name]) for name in ("ours", "transformers"))
        each = [a / b for a, b in zip(rates["ours"], rates["transformers"], strict=True)]
        ratio = f"{statistics.median(each):.2f} × ({min(each):.2f} – {max(each):.2f})"
        table.add_row(f"batch {batch}", f"{mine:,.0f}", f"{other:,.0f}", ratio, f"{100 * cost * mine / batch:.0f} %")
    console = Console(highlight=False)
    console.print(table)
    run = found["training"]
    speed = statistics.median(run["tokens_per_second"])
    peak = run["peak_gflops"] / 1e3
    console.print(f"training {speed:,.0f} tokens/s, {100 * run['mfu']:.0f} % of {peak:,.0f} TFLOP/s")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
