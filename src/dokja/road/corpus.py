"""Stage `corpus`: problems are generated and written down, texts are found and counted.

corpus/<source>.jsonl.zst   generated problems, one JSON object a line
corpus/inventory.json       per source: documents, bytes, files with their SHA-256
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from dokja.data.sources import Document, is_held_out, read_documents, source_files
from dokja.errors import ConfigError
from dokja.ledger.hashing import sha256_file
from dokja.recipe.schema import Recipe, SourceConfig
from dokja.road.context import Context, Walked
from dokja.road.problems import row_of
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import eval_set, prompt_keys, train_stream

INVENTORY = "inventory.json"


def training_texts(context: Context, source: SourceConfig) -> Iterator[Document]:
    """Documents of a text source that may be trained on: without its held-out files, or its held-out share."""
    if not source.path:
        raise ConfigError(f"source {source.name!r} is of kind 'text' and needs a `path`.")
    limit = int(source.limit_mb * 1e6) if source.limit_mb else None
    found = read_documents(
        source.path,
        source=source.name,
        text_key=source.text_key,
        limit_bytes=limit,
        exclude=_excluded(source),
    )
    share = source.heldout
    return (d for d in found if not is_held_out(d, share)) if isinstance(share, float) else found


def heldout_texts(context: Context, source: SourceConfig) -> Iterator[Document]:
    """Documents of a text source that training never sees; none when the source keeps none back."""
    held, key = source.heldout, source.text_key
    if isinstance(held, str) and source.path:
        beside = Path(source.path)
        folder = beside if beside.is_dir() else beside.parent
        return read_documents(str(folder / held), source=source.name, text_key=key)
    if isinstance(held, float) and source.path:
        limit = int(source.limit_mb * 1e6) if source.limit_mb else None
        found = read_documents(source.path, source=source.name, text_key=key, limit_bytes=limit)
        return (d for d in found if is_held_out(d, held))
    return iter(())


def _excluded(source: SourceConfig) -> list[str]:
    return [Path(source.heldout).name] if isinstance(source.heldout, str) else []


def read_problems(context: Context, source: SourceConfig) -> Iterator[dict[str, Any]]:
    """The problems that this stage wrote for a `tasks` source."""
    with open(context.stage("corpus") / f"{source.name}.jsonl.zst", "rb") as f:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(f), encoding="utf-8"):
            yield json.loads(line)


def walk(context: Context, folder: Path) -> Walked:
    """See the module's first lines."""
    recipe, inventory, outputs = context.recipe, {}, [INVENTORY]
    judge = recipe.judge
    refuse_blind(recipe)
    exam = prompt_keys(eval_set(get_tasks(judge.tasks), judge.per_cell, judge.languages, recipe.seed))
    for number, source in enumerate(recipe.corpus.sources):
        if source.kind == "text":
            inventory[source.name] = _count(context, source)
            continue
        name, count, size = f"{source.name}.jsonl.zst", source.problems, 0
        stream = train_stream(get_tasks(source.tasks), count, recipe.seed + number, exam, source.levels)
        with (
            open(folder / name, "wb") as f,
            zstandard.ZstdCompressor(level=3).stream_writer(f) as packed,
            context.progress(count, "corpus") as bar,
        ):
            for done, p in enumerate(stream, 1):
                line = (json.dumps(row_of(p), ensure_ascii=False) + "\n").encode()
                size += len(line)
                packed.write(line)
                if done % 2000 == 0 or done == count:
                    bar.update(done)
        inventory[source.name] = {"kind": "tasks", "documents": count, "bytes": size, "held_out_prompts": len(exam)}
        outputs.append(name)
    (folder / INVENTORY).write_text(json.dumps(inventory, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    documents = sum(v["documents"] for v in inventory.values())
    return Walked(outputs, f"{documents:,} documents from {len(inventory)} sources")


def refuse_blind(recipe: Recipe) -> None:
    """ConfigError for problems about images that the recipe's model cannot see, or cannot learn from in a stage."""
    asked = {"judge": recipe.judge.tasks} | {s.name: s.tasks for s in recipe.corpus.sources if s.kind == "tasks"}
    sight = {where: [t.name for t in get_tasks(names) if t.needs_images] for where, names in asked.items()}
    where, seen = next(((where, names) for where, names in sight.items() if names), ("", []))
    if seen and recipe.model.vision is None:
        raise ConfigError(f"{where} asks for {seen[0]!r}, which is about images. Add [model.vision] or leave it out.")
    if (where := next((w for w, names in sight.items() if names and w != "judge"), "")) and (
        recipe.preference or recipe.rl
    ):
        raise ConfigError(
            f"source {where!r} holds problems about images, which [preference] and [rl] cannot ask. Leave those out."
        )


def config(recipe: Recipe) -> dict[str, Any]:
    """What decides this stage: the sources, with the hashes of their files in place of where they lie."""
    sources = []
    for source in recipe.corpus.sources:
        plain = source.model_dump()
        if source.kind == "text":
            plain["path"] = _files(source)
        sources.append(plain)
    return {"sources": sources, "judge": recipe.judge.model_dump(), "seed": recipe.seed}


def _files(source: SourceConfig) -> dict[str, str]:
    if not source.path:
        raise ConfigError(f"source {source.name!r} is of kind 'text' and needs a `path`.")
    return {p.name: sha256_file(p) for p in source_files(source.path, _excluded(source))}


def _count(context: Context, source: SourceConfig) -> dict[str, Any]:
    """Documents and bytes of a text source, and the hash of every file it is read from."""
    documents = size = 0
    for document in training_texts(context, source):
        documents += 1
        size += len((document.text or "").encode())
    held = sum(1 for _ in heldout_texts(context, source))
    return {"kind": "text", "documents": documents, "bytes": size, "files": _files(source), "held_out_documents": held}
