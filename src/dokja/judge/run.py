"""The verb `judge` for weights: a model folder or file in, records and a summary out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dokja.engine.load import load_engine
from dokja.engine.packed import Bits
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.spending import Limits
from dokja.judge.local import EngineAnswerer
from dokja.judge.outcome import Judged, judge_items
from dokja.judge.settings import Wishes, plan_items
from dokja.judge.suite import build_suite, pack_suite
from dokja.model.spec import ModelSpec
from dokja.text.chat import MODES, Mode


def judge_model(
    model_path: str | Path,
    *,
    name: str | None = None,
    tasks: Sequence[str] = ("all",),
    languages: Sequence[str] = ("ko", "en"),
    per_cell: int = 10,
    repeats: int | None = None,
    modes: Sequence[Mode] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    budget: int | None = None,
    seed: int = 0,
    batch: int = 64,
    device: str = "cpu",
    weights: Bits | None = None,
    draft: int = 0,
    packs: Sequence[str] = (),
    data: str | Path | None = None,
    limit: int | None = None,
    judge: Endpoint | None = None,
    out: str | Path | None = None,
    log_path: Path | None = None,
) -> Judged:
    """Judge the model of a folder; a killed run continues where it stopped.

    `name` is what the records call the model, by default what the loader calls it; `batch` answers are written at a
    time. `modes` None asks in all modes that the model knows. What is None of `repeats`, `temperature`, `top_p`,
    `max_tokens` and `budget` is as the pack prescribes, or as the model's makers recommend (our own models: greedily).
    `weights` and `draft` as in `Engine`. `packs` asks benchmarks in place of `tasks`, with `data` and `limit` as in
    `tasks.packs.load.load_pack`; `judge` judges what no rule can. `out` defaults to `judge-<suite>` inside the model's
    folder, or `<name>-judge-<suite>` beside a GGUF file, with few bits `judge-<suite>-<weights>`, so that others never
    meet these records. Raises DokjaError sentences of the loader, the suite and the runner.
    """
    suite = pack_suite(packs, data, limit, languages) if packs else build_suite(tasks, per_cell, languages, seed)
    inside = f"judge-{suite.short}-{weights}" if weights else f"judge-{suite.short}"
    beside = Path(model_path)
    if beside.is_file():  # a GGUF file has no inside
        beside, inside = beside.parent, f"{beside.stem}-{inside}"
    folder = beside / inside if out is None else Path(out)
    engine, tokenizer, info = load_engine(model_path, slots=batch, device=device, weights=weights, draft=draft)
    style = info["style"]
    spec = ModelSpec.from_dict(info["spec"])
    wishes = Wishes(modes, repeats, temperature, top_p, max_tokens, budget)
    known = [m for m in MODES if style.supports(m)]
    items = plan_items(suite, wishes, known, info["sampling"], weights or "fp32")
    answerer = EngineAnswerer(
        engine,
        tokenizer,
        model_id=name or info["name"],
        model_sha256=info["sha256"],
        images=info["images"],
        style=style,
        context=spec.context,
    )
    settings = {
        "parameters": spec.params,
        "active_parameters": spec.active_params,
        "languages": list(languages),
        **({"packs": list(packs), "limit": limit} if packs else {"per_cell": per_cell}),
    }
    return judge_items(
        suite, items, lambda _: answerer, folder, seed=seed, settings=settings, limits=Limits(), judge=judge,
        log_path=log_path,
    )  # fmt: skip
