"""Held-out texts: the model's bits per byte beside two baselines, by source and by language.

    texts.json   {"sources":   {name: {"language", "bytes", "model", "xz", "ngram"}},
                  "languages": {tag: {"bytes", "model", "xz", "ngram"}}, "all": {the same},
                  "settings":  what the figures were made with}

`bytes` are raw UTF-8 of the texts in NFC; the others are bits per byte, over several sources total bits / total bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.data.batch import sweep
from dokja.data.shards import ShardSet
from dokja.errors import DataError
from dokja.judge.baselines import ByteNgram, xz_bits_per_byte
from dokja.ledger.atomic import write_atomic
from dokja.model.families import load_model
from dokja.text.tokenizer import Tokenizer
from dokja.text.unicode import nfc
from dokja.train.bits import bits_per_byte
from dokja.train.compiled import Runner
from dokja.train.loop import MICRO_TOKENS

TEXTS = "texts.json"
ORDER = 5
FIGURES = {"model": "model", "ngram": f"{ORDER}-gram bytes", "xz": "xz -9"}


def judge_texts(
    weights_folder: Path,
    heldout: Mapping[str, ShardSet],
    heldout_texts: Callable[[str], Iterable[str]],
    train_texts: Callable[[], Iterable[str]],
    languages: Mapping[str, str | None],
    out: Path,
    seq_len: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    compile: bool = True,
    ngram_mb: float | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Writes texts.json into the folder `out`, prints it as a table and returns what it holds.

    weights_folder: weights and tokenizer in the release layout. heldout: held-out shards by source, `heldout_texts`
    the same documents as text. train_texts: what the model was trained on; the n-gram counts the first `ngram_mb` MB
    of it, or all. languages: tag of each source, None for a source that joins no language.

    The model reads rows of `seq_len` tokens into which documents are packed; it sees nothing of a row's other
    documents. A longer document is cut into pieces, and the first tokens of a later piece do not see the piece before
    it, so the figure is what the model does with at most `seq_len` tokens of context. Every token of every document
    is predicted exactly once, its end included: that costs bits and adds no bytes. The baselines predict no ends.
    xz compresses a source's documents joined end to end.

    Sources without a byte are left out. Raises DataError where texts and shards are not of the same documents.
    """
    texts = {name: [nfc(text).encode() for text in heldout_texts(name)] for name in heldout}
    texts = {name: documents for name, documents in texts.items() if any(documents)}
    model = _model_bits(weights_folder, {name: heldout[name] for name in texts}, texts, seq_len, dtype, device, compile)
    ngram = ByteNgram.train(_first(train_texts(), ngram_mb), ORDER)
    sources: dict[str, dict[str, Any]] = {}
    for name, documents in texts.items():
        size = sum(map(len, documents))
        sources[name] = {
            "language": languages.get(name),
            "bytes": size,
            "model": model[name],
            "xz": xz_bits_per_byte(b"".join(documents)),
            "ngram": ngram.bits(documents) / size,
        }
    result = aggregate(sources) | {
        "settings": {
            "seq_len": seq_len,
            "dtype": str(dtype).removeprefix("torch."),
            "ngram_order": ORDER,
            "ngram_training_bytes": ngram.training_bytes,
        }
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / TEXTS, (json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode())
    print_texts(result, console)
    return result


def aggregate(sources: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{"sources", "languages", "all"} of rows by source; a figure of several sources is total bits / total bytes."""
    tags = dict.fromkeys(row["language"] for row in sources.values() if row["language"] is not None)
    by_tag = {tag: [row for row in sources.values() if row["language"] == tag] for tag in tags}
    return {
        "sources": sources,
        "languages": {tag: _together(rows) for tag, rows in by_tag.items()},
        "all": _together(list(sources.values())),
    }


def print_texts(result: Mapping[str, Any], console: Console | None = None) -> None:
    """The content of texts.json as a table on the terminal."""
    console = console or Console()
    if not result["sources"]:
        console.print("no held-out text to judge by.", highlight=False)
        return
    table = Table(title="bits per byte of held-out text, lower is better", title_justify="left", box=box.SIMPLE)
    table.add_column("source")
    table.add_column("language")
    table.add_column("MB", justify="right")
    for title in FIGURES.values():
        table.add_column(title, justify="right", no_wrap=True)

    def add(name: str, language: str, row: Mapping[str, Any], style: str = "") -> None:
        figures = (f"{row[key]:.3f}" for key in FIGURES)
        table.add_row(escape(name), language, f"{row['bytes'] / 1e6:.2f}", *figures, style=style)

    for name, row in result["sources"].items():
        add(name, row["language"] or "", row)
    table.add_section()
    for tag, row in result["languages"].items():
        add("all", tag, row)
    add("all", "", result["all"], "bold")
    console.print(table)


def _model_bits(
    weights_folder: Path,
    heldout: Mapping[str, ShardSet],
    texts: Mapping[str, list[bytes]],
    seq_len: int,
    dtype: torch.dtype,
    device: torch.device | str,
    compile: bool,
) -> dict[str, float]:
    tokenizer = Tokenizer.load(weights_folder, imported=True)
    token_bytes = np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])
    for name, shards in heldout.items():
        _refuse_others(name, shards, texts[name], tokenizer, token_bytes)
    device = torch.device(device)
    runner = Runner(load_model(weights_folder).to(device), dtype, compile, MICRO_TOKENS[device.type] // seq_len)
    return {n: bits_per_byte(runner, sweep(shards, seq_len, runner.rows), token_bytes) for n, shards in heldout.items()}


def _refuse_others(
    name: str, shards: ShardSet, documents: list[bytes], tokenizer: Tokenizer, token_bytes: np.ndarray
) -> None:
    """A figure beside another one is worth nothing unless both are of the same bytes."""
    if shards.tokenizer_sha256 != tokenizer.sha256:
        raise DataError(f"The held-out shards {shards.path} are of another tokenizer than the model. Build them again.")
    inside, size = sum(int(token_bytes[file].sum()) for file in shards.token_files), sum(map(len, documents))
    if inside != size:
        raise DataError(
            f"The held-out texts of {name} have {size:,} bytes and its shards {shards.path} {inside:,}: they are not "
            "the same documents. Put the texts back as they were, or build the shards again."
        )


def _first(texts: Iterable[str], megabytes: float | None) -> Iterator[bytes]:
    """Documents until they add up to the limit; the one that reaches it is the last."""
    size = 0
    for text in texts:
        data = nfc(text).encode()
        size += len(data)
        yield data
        if megabytes is not None and size >= megabytes * 1e6:
            return


def _together(rows: list[dict[str, Any]]) -> dict[str, float]:
    size = sum(row["bytes"] for row in rows)
    return {"bytes": size, **{key: sum(r[key] * r["bytes"] for r in rows) / max(size, 1) for key in FIGURES}}
