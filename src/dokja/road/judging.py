"""Stage `judge`: held-out problems in both modes, and bits per byte of held-out texts beside two baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dokja.road import corpus
from dokja.road.context import Context, Walked
from dokja.road.shards import open_all
from dokja.road.speech import speech
from dokja.road.tokenizer import plain_texts
from dokja.road.training import WEIGHTS, answering, learned, pick_device, pick_dtype


def walk(context: Context, folder: Path) -> Walked:
    """records.jsonl and summary.json for problems (where the model was taught to answer), texts.json for texts.

    Every stage that can answer is asked the same problems: the last one's answers lie in judge/, the others' in
    judge/<stage>/, and stages.json compares them.
    """
    recipe, outputs, told = context.recipe, [], []
    last = learned(recipe)[-1]
    weights = context.stage(last) / WEIGHTS
    stages = answering(recipe)
    if stages and any(s.kind == "tasks" for s in recipe.corpus.sources):
        from dokja.judge import stages as by_stage
        from dokja.judge.table import headline_sentence, print_table

        folders = {name: folder if name == last else folder / name for name in stages}
        judged = [_problems(context, name, place) for name, place in folders.items()][-1]
        print_table(judged.summary)
        outputs += ["records.jsonl", "summary.json", *(name for name in stages if name != last)]
        if len(stages) > 1:
            table = by_stage.compare(folders)
            by_stage.write_stages(folder, table)
            by_stage.print_stages(table)
            outputs.append(by_stage.STAGES)
        told.append(headline_sentence(judged.summary.headline))
    held = open_all(context.stage("shards") / "heldout")
    if held:
        told.append(_texts(context, weights, folder))
        outputs.append("texts.json")
    return Walked(outputs, "; ".join(told) or "nothing to judge")


def _problems(context: Context, stage: str, out: Path) -> Any:
    from dokja.judge.run import judge_model

    recipe, j, spoken = context.recipe, context.recipe.judge, speech(context)
    name = recipe.release.name
    return judge_model(
        context.stage(stage) / WEIGHTS,
        tasks=j.tasks,
        languages=j.languages,
        per_cell=j.per_cell,
        repeats=j.repeats,
        modes=[mode for mode in j.modes if spoken.style.supports(mode)],
        temperature=j.temperature,
        top_p=j.top_p,
        max_tokens=j.max_tokens,
        budget=j.budget if spoken.closes else None,
        seed=recipe.seed,
        out=out,
        batch=j.batch,
        name=name if stage == learned(recipe)[-1] else f"{name}/{stage}",
        device=str(pick_device(recipe)),
        log_path=context.attempt.log_path,
    )


def _texts(context: Context, weights: Path, folder: Path) -> str:
    from dokja.judge.texts import judge_texts

    recipe, device = context.recipe, pick_device(context.recipe)
    sources = {s.name: s for s in recipe.corpus.sources if s.kind == "text"}
    stage = recipe.context or recipe.pretrain or recipe.sft or recipe.preference or recipe.rl
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
