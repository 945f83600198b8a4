"""What weights in 8 or 4 bits cost in quality: bits per byte of a trained model on held-out text, by weights.

    python bench/low_bit_quality.py RUN [--limit-kb 400] [--json FILE]
    python bench/low_bit_quality.py RELEASE --text ko=FILE --text en=FILE

RUN is a run folder of a recipe with texts, such as recipes/text.toml: the held-out documents of its shards are read,
for each language an equal share of every source up to `--limit-kb`. With --text any release will do, and a FILE is what
a recipe's `path` may be (a .txt or .jsonl file, a folder, a glob).

Every document is cut into pieces of `--context` tokens (the model's own where it is left out), and every token but the
document's first is predicted once, its end included; a piece does not see the one before it. Bytes are raw UTF-8.

* fp32 is `Decoder`, the model that training knows; bf16, int8 and int4 are what `Engine(weights=...)` computes: the C++
  path for large models (engine/wide.py) where it serves the shape, with a cache in bf16.
* `change` is of bits per byte, from bf16's; ± is one standard error over documents of the paired difference.
* `KL` is the mean over tokens of KL(bf16 || these weights), in nats; `same first` the share of tokens with the same
  likeliest next one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dokja.data.shards import ShardSet
from dokja.data.sources import read_documents
from dokja.engine.forward import Forward
from dokja.engine.load import find_folder, load_decoder
from dokja.ledger.environment import describe_environment
from dokja.model.decoder import Decoder
from dokja.text.tokenizer import Tokenizer

WEIGHTS = ("fp32", "bf16", "int8", "int4")
ALL = "all"
Documents = dict[str, list[list[int]]]
"""By language."""


class Exact:
    """The decoder in fp32."""

    def __init__(self, model: Decoder):
        self.model = model

    def scores(self, tokens: list[int]) -> Tensor:
        """[L, V] after each token."""
        return self.model(torch.tensor([tokens]))[0]


class Engines:
    """The engine's forward pass; what reads a step's drafts reads a whole piece here."""

    def __init__(self, model: Decoder, weights: Any, context: int):
        self.forward = Forward(model, 1, torch.bfloat16, "cpu", context, context, weights, head=False)

    def scores(self, tokens: list[int]) -> Tensor:
        """[L, V] after each token."""
        length, cache = len(tokens), self.forward.cache
        cache.release(0)
        if not cache.cover(0, length):
            raise SystemExit("The cache has too few pages for a piece. Use a shorter --context.")
        return self.forward.verify(torch.tensor([tokens]), torch.arange(length)[None], length)


def of_run(run: Path) -> Documents | None:
    """Token ids of a run's held-out documents, sources of a language taking turns; None where it has none."""
    folders = sorted(p.parent for p in run.glob("shards/heldout/*/shards.json"))
    if not folders or not (run / "recipe.json").is_file():
        return None
    sources = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["corpus"]["sources"]
    languages = {s["name"]: s["language"] or "?" for s in sources}
    shards: dict[str, list[ShardSet]] = {}
    for folder in folders:
        shards.setdefault(languages[folder.name], []).append(ShardSet.open(folder))

    def documents(found: list[ShardSet]) -> Iterator[list[int]]:
        numbers = ([(s, n) for n in range(s.documents)] for s in found)
        for turn in zip_longest(*numbers):
            yield from (s.document(n).tolist() for s, n in filter(None, turn))

    return {language: list(documents(found)) for language, found in shards.items()}


def of_files(named: list[str], tokenizer: Tokenizer, folder: Path) -> Documents:
    """Token ids of LANGUAGE=FILE, between the model's begin and end markers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {**config, **config.get("text_config", {})}
    marks = [config.get(name) for name in ("bos_token_id", "eos_token_id")]
    begin, end = ([m[0] if isinstance(m, list) else m] if m is not None else [] for m in marks)
    found: Documents = {}
    for text in named:
        language, _, path = text.partition("=")
        if not path:
            raise SystemExit(f"--text {text!r} is not LANGUAGE=FILE.")
        read = read_documents(path, source=language, limit_bytes=50_000_000)
        found.setdefault(language, []).extend([*begin, *tokenizer.encode(d.text or ""), *end] for d in read)
    return found


def first(documents: list[list[int]], sizes: np.ndarray, limit: float) -> list[list[int]]:
    """Whole documents until they add up to `limit` bytes."""
    kept, total = [], 0.0
    for document in documents:
        if total >= limit:
            break
        total += float(sizes[document].sum())
        kept.append(document)
    return kept


def measure(sides: dict[str, Any], documents: list[list[int]], sizes: np.ndarray, context: int) -> dict[str, Any]:
    """By weights, a row per document: nats of its tokens, sum of KL(bf16 || these), tokens with bf16's likeliest."""
    rows: dict[str, list[list[float]]] = {name: [] for name in sides}
    for document in documents:
        sums = {name: np.zeros(3) for name in sides}
        for at in range(0, len(document) - 1, context):
            piece = document[at : at + context + 1]
            targets = torch.tensor(piece[1:])[:, None]
            logs = {name: side.scores(piece[:-1]).log_softmax(-1) for name, side in sides.items()}
            base = logs["bf16"]
            for name, log in logs.items():
                nats = -log.gather(1, targets).double().sum().item()
                apart = (base.exp() * (base - log)).double().sum().item()
                sums[name] += (nats, apart, (log.argmax(-1) == base.argmax(-1)).sum().item())
        for name, total in sums.items():
            rows[name].append(total.tolist())
    return {
        "bytes": [float(sizes[d[1:]].sum()) for d in documents],
        "tokens": [len(d) - 1 for d in documents],
        "rows": rows,
    }


def summarise(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By weights: bits per byte, change from bf16 and its standard error, KL and agreement per token."""
    size, tokens = sum(found["bytes"]), sum(found["tokens"])
    base = np.array(found["rows"]["bf16"])[:, 0]
    out = {}
    for name, rows in found["rows"].items():
        nats, apart, same = np.array(rows).T
        ratio = nats.sum() / base.sum()
        deviation = (nats - ratio * base).std(ddof=1) if len(nats) > 1 else math.nan
        out[name] = {
            "bits_per_byte": nats.sum() / math.log(2) / size,
            "change": ratio - 1,
            "error": deviation * len(nats) ** 0.5 / base.sum(),  # of a ratio of sums, to first order
            "kl": apart.sum() / tokens,
            "same_first": same.sum() / tokens,
        }
    return out


def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All languages as one."""
    rows = {name: [row for p in parts for row in p["rows"][name]] for name in parts[0]["rows"]}
    return {key: [x for p in parts for x in p[key]] for key in ("bytes", "tokens")} | {"rows": rows}


def show(name: str, found: dict[str, Any], figures: dict[str, dict[str, dict[str, float]]], console: Console) -> None:
    """One row for each language and weights."""
    table = Table(box=box.SIMPLE, title=f"{name}: bits per byte of held-out text", title_justify="left")
    for n, column in enumerate(("language", "weights", "bits/byte", "change from bf16", "KL, nats", "same first")):
        table.add_column(column, justify="right" if n > 1 else "left")
    for language, by_weights in figures.items():
        part = found[language]
        label = f"{language}: {sum(part['bytes']) / 1e6:.2f} MB, {len(part['bytes']):,} documents"
        for weights, f in by_weights.items():
            change = "" if weights == "bf16" else f"{f['change']:+.3%} ± {f['error']:.3%}"
            table.add_row(
                label, weights, f"{f['bits_per_byte']:.4f}", change, f"{f['kl']:.5f}", f"{f['same_first']:.2%}"
            )
            label = ""
        table.add_section()
    console.print(table)


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run folder or a release")
    parser.add_argument("--text", action="append", metavar="LANGUAGE=FILE", help="held-out text, in place of the run's")
    parser.add_argument("--limit-kb", type=float, default=400, help="text of each language, in thousands of bytes")
    parser.add_argument("--context", type=int, help="tokens of a piece; the model's context when left out")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--quick", action="store_true", help="20 kB of each language, to try the script")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = find_folder(args.model)
    tokenizer, model = Tokenizer.load(folder, imported=True), load_decoder(folder).requires_grad_(False)
    documents = of_files(args.text, tokenizer, folder) if args.text else of_run(args.model)
    if not documents:
        raise SystemExit(f"{args.model} is no run with held-out text. Name some: --text ko=FILE --text en=FILE.")
    sizes = np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])
    limit = 20e3 if args.quick else 1e3 * args.limit_kb
    context = min(args.context or model.spec.context, model.spec.context)
    sides = {w: Exact(model) if w == "fp32" else Engines(model, w, context) for w in WEIGHTS}
    found: dict[str, dict[str, Any]] = {}
    with torch.inference_mode():
        for language, all_of_it in documents.items():
            kept = first(all_of_it, sizes, limit)
            found[language] = measure(sides, kept, sizes, context)
            print(f"{language}: {len(kept)} documents read", file=sys.stderr)
    found[ALL] = together(list(found.values()))
    figures = {language: summarise(part) for language, part in found.items()}
    show(f"{model.spec.params / 1e6:.1f} M parameters", found, figures,
         Console(highlight=False, width=None if sys.stdout.isatty() else 110))  # fmt: skip
    if args.json:
        told = {"environment": describe_environment(args.threads), "figures": figures, "spec": model.spec.to_dict(),
                "bytes": {language: sum(part["bytes"]) for language, part in found.items()}}  # fmt: skip
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
