"""The verb `judge`: a model folder in, records and a summary out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dokja.engine.load import load_engine
from dokja.engine.packed import Bits
from dokja.judge.records import RECORDS, Record, Sampling, read_records
from dokja.judge.runner import run_suite
from dokja.judge.suite import build_suite, needs_steps, pack_suite
from dokja.judge.table import Summary, summarise, write_summary
from dokja.ledger.progress import Progress
from dokja.model.spec import ModelSpec
from dokja.text.chat import MODES, Mode


@dataclass(frozen=True)
class Judged:
    """What judging left: the folder, its records in the suite's order, and what they add up to."""

    folder: Path
    records: list[Record]
    summary: Summary


def judge_model(
    model_path: str | Path,
    *,
    name: str | None = None,
    tasks: Sequence[str] = ("all",),
    languages: Sequence[str] = ("ko", "en"),
    per_cell: int = 10,
    repeats: int = 1,
    modes: Sequence[Mode] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int = 512,
    budget: int | None = None,
    seed: int = 0,
    batch: int = 64,
    device: str = "cpu",
    weights: Bits | None = None,
    draft: int = 0,
    packs: Sequence[str] = (),
    data: str | Path | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    log_path: Path | None = None,
) -> Judged:
    """Judge the model of a folder; a killed run continues where it stopped.

    `name` is what the records call the model, by default what the loader calls it; `batch` answers are written at a
    time. `modes` None asks in all modes that the model knows; `temperature` and `top_p` None draw as its makers
    recommend (our own models: greedily). `weights` and `draft` as in `Engine`. `packs` asks benchmarks in
    place of `tasks`, with `data` and `limit` as in `tasks.packs.load.load_pack`. `out` defaults to `judge-<suite>`
    inside the model's folder, with few bits `judge-<suite>-<weights>`, so that others never meet these records. Raises
    DokjaError sentences of the loader, the suite and the runner.
    """
    suite = pack_suite(packs, data, limit, languages) if packs else build_suite(tasks, per_cell, languages, seed)
    inside = f"judge-{suite.short}-{weights}" if weights else f"judge-{suite.short}"
    folder = Path(model_path) / inside if out is None else Path(out)
    engine, tokenizer, info = load_engine(model_path, slots=batch, device=device, weights=weights, draft=draft)
    style, recommended = info["style"], info["sampling"]
    spec = ModelSpec.from_dict(info["spec"])
    modes = [m for m in MODES if style.supports(m)] if modes is None else modes
    if temperature is None:
        temperature, top_k = recommended.temperature, recommended.top_k
    else:
        top_k = 0
    top_p = recommended.top_p if top_p is None else top_p
    there = len(read_records(folder)) if (folder / RECORDS).exists() else 0
    total = len(suite.problems) * len(modes) * repeats
    with Progress(total, "judge", log_path, start=min(there, total)) as progress:
        records = run_suite(
            suite.problems,
            engine,
            tokenizer,
            folder,
            modes=modes,
            repeats=repeats,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            budget=budget,
            model_id=name or info["name"],
            model_sha256=info["sha256"],
            seed=seed,
            progress=progress,
            images=info["images"],
            style=style,
            top_k=top_k,
            context=spec.context,
            weights=weights or "fp32",
        )
    settings = {
        "parameters": spec.params,
        "active_parameters": spec.active_params,
        "suite_sha256": suite.sha256,
        "tasks": list(dict.fromkeys(p.task for p in suite.problems)),
        "languages": list(languages),
        **({"packs": list(packs), "limit": limit} if packs else {"per_cell": per_cell}),
        "repeats": repeats,
        "modes": list(modes),
        "seed": seed,
        **asdict(Sampling(temperature, top_p, max_tokens, budget, top_k, weights or "fp32")),
    }
    summary = summarise(records, needs_steps(), settings)
    write_summary(folder, summary)
    return Judged(folder, records, summary)
