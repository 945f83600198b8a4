"""A small run folder with everything in it, for reports and cards to read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from dokja.judge.records import Record, RecordLog, Sampling, Usage
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


def full_run(run: Path) -> Path:
    recipe = {
        "name": "small", "scale": 2, "model": {"pattern": "LG", "layers": 2},
        "corpus": {"sources": [{"kind": "tasks", "name": "tasks"}]},
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
    write(run / "release" / "config.json", {"architectures": ["Exaone4ForCausalLM"], "hidden_size": 128})
    header = json.dumps({"a": {"dtype": "F32", "shape": [100, 30], "data_offsets": [0, 12000]}}).encode()
    (run / "release" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    chain.append(run, {"kind": "manifest", "stage": "corpus"})
    return run
