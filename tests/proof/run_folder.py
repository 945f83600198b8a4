"""A small run folder with everything in it, for reports and cards to read."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import zstandard

from dokja.judge.records import Record, RecordLog, Sampling, Usage
from dokja.judge.stages import compare, write_stages
from dokja.judge.table import summarise, write_summary
from dokja.ledger import chain


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def manifest(stage: str, **cost: float) -> dict[str, Any]:
    return {
        "stage": stage,
        "cost": {"seconds": 60.0, "peak_memory_bytes": 1.5e9, **cost},
        "attempts": 2,
        "created": "2026-11-21T09:12:44Z",
        "environment": {"python": "3.11.7", "cpu": "A CPU", "cores": 2, "memory_bytes": 24_000_000_000},
    }


def answer(n: int, language: str = "ko", mode: str = "think", score: float = 1.0, **kw: Any) -> Record:
    values = {
        "task": "add", "problem_id": f"p{n}", "level": 1, "language": language, "mode": mode, "repeat": 0,
        "prompt": f"{n} + 1?", "prompt_sha256": "a", "raw": "", "reasoning": "hmm" if mode == "think" else "",
        "answer": str(n + 1), "extracted": str(n + 1), "reference": str(n + 1), "score": score,
        "reason": "right" if score == 1 else "wrong", "detail": "", "finish": "stop", "forced": False,
        "wrong_mode": False, "seed": 1, "sampling": Sampling(0.0, 1.0, 64, None), "seconds": 0.1, "model": "m",
        "model_sha256": "b", "template_sha256": "c", "grader_version": "d", "usage": Usage(9, 8, 5),
    }  # fmt: skip
    return Record(**{**values, **kw})


def answers() -> list[Record]:
    return [
        answer(n, language, mode, float(n % 4 > 0 if mode == "think" else n % 4 == 0))
        for language in ("ko", "en")
        for mode in ("think", "direct")
        for n in range(8)
    ]


def judge(run: Path, records: list[Record]) -> None:
    with RecordLog(run / "judge") as log:
        for record in records:
            log.append(record)
    write_summary(run / "judge", summarise(records, {"add"}, {"max_tokens": 64}))


def preference(run: Path, steps: int = 20) -> None:
    """The stage on pairs: metrics and a manifest."""
    write(run / "preference" / "manifest.json", manifest("preference", tokens=9_000.0))
    lines = [
        {"step": s, "loss": -0.1 * s / steps, "lr": 0.001, "grad_norm": 0.5, "tokens": 450 * s,
         "margin": 0.01 * s, "accuracy": 0.5 + 0.4 * s / steps, "chosen_logp": -0.2 + 0.001 * s,
         "rejected_logp": -0.3 - 0.01 * s}
        for s in range(1, steps + 1)
    ]  # fmt: skip
    write(run / "preference" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def rollout(step: int | str, n: int, **kw: Any) -> dict[str, Any]:
    """One stored answer of RL; even ones are Korean, every third is wrong, the second half is at once."""
    good, think = n % 3 > 0, n % 24 < 12
    values = {
        "step": step, "group": n // 4, "sample": n % 4, "task": "add", "problem_id": f"q{n}", "level": 1 + n % 2,
        "language": "ko" if n % 2 == 0 else "en", "mode": "think" if think else "direct", "prompt": f"{n} + 2?",
        "reference": str(n + 2), "prompt_tokens": [1, 2], "tokens": [3, 4], "logprobs": [-0.5, -0.25],
        "finish": "stop", "forced": False, "forced_at": -1, "reasoning": f"{n}, {n + 1}, {n + 2}" if think else "",
        "answer": str(n + 2 if good else n), "reasoning_tokens": 9 if think else 0, "wrong_mode": False,
        "score": float(good), "reason": "right" if good else "wrong", "detail": "", "reward": 1.05 if good else -0.25,
        "parts": {"correct": float(good), "concise": 0.05 if good else 0.0, "format": 0.0 if good else -0.25},
    }  # fmt: skip
    return {**values, **kw}


def store(run: Path, rollouts: list[dict[str, Any]], step: int) -> Path:
    path = run / "rl" / "rollouts" / f"step_{step:08d}.jsonl.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress("".join(json.dumps(r) + "\n" for r in rollouts).encode()))
    return path


def reinforcement(run: Path, steps: int = 30, every: int = 5, arms: tuple[str, ...] = ("add/1", "add/2")) -> None:
    """RL: a line per step, held-out figures and rates every few, the answers of two steps."""
    write(run / "rl" / "manifest.json", manifest("rl", tokens=20_000.0))
    lines = []
    for s in range(1, steps + 1):
        x, wave = s / steps, math.sin(s)
        line = {
            "step": s, "loss": 0.01 * wave, "lr": 0.001, "grad_norm": 0.3, "tokens": 600 * s, "reward": 0.5 + 0.4 * x,
            "accuracy": 0.6 + 0.3 * x, "accuracy_think": 0.8 + 0.15 * x + 0.02 * wave, "accuracy_direct": 0.3 + 0.1 * x,
            "accuracy_ko": 0.58 + 0.3 * x, "accuracy_en": 0.62 + 0.3 * x, "thought_tokens": 40 - 9 * x + wave,
            "answer_tokens": 5 + wave, "entropy": 0.4 - 0.2 * x, "mismatch_kl": 3e-9 * (1 + wave), "kl_ref": 0.02 * x,
            "kept": 0.7 - 0.3 * x, "forced": 0.04 * (1 - x), "wrong_mode": 0.0, "wrong_language": 0.0,
            "empty_thought": 0.0, "repetition": 0.01 * (1 - x), "clipped": 0.002, "rollout_seconds": 2 + 0.2 * wave,
            "seconds": 4 + 0.3 * wave, "tokens_per_second": 3000.0,
        }  # fmt: skip
        if s % every == 0:
            line |= {"eval_think": 0.9 + 0.05 * x, "eval_direct": 0.3 + 0.08 * x, "eval_thought_tokens": 38 - 8 * x}
            line |= {f"rate/think/{a}": 1 / (1 + math.exp(n - 4 * x)) for n, a in enumerate(arms)}
        lines.append(line)
    write(run / "rl" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    store(run, [rollout(1, n) for n in range(4)], 1)
    store(run, [rollout(steps, n) for n in range(24)], steps)


def by_stage(run: Path, records: list[Record]) -> None:
    """judge/stages.json: of `records` SFT got every third wrong and preference every sixth; the last is as they are."""
    folders = {}
    for name, nth in (("sft", 3), ("preference", 6)):
        folders[name] = run / "judge" / name
        with RecordLog(folders[name]) as log:
            for n, r in enumerate(records):
                worse = {"score": 0.0, "reason": "wrong"} if n % nth == 0 else {}
                log.append(Record(**{**vars(r), **worse, "usage": Usage(9, 20 + nth, 12 + nth)}))
    write_stages(run / "judge", compare({**folders, "rl": run / "judge"}))


def full_run(run: Path) -> Path:
    recipe = {
        "name": "small", "scale": 2, "model": {"pattern": "LG", "layers": 2},
        "corpus": {"sources": [{"kind": "tasks", "name": "tasks"}]},
        "preference": {"objective": "simper"},
        "rl": {"algorithm": "agapo_token", "prompts": 6, "group": 4, "steps": 30},
        "release": {"name": "small-release", "licence": "Apache-2.0", "authors": ["Kim"]},
    }  # fmt: skip
    write(run / "recipe.json", recipe)
    write(run / "derived.json", [{"key": "model.width", "value": 128, "formula": "64 · scale", "source": "nanochat"}])
    for stage in ("corpus", "judge", "release"):
        write(run / stage / "manifest.json", manifest(stage))
    write(run / "tokenizer" / "manifest.json", manifest("tokenizer"))
    write(run / "tokenizer" / "figures.json", {"bytes_per_token": {"ko": 2.91, "en": 2.42}})
    write(run / "shards" / "pretrain" / "tasks" / "shards.json", {"documents": 9, "tokens": 1000, "utf8_bytes": 2500})
    for stage in ("pretrain", "sft"):
        cost = {"tokens": 30_000.0, "flops_6nd": 1.2e11, "flops_attention": 3e10}
        write(run / stage / "manifest.json", manifest(stage, **cost))
        lines = [
            {"step": s, "loss": 5 / s, "lr": 0.01, "grad_norm": 1.0, "tokens_per_second": 900.0 + s,
             **({"bits_per_byte/ko": 2 / s} if s % 10 == 0 else {})}
            for s in range(1, 31)
        ]  # fmt: skip
        write(run / stage / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write(run / "pretrain" / "samples.jsonl", json.dumps({"step": 20, "prompt": "Once", "text": "upon a time"}) + "\n")
    row = {"language": "ko", "bytes": 5_000_000, "model": 1.4, "xz": 2.3, "ngram": 1.9}
    texts = {"sources": {"wiki": row, "news": {**row, "model": 1.6}}, "languages": {"ko": {**row, "model": 1.5}}}
    write(run / "judge" / "texts.json", texts)
    judge(run, answers())
    preference(run)
    reinforcement(run)
    by_stage(run, answers())
    write(run / "release" / "config.json", {"architectures": ["Exaone4ForCausalLM"], "hidden_size": 128})
    header = json.dumps({"a": {"dtype": "F32", "shape": [100, 30], "data_offsets": [0, 12000]}}).encode()
    (run / "release" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    chain.append(run, {"kind": "manifest", "stage": "corpus"})
    return run
