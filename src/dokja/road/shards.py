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
from dokja.road import corpus
from dokja.road.context import Context, Walked
from dokja.road.problems import conversations
from dokja.road.tokenizer import plain_texts
from dokja.text.chat import BOS, END, render
from dokja.text.tokenizer import Tokenizer

BLOCK = 4000


def open_all(folder: Path, verify: bool = True) -> dict[str, ShardSet]:
    """Every shard set below `folder`, by the name of its source."""
    return {p.parent.name: ShardSet.open(p.parent, verify=verify) for p in sorted(folder.glob("*/shards.json"))}


def write_plain(texts: Iterable[str], folder: Path, tokenizer: Tokenizer) -> int:
    """Texts as documents of a shard set; returns the number of tokens."""
    bos, end = tokenizer.special_id(BOS), tokenizer.special_id(END)
    with ShardWriter(folder, tokenizer.vocab_size, tokenizer_sha256=tokenizer.sha256) as writer:
        texts = iter(texts)
        while block := list(islice(texts, BLOCK)):
            for text, ids in zip(block, tokenizer.encode_batch(block), strict=True):
                writer.add([bos, *ids, end], utf8_bytes=len(text.encode()))
    return ShardSet.open(folder, verify=False).tokens


def walk(context: Context, folder: Path) -> Walked:
    """See the module's first lines; a half-written folder is begun again."""
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.stage("tokenizer"))
    for part in ("pretrain", "sft", "heldout"):
        shutil.rmtree(folder / part, ignore_errors=True)
    plain = talk = 0
    for source in recipe.corpus.sources:
        texts = (text for _, text in plain_texts(context, source))
        if recipe.pretrain or recipe.context:
            plain += write_plain(texts, folder / "pretrain" / source.name, tokenizer)
        if source.kind == "text" and source.heldout:
            held = (d.text or "" for d in corpus.heldout_texts(context, source))
            write_plain(held, folder / "heldout" / source.name, tokenizer)
        if source.kind == "tasks" and recipe.sft:
            mode = random.Random(f"{recipe.seed}/{source.name}/mode")
            rows = corpus.read_problems(context, source)
            turns = conversations(rows, recipe.sft.think_share, recipe.sft.history_share, mode)
            rendered = (render(messages, thinking=think) for messages, think in turns)
            with ShardWriter(
                folder / "sft" / source.name, tokenizer.vocab_size, tokenizer_sha256=tokenizer.sha256
            ) as w:
                for ids, loss in tokenizer.encode_segments_batch(rendered):
                    w.add(ids, loss)
                    talk += len(ids)
    outputs = [part for part in ("pretrain", "sft", "heldout") if (folder / part).exists()]
    return Walked(outputs, f"{plain:,} tokens of documents, {talk:,} of conversations")
