"""The road: what `dokja build` walks, in order. Reading this file is reading the whole product.

| stage      | from                              | to                                                        |
|------------|-----------------------------------|-----------------------------------------------------------|
| corpus     | the recipe's sources              | problems written down; an inventory of the texts           |
| tokenizer  | a sample of the corpus, or `init` | tokenizer.json, bytes per token by language                |
| shards     | corpus, tokenizer                 | token files for pretraining, conversations, held-out text  |
| pretrain   | shards                            | weights that know the language                             |
| context    | weights                           | the same on longer rows (when the recipe says so)          |
| sft        | weights, conversations            | one model with two modes: at once, or thinking first       |
| preference | weights, answers of their own     | the right and brief answer preferred                       |
| rl         | weights, answers round by round   | the same by online reinforcement learning                  |
| judge      | weights, held-out problems, texts | records, accuracies with intervals, bits per byte          |
| release    | weights, records                  | a folder that transformers loads, model card, report.html  |

With `init = "path"` the first stage that learns starts from the checkpoint there instead of empty weights, and
pretraining may be left out (see `road.start`).

A stage is finished when its manifest.json lies in its folder. Its key is the hash of its config, its inputs' hashes
and the code it runs; the same command therefore skips what is finished, resumes what is not, and refuses (or, with
--rebuild, builds again) what no longer fits.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError, DokjaError
from dokja.ledger import chain
from dokja.ledger.cost import peak_memory_bytes
from dokja.ledger.environment import describe_environment
from dokja.ledger.manifest import (
    Manifest,
    check_outputs,
    code_version,
    hash_outputs,
    read_manifest,
    stage_key,
    write_manifest,
)
from dokja.ledger.run import Run
from dokja.proof.report import write_report
from dokja.recipe.schema import Recipe
from dokja.road import corpus, judging, preference, releasing, rl, shards, start, tokenizer, training
from dokja.road.context import Context, Walked


@dataclass(frozen=True)
class Stage:
    """One stretch of the road.

    config: the part of the recipe that decides the result, None when this recipe leaves the stage out.
    after: stages whose outputs it reads. rooms: code that decides the result. timed: names of output files that hold
    clock times, which a second run cannot reproduce; they stay out of the ledger's hashes.
    """

    name: str
    config: Callable[[Recipe], dict[str, Any] | None]
    after: Callable[[Recipe], Sequence[str]]
    rooms: tuple[str, ...]
    walk: Callable[[Context, Path], Walked]
    timed: frozenset[str] = frozenset()


def _learned(recipe: Recipe, before: str | None = None) -> list[str]:
    """The last learning stage of this recipe (before `before`), as a list of one or none."""
    return training.learned(recipe, before)[-1:]


def _section(name: str) -> Callable[[Recipe], dict[str, Any] | None]:
    def config(recipe: Recipe) -> dict[str, Any] | None:
        section = getattr(recipe, name)
        if section is None:
            return None
        own: dict[str, Any] = (
            {"judge": recipe.judge.model_dump()} if name in WALKS else {}
        )  # its problems may not be trained on
        if recipe.lora:
            own["lora"] = recipe.lora.model_dump()
        if recipe.release.dtype != "float32":
            own["dtype"] = recipe.release.dtype
        return {name: section.model_dump(), "model": recipe.model.model_dump(), "seed": recipe.seed, **own}

    return config


WALKS = {"preference": preference.walk, "rl": rl.walk}


def _learning(name: str) -> Stage:
    own = name in WALKS  # learns from answers of its own, not from shards
    return Stage(
        name,
        _section(name),
        lambda r: ["tokenizer" if own else "shards", *_learned(r, name)],
        ("train", "model", "data", "text", *(("engine", "tasks", f"road/{name}.py", "road/asking.py") if own else ())),
        WALKS.get(name) or training.walk(name),
        frozenset({"metrics.jsonl"}),
    )


ROAD: tuple[Stage, ...] = (
    Stage(
        "corpus",
        corpus.config,
        lambda r: [],
        ("tasks", "data", "road/corpus.py", "road/problems.py"),
        corpus.walk,
    ),
    Stage(
        "tokenizer",
        lambda r: {"tokenizer": r.tokenizer.model_dump(), "seed": r.seed},
        lambda r: ["corpus"],
        ("text", "road/tokenizer.py"),
        tokenizer.walk,
    ),
    Stage(
        "shards",
        lambda r: {
            "sft": (r.sft.think_share, r.sft.history_share) if r.sft else None,
            "seed": r.seed,
            **({"vision": r.model.vision.model_dump()} if r.model.vision else {}),
        },
        lambda r: ["corpus", "tokenizer"],
        ("text", "data", "tasks", "road/shards.py", "road/problems.py"),
        shards.walk,
    ),
    *(_learning(name) for name in training.ORDER),
    Stage(
        "judge",
        lambda r: {"judge": r.judge.model_dump(), "seed": r.seed} if _learned(r) else None,
        lambda r: ["shards", *training.answering(r)] if training.answering(r) else ["shards", *_learned(r)],
        ("judge", "engine", "model", "tasks", "text"),
        judging.walk,
        frozenset({"records.jsonl"}),
    ),
    Stage(
        "release",
        lambda r: {"release": r.release.model_dump(), "language": r.language} if _learned(r) else None,
        lambda r: [*_learned(r), "judge"],
        ("proof", "model", "text"),
        releasing.walk,
        frozenset({"records.jsonl", "README.md", "ledger.jsonl"}),
    ),
)


def build(
    recipe_path: str | Path,
    sets: Sequence[str] = (),
    runs: str | Path = "runs",
    until: str | None = None,
    rebuild: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Walks the road of a recipe and returns the run folder.

    until: name of the last stage to walk. rebuild: build again what changed instead of refusing it.
    Raises DokjaError sentences: a wrong recipe, a run that another process holds, changed inputs, a full disk.
    """
    recipe, derived = start.explain(recipe_path, sets)
    names = [s.name for s in ROAD]
    if until is not None and until not in names:
        raise ConfigError(f"there is no stage {until!r}. The road is: {', '.join(names)}.")
    stages = ROAD[: names.index(until) + 1] if until else ROAD
    run = Run(Path(runs) / recipe.name)
    if dry_run:
        for stage in stages:
            say(f"{stage.name:10} {_state(stage, recipe, run)}")
        return run.path
    with run.lock():
        attempt = run.new_attempt()
        context = Context(recipe, run, attempt, say)
        written = {**recipe.model_dump(mode="json"), "derived": [asdict(row) for row in derived]}
        text = json.dumps(written, indent=1, ensure_ascii=False)
        (run.path / "recipe.json").write_text(text + "\n", encoding="utf-8")
        if recipe.init:
            context.say(start.sentence(recipe.init))
        for stage in stages:
            _walk(stage, context, rebuild)
        report = write_report(run.path, run.path / "report.html", recipe.language)
    say(f"\nreport      {report}\nlook        dokja show {run.path}")
    if recipe.sft and (run.path / "release" / "config.json").exists():
        say(f"chat        dokja chat {run.path}")
    return run.path


def _key(stage: Stage, recipe: Recipe, run: Run, config: dict[str, Any]) -> tuple[str, dict[str, str]]:
    inputs = {}
    for name in stage.after(recipe):
        manifest = read_manifest(run.path / name)
        inputs[name] = manifest.key if manifest else "unfinished"
    if recipe.init and stage.name in ("tokenizer", *training.learned(recipe)[:1]):
        inputs |= start.inputs(recipe.init)
    return stage_key(config, inputs, code_version(stage.rooms)), inputs


def _state(stage: Stage, recipe: Recipe, run: Run) -> str:
    config = stage.config(recipe)
    if config is None:
        return "not in this recipe"
    manifest = read_manifest(run.path / stage.name)
    if manifest is None:
        return "would be resumed" if (run.path / stage.name).exists() else "would be built"
    return "finished" if manifest.key == _key(stage, recipe, run, config)[0] else "changed: needs --rebuild"


def _walk(stage: Stage, context: Context, rebuild: bool) -> None:
    recipe, run = context.recipe, context.run
    config = stage.config(recipe)
    if config is None:
        return
    key, inputs = _key(stage, recipe, run, config)
    folder = run.path / stage.name
    manifest = read_manifest(folder)
    begun = folder / ".key"
    then = manifest.key if manifest else begun.read_text().strip() if begun.exists() else key
    if then != key:
        if not rebuild:
            what = "finished" if manifest else "begun"
            raise DokjaError(
                f"{folder} was {what} with another recipe, input or version of dokja. Run with --rebuild to build it "
                "and what follows from it again, or give this run another name with --set name=…"
            )
        shutil.rmtree(folder)
        manifest = None
    if manifest:
        check_outputs(folder, manifest)
        _record(stage, run, manifest)  # a kill may have come between the manifest and its line in the ledger
        context.say(f"{stage.name:10} finished before, its {len(manifest.outputs)} files are as they were")
        return
    folder.mkdir(parents=True, exist_ok=True)
    begun.write_text(key + "\n")
    began = time.monotonic()
    try:
        walked = stage.walk(context, folder)
    except OSError as error:
        raise DokjaError(
            f"the stage {stage.name} stopped: {error}. Mend that and run the same command again."
        ) from error
    cost = {"seconds": time.monotonic() - began, "peak_memory_bytes": float(peak_memory_bytes()), **walked.cost}
    outputs = hash_outputs(folder, walked.outputs)
    written = write_manifest(
        folder,
        Manifest(
            stage=stage.name,
            key=key,
            config=json.loads(json.dumps(config)),
            inputs=inputs,
            outputs=outputs,
            environment=describe_environment(recipe.threads),
            seeds={"seed": recipe.seed},
            cost=cost,
            attempts=len(run.attempts()),
        ),
    )
    _record(stage, run, written)
    context.say(f"{stage.name:10} {walked.sentence} ({written.cost['seconds']:.1f} s)")


def _record(stage: Stage, run: Run, manifest: Manifest) -> None:
    fixed = {name: sha for name, sha in manifest.outputs.items() if Path(name).name not in stage.timed}
    entry = {"kind": "stage", "stage": stage.name, "key": manifest.key, "outputs": fixed}
    chain.append_once(run.path, entry, ("stage", "key"))
