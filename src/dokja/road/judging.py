"""Stage `judge`: held-out problems in both modes, and bits per byte of held-out texts beside two baselines."""

from __future__ import annotations

from pathlib import Path

from dokja.road import corpus
from dokja.road.context import Context, Walked
from dokja.road.shards import open_all
from dokja.road.tokenizer import plain_texts
from dokja.road.training import ORDER, WEIGHTS, pick_device, pick_dtype


def learned(context: Context) -> str:
    """Name of the last training stage of this recipe."""
    return [n for n in ORDER if getattr(context.recipe, n) is not None][-1]


def walk(context: Context, folder: Path) -> Walked:
    """records.jsonl and summary.json for problems (where the model was taught to answer), texts.json for texts."""
    recipe, outputs, told = context.recipe, [], []
    weights = context.stage(learned(context)) / WEIGHTS
    if recipe.sft and any(s.kind == "tasks" for s in recipe.corpus.sources):
        from dokja.judge.run import judge_model
        from dokja.judge.table import headline_sentence, print_table

        j = recipe.judge
        judged = judge_model(
            weights,
            tasks=j.tasks,
            languages=j.languages,
            per_cell=j.per_cell,
            repeats=j.repeats,
            modes=j.modes,
            temperature=j.temperature,
            top_p=j.top_p,
            max_tokens=j.max_tokens,
            budget=j.budget,
            seed=recipe.seed,
            out=folder,
            batch=j.batch,
            name=recipe.release.name,
            device=str(pick_device(recipe)),
            log_path=context.attempt.log_path,
        )
        print_table(judged.summary)
        outputs += ["records.jsonl", "summary.json"]
        told.append(headline_sentence(judged.summary.headline))
    held = open_all(context.stage("shards") / "heldout")
    if held:
        told.append(_texts(context, weights, folder))
        outputs.append("texts.json")
    return Walked(outputs, "; ".join(told) or "nothing to judge")


def _texts(context: Context, weights: Path, folder: Path) -> str:
    from dokja.judge.texts import judge_texts

    recipe, device = context.recipe, pick_device(context.recipe)
    sources = {s.name: s for s in recipe.corpus.sources if s.kind == "text"}
    stage = recipe.context or recipe.pretrain or recipe.sft
    assert stage is not None
    judged = judge_texts(
        weights,
        heldout=open_all(context.stage("shards") / "heldout"),
        heldout_texts=lambda name: (d.text or "" for d in corpus.heldout_texts(context, sources[name])),
        train_texts=lambda: (text for s in sources.values() for _, text in plain_texts(context, s)),
        languages={name: s.language for name, s in sources.items()},
        out=folder,
        seq_len=stage.seq_len,
        dtype=pick_dtype(stage.precision, device),
        device=device,
        compile=stage.compile,
    )
    figures = ", ".join(f"{k} {v['model']:.3f}" for k, v in {**judged["languages"], "all": judged["all"]}.items())
    return f"bits per byte {figures}"
