"""Stage `shards`: documents and conversations become token files.

shards/pretrain/<source>/   plain documents: <|bos|> text <|end|>
shards/sft/<source>/        conversations with loss flags, both modes by `think_share`
shards/heldout/<source>/    held-out texts, for bits per byte
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from dokja.data.shards import ShardSet, ShardWriter
from dokja.recipe.schema import SourceConfig
from dokja.road import corpus
from dokja.road.context import Context, Walked
from dokja.road.problems import conversations
from dokja.road.speech import Speech, speech
from dokja.road.tokenizer import plain_texts
from dokja.tasks.registry import get_tasks
from dokja.text.chat import Message
from dokja.text.images import ImageConfig, fit
from dokja.text.tokenizer import expand

BLOCK = 4000


def open_all(folder: Path, verify: bool = True) -> dict[str, ShardSet]:
    """Every shard set below `folder`, by the name of its source."""
    return {p.parent.name: ShardSet.open(p.parent, verify=verify) for p in sorted(folder.glob("*/shards.json"))}


def write_plain(texts: Iterable[str], folder: Path, spoken: Speech) -> int:
    """Texts as documents of a shard set; returns the number of tokens."""
    tokenizer, bos, end = spoken.tokenizer, spoken.ids["bos"], spoken.ids["eos"]
    with ShardWriter(folder, tokenizer.vocab_size, tokenizer_sha256=tokenizer.sha256) as writer:
        texts = iter(texts)
        while block := list(islice(texts, BLOCK)):
            for text, ids in zip(block, tokenizer.encode_batch(block), strict=True):
                writer.add([bos, *ids, end], utf8_bytes=len(text.encode()))
    return ShardSet.open(folder, verify=False).tokens


def write_talk(
    turns: Iterable[tuple[list[Message], bool]], folder: Path, spoken: Speech, images: ImageConfig | None
) -> int:
    """(messages, thinking) as documents of a shard set, with their images; returns the number of tokens.

    `images` is the image config of a model with a vision tower.
    """
    tokenizer, style, turns = spoken.tokenizer, spoken.style, iter(turns)
    marker = tokenizer.special_id(style.image) if images is not None and style.image else -1
    with ShardWriter(folder, tokenizer.vocab_size, tokenizer_sha256=tokenizer.sha256) as writer:
        while block := list(islice(turns, BLOCK)):
            rendered = (style.render(messages, thinking=think) for messages, think in block)
            for (messages, _), (ids, loss) in zip(block, tokenizer.encode_segments_batch(rendered), strict=True):
                shown = [image for message in messages for image in message.images]
                if shown and images is not None:
                    sides = [fit(pixels.shape[0], pixels.shape[1], images) for pixels in shown]
                    ids, loss = expand(ids, loss, marker, [h * w // images.side**2 for h, w in sides])
                writer.add(ids, loss, images=shown)
    return writer.tokens


def sees_text(source: SourceConfig) -> bool:
    """Whether a source holds documents of text alone."""
    return source.kind == "text" or any(not task.needs_images for task in get_tasks(source.tasks))


def walk(context: Context, folder: Path) -> Walked:
    """See the module's first lines; a half-written folder is begun again."""
    recipe = context.recipe
    spoken = speech(context)
    for part in ("pretrain", "sft", "heldout"):
        shutil.rmtree(folder / part, ignore_errors=True)
    images = ImageConfig.of(recipe.model.vision) if recipe.model.vision else None
    plain = talk = 0
    for source in recipe.corpus.sources:
        texts = (text for _, text in plain_texts(context, source))
        if (recipe.pretrain or recipe.context) and sees_text(source):
            plain += write_plain(texts, folder / "pretrain" / source.name, spoken)
        if source.kind == "text" and source.heldout:
            held = (d.text or "" for d in corpus.heldout_texts(context, source))
            write_plain(held, folder / "heldout" / source.name, spoken)
        if source.kind == "tasks" and recipe.sft:
            mode = random.Random(f"{recipe.seed}/{source.name}/mode")
            rows = corpus.read_problems(context, source)
            turns = conversations(rows, spoken.think_share(recipe.sft.think_share), recipe.sft.history_share, mode)
            talk += write_talk(turns, folder / "sft" / source.name, spoken, images)
    outputs = [part for part in ("pretrain", "sft", "heldout") if (folder / part).exists()]
    return Walked(outputs, f"{plain:,} tokens of documents, {talk:,} of conversations")
