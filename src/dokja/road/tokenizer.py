"""Stage `tokenizer`: byte-level BPE over a sample of the corpus, every source by its weight; or the checkpoint's."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from dokja.recipe.schema import SourceConfig
from dokja.road import corpus
from dokja.road.context import Context, Walked
from dokja.road.problems import problem_from
from dokja.road.start import checkpoint
from dokja.tasks.textbook import documents
from dokja.text.tokenizer import Tokenizer, bytes_per_token_by_language, train_tokenizer


def plain_texts(context: Context, source: SourceConfig, sight: bool = False) -> Iterator[tuple[str, str]]:
    """(language, text) of every training document of a source, as pretraining reads it.

    Problems about images are among them with `sight` only: their words help a tokenizer, and teach a model to guess.
    """
    if source.kind == "text":
        for document in corpus.training_texts(context, source):
            yield source.language or "", document.text or ""
        return
    style = random.Random(context.recipe.seed)
    for row in corpus.read_problems(context, source):
        if "images" in row and not sight:
            continue
        for text in documents(problem_from(row), style):
            yield row["language"], text


def walk(context: Context, folder: Path) -> Walked:
    """Trains and writes tokenizer.json, tokenizer_config.json, chat_template.jinja and figures.json."""
    recipe = context.recipe
    sources = recipe.corpus.sources
    weight = sum(s.weight for s in sources)
    sample: list[tuple[str, str]] = []
    for source in sources:
        budget = recipe.tokenizer.sample_mb * 1e6 * source.weight / weight
        for language, text in plain_texts(context, source, sight=True):
            sample.append((language, text))
            budget -= len(text.encode())
            if budget <= 0:
                break
    if recipe.init:
        tokenizer = Tokenizer.load(checkpoint(recipe.init), imported=True)
    else:
        tokenizer = train_tokenizer((text for _, text in sample), recipe.tokenizer.vocab)
    tokenizer.save(folder)
    ratio = bytes_per_token_by_language(tokenizer, sample[:: max(1, len(sample) // 5000)])
    figures = {"vocab": tokenizer.vocab_size, "bytes_per_token": ratio}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    outputs = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    by_language = ", ".join(f"{k or 'all'} {v:.2f}" for k, v in ratio.items())
    return Walked(outputs, f"{tokenizer.vocab_size:,} entries; bytes per token: {by_language}")
