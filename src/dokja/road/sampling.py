"""What a stage's weights write by themselves: samples.jsonl, for a person to look at."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dokja.road import corpus
from dokja.road.context import Context
from dokja.road.problems import question
from dokja.road.speech import Speech, speech
from dokja.text.chat import Message
from dokja.text.images import ImageConfig, Patches

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


def questions(context: Context) -> list[tuple[str, Message]]:
    """(language, question) of a few problems of the training stream, for recipes without texts."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for source in context.recipe.corpus.sources:
        if source.kind == "tasks":
            for row in islice(corpus.read_problems(context, source), EACH * 2):
                rows.setdefault(row["language"], []).append(row)
    return [(language, question(row)) for language, found in rows.items() for row in found[: EACH // 3]]


def write_samples(context: Context, folder: Path, name: str) -> None:
    """Continues openings (language stages) or answers questions while thinking (from sft on); writes samples.jsonl."""
    from dokja.engine.answers import closing_ids, stop_ids
    from dokja.engine.api import Request
    from dokja.engine.load import load_engine

    dtype, device = engine_dtype(context, name), device_name(context)
    engine, tokenizer, info = load_engine(folder / "weights", slots=32, dtype=dtype, device=device)
    spoken = speech(context)
    ends, thinks = {*stop_ids(spoken.style, tokenizer), spoken.ids["eos"]}, spoken.style.supports("think")
    chat = name in ("sft", "preference", "rl")
    asked = [] if chat else [(language, Message("user", text)) for language, text in openings(context)]
    asked = asked or questions(context)
    prompts = [prompt_ids(spoken, message, chat, info["images"]) for _, message in asked]
    room = min(NEW_TOKENS, info["spec"]["context"] // 2)
    requests = [
        Request(
            id=str(i),
            prompt=ids,
            images=shown,
            max_tokens=room,
            temperature=0.0 if chat else 0.8,
            top_p=0.95,
            seed=i,
            stop=tuple(sorted(ends)),
            think_budget=room - 16 if chat and thinks and spoken.closes else None,
            think_close=closing_ids(spoken.style, tokenizer) if chat and thinks and spoken.closes else (),
        )
        for i, (ids, shown) in enumerate(prompts)
    ]
    lines: list[dict[str, Any]] = []
    for (language, message), done in zip(asked, engine.complete(requests), strict=True):
        text = tokenizer.decode(written(done.tokens, ends), markers=chat)
        lines.append({"language": language, "prompt": message.content, "text": text})
    with open(folder / "samples.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def prompt_ids(
    spoken: Speech, message: Message, chat: bool, images: ImageConfig | None
) -> tuple[list[int], tuple[Patches, ...]]:
    """Ids of a document's beginning, or of a question that waits for its answer, and the question's images."""
    from dokja.engine.answers import encode_prompt

    if not chat:
        return [spoken.ids["bos"], *spoken.tokenizer.encode(message.content)], ()
    style = spoken.style
    return encode_prompt([message], spoken.tokenizer, images, style.supports("think"), style)


def written(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """The tokens without the markers that end an answer."""
    return [t for t in tokens if t not in ends]


def engine_dtype(context: Context, name: str) -> Any:
    """The dtype the samples are written in: fp32, or what stage `name` computes in where the release is bf16."""
    import torch

    from dokja.road.training import pick_device, pick_dtype

    if context.recipe.release.dtype == "float32":
        return torch.float32
    return pick_dtype(getattr(context.recipe, name).precision, pick_device(context.recipe))


def device_name(context: Context) -> str:
    """Where the engine runs: the recipe's device."""
    from dokja.road.training import pick_device

    return str(pick_device(context.recipe))
