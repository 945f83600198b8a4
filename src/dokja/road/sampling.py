"""What a stage's weights write by themselves: samples.jsonl, for a person to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dokja.road import corpus
from dokja.road.context import Context
from dokja.road.problems import conversation
from dokja.text.chat import BOS, END, THINK_END, render
from dokja.text.tokenizer import Tokenizer

EACH = 10
"""Samples a language."""
PROMPT_CHARACTERS = 40
NEW_TOKENS = 128


def openings(context: Context) -> list[tuple[str, str]]:
    """(language, first characters) of held-out documents, `EACH` a language, the sources taking turns."""
    found: dict[str, list[list[str]]] = {}
    for source in context.recipe.corpus.sources:
        if source.kind == "text":
            texts = [(d.text or "")[:PROMPT_CHARACTERS] for d in islice(corpus.heldout_texts(context, source), EACH)]
            found.setdefault(source.language or "", []).append(texts)
    rows = []
    for language, lists in found.items():
        turns = [text for texts in zip(*lists, strict=False) for text in texts]
        rows += [(language, text) for text in turns[:EACH]]
    return rows


def questions(context: Context) -> list[tuple[str, str]]:
    """(language, prompt) of a few problems of the training stream, for recipes without texts."""
    rows: dict[str, list[str]] = {}
    for source in context.recipe.corpus.sources:
        if source.kind == "tasks":
            for row in islice(corpus.read_problems(context, source), EACH * 2):
                rows.setdefault(row["language"], []).append(row["prompt"])
    return [(language, text) for language, texts in rows.items() for text in texts[: EACH // 3]]


def write_samples(context: Context, folder: Path, name: str) -> None:
    """Continues openings (language stages) or answers questions while thinking (from sft on); writes samples.jsonl."""
    from dokja.engine.api import Request
    from dokja.engine.load import load_engine

    engine, tokenizer, info = load_engine(folder / "weights", slots=32, device=str(device_name(context)))
    end, close = tokenizer.special_id(END), tokenizer.special_id(THINK_END)
    chat = name in ("sft", "preference", "rl")
    asked = questions(context) if chat else openings(context) or questions(context)
    room = min(NEW_TOKENS, info["spec"]["context"] // 2)
    requests = [
        Request(
            id=str(i),
            prompt=prompt_ids(tokenizer, text, chat),
            max_tokens=room,
            temperature=0.0 if chat else 0.8,
            top_p=0.95,
            seed=i,
            stop=(end,),
            think_budget=room - 16 if chat else None,
            think_close=(close,) if chat else (),
        )
        for i, (_, text) in enumerate(asked)
    ]
    lines: list[dict[str, Any]] = []
    for (language, text), done in zip(asked, engine.complete(requests), strict=True):
        lines.append(
            {"language": language, "prompt": text, "text": tokenizer.decode(written(done.tokens, end), markers=chat)}
        )
    with open(folder / "samples.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def prompt_ids(tokenizer: Tokenizer, text: str, chat: bool) -> list[int]:
    """Ids of a document's beginning, or of a question that waits for its answer."""
    if not chat:
        return [tokenizer.special_id(BOS), *tokenizer.encode(text)]
    question = conversation({"prompt": text, "reference": ""}, thinking=False)[:1]
    return tokenizer.encode_segments(render(question, thinking=True, add_generation_prompt=True))[0]


def written(tokens: Sequence[int], end: int) -> list[int]:
    """The tokens without a closing end marker."""
    return [t for t in tokens if t != end]


def device_name(context: Context) -> str:
    """Where the engine runs: the recipe's device."""
    from dokja.road.training import pick_device

    return str(pick_device(context.recipe))
