"""Our GGUF files in llama.cpp beside our own decoder: logits, token ids, and what the refusals are for.

    pip install llama-cpp-python      # compiles for a quarter of an hour; no other part of dokja wants it
    python bench/gguf_parity.py [--json FILE]

Small models with random weights are released, exported as dokja does (fp32) and run on a text longer than any window.
A shape passes when the largest difference of a logit is below 1e-4 of their spread and the five likeliest tokens of
every position are the same. The shapes under "refused" are written by the inner function that does not ask, and show
what llama.cpp would have computed. Ids of texts are compared for the two pre-tokenizers that dokja names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from dokja.errors import ConfigError
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec, RopeScaling
from dokja.proof import gguf
from dokja.proof.gguf_vocab import read_vocabulary
from dokja.text.tokenizer import Tokenizer, train_tokenizer

PASSES = 1e-4
TEXTS = (
    "독자(獨自)는 스스로의 것이라는 뜻이다.", "I'll add 12 + 345 = 357, don't you?",
    "👍🏽 좋아요! 👩‍👩‍👧 family\n\n\tend",
    "1,234,567.89원 — ２０２６년 11월", "  spaces   and\r\nlines \n", "ㄱㄴㄷ ㅏㅑ café naïve 漢字かな",
    "<|end|> typed", "def f(x):\n    return x**2  # 제곱",
)  # fmt: skip
CORPUS = [
    *TEXTS, "한국어와 English를 섞은 글에서 배운 토크나이저는 두 말을 모두 짧게 쓴다. " * 4,
    "A tokenizer that learned from both languages writes both of them short. Numbers like 12 and 345 stay digits. " * 4,
]  # fmt: skip
WIDE = ModelSpec(
    vocab=600, width=64, layers=4, heads=4, kv_heads=2, head_dim=16, ffn=96, context=512, pattern="G", rope="all",
    rope_theta=10000.0,
)  # fmt: skip
STRETCHED = RopeScaling(factor=16.0, original=64)
SHAPES: dict[str, ModelSpec] = {
    "4.0, own head": WIDE,
    "4.0, tied, stretched RoPE (1.2B)": replace(WIDE, tied=True, rope_theta=1e6, rope_scaling=STRETCHED),
    "4.0, 64 layers LLLG (32B)": replace(WIDE, layers=64, pattern="LLLG", window=16, rope="local"),
    "3.5, head_dim 24, stretched RoPE": replace(
        WIDE, norm="pre", qk_norm=False, head_dim=24, rope_theta=1e6, rope_scaling=STRETCHED
    ),
    "3.5, tied (2.4B)": replace(WIDE, norm="pre", qk_norm=False, tied=True),
    "pre norm with QK-norm": replace(WIDE, norm="pre"),
    "pre norm with biases (Qwen2)": replace(WIDE, norm="pre", qk_norm=False, qkv_bias=True),
    "the same, tied": replace(WIDE, norm="pre", qk_norm=False, qkv_bias=True, tied=True),
}
REFUSED: dict[str, tuple[ModelSpec, str]] = {
    "4 layers LLLG": (replace(WIDE, pattern="LLLG", window=16, rope="local"), "exaone4"),
    "64 layers, all global": (replace(WIDE, layers=64), "exaone4"),
    "clamped SwiGLU": (replace(WIDE, clamp=(0.05,) * 4), "exaone4"),
}


@dataclass(frozen=True)
class Compared:
    """One shape: the largest difference of a logit, over their standard deviation; shares of positions with the same
    five likeliest tokens, and with the same first."""

    name: str
    arch: str
    difference: float
    spread: float
    top5: float
    top1: float
    refusal: str = ""

    @property
    def equal(self) -> bool:
        """Whether the two compute the same."""
        return self.difference <= PASSES * self.spread and self.top5 == 1.0


def random_model(spec: ModelSpec) -> Decoder:
    """A Decoder none of whose parts is silent."""
    model = Decoder(spec).init_weights(0).requires_grad_(False)
    gen = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if p.ndim == 1:
            p.copy_(1.0 + 0.2 * torch.randn(p.shape, generator=gen))
        elif name in ("head",) or name.endswith(("out_weight", "down_weight")):
            p.normal_(0.0, p.shape[1] ** -0.5, generator=gen)
    if spec.tied:
        model.embed.normal_(0.0, 0.3, generator=gen)
    return model


def their_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """llama.cpp's scores [L, V]."""
    import llama_cpp

    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}  # its cache is fp16 otherwise
    llama = llama_cpp.Llama(str(path), n_ctx=512, logits_all=True, verbose=False, n_threads=1, seed=0, **exact)
    llama.eval(tokens)
    found = np.array(llama.scores[: len(tokens)], dtype=np.float64)
    llama.close()
    return found


def compare(name: str, arch: str, model: Decoder, path: Path, tokens: list[int], refusal: str = "") -> Compared:
    """Both sides on the same tokens."""
    ours = model(torch.tensor([tokens]))[0].double().numpy()
    theirs = their_logits(path, tokens)
    best = [np.sort(np.argsort(-x, axis=-1)[:, :5], axis=-1) for x in (ours, theirs)]
    first = [x.argmax(-1) for x in (ours, theirs)]
    return Compared(
        name, arch, float(np.abs(ours - theirs).max()), float(ours.std()),
        float((best[0] == best[1]).all(-1).mean()), float((first[0] == first[1]).mean()), refusal,
    )  # fmt: skip


def released(spec: ModelSpec, tokenizer: Tokenizer, folder: Path) -> Decoder:
    """A random model in a release folder."""
    model = random_model(spec)
    folder.mkdir()
    tokenizer.save(folder)
    special = {"bos": 1, "eos": 2, "pad": 0}
    export(spec, dict(model.named_parameters()), folder, special, dtype=torch.float32)
    return model


def ids(path: Path, tokenizer: Tokenizer, texts: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Whether llama.cpp gives a text the ids that we give it."""
    import llama_cpp

    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    found = []
    for text in texts:
        theirs = llama.tokenize(text.encode(), add_bos=False, special=False)
        found.append((text, theirs == tokenizer.encode(text)))
    llama.close()
    return found


def gpt2_style() -> Tokenizer:
    """A tokenizer whose ByteLevel step cuts by itself, as EXAONE 4.0's does."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    hf = tokenizers.Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=560, initial_alphabet=alphabet, special_tokens=["[PAD]", "[BOS]", "[EOS]"], show_progress=False
    )
    hf.train_from_iterator(CORPUS, trainer)
    return Tokenizer(hf.to_str(), imported=True)


def measure(folder: Path) -> tuple[list[Compared], dict[str, list[tuple[str, bool]]]]:
    """All shapes and all texts."""
    tokenizer = train_tokenizer(CORPUS, 560)
    tokens = [1, *tokenizer.encode("".join(TEXTS))][:200]
    rows, path = [], folder / "first.gguf"
    for i, (name, spec) in enumerate(SHAPES.items()):
        place = folder / f"shape{i}"
        model = released(spec, tokenizer, place)
        arch = gguf.export_gguf(place, place / "model.gguf", "f32")
        rows.append(compare(name, arch, model, place / "model.gguf", tokens))
        path = place / "model.gguf" if i == 0 else path
    place = folder / "shape0"
    for i, (name, (spec, arch)) in enumerate(REFUSED.items()):
        try:
            gguf.architecture(spec)
            raise AssertionError(f"{name} was not refused")
        except ConfigError as error:
            refusal = str(error)
        model, file = random_model(spec), folder / f"refused{i}.gguf"
        vocabulary, weights = read_vocabulary(place, spec.vocab), dict(model.named_parameters())
        gguf.write(spec, weights.__getitem__, vocabulary, file, arch, "f32", name, "Apache-2.0")
        rows.append(compare(name, arch, model, file, tokens, refusal))
    texts = {f"ours ({read_vocabulary(place, 600).pre})": ids(path, tokenizer, TEXTS)}
    plain, other = gpt2_style(), folder / "gpt2"
    released(WIDE, plain, other)
    gguf.export_gguf(other, other / "model.gguf", "f32")
    texts[f"ByteLevel alone ({read_vocabulary(other, 600).pre})"] = ids(other / "model.gguf", plain, TEXTS)
    return rows, texts


def main() -> None:
    """Prints the tables; status 1 where an accepted shape or a text differs, or a refused shape does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, texts = measure(Path(folder))
    console, table = Console(highlight=False), Table(box=box.SIMPLE_HEAD)
    for column in ("shape", "llama.cpp", "max difference", "spread", "same top 5", "same first", "verdict"):
        table.add_column(column)
    wrong = 0
    for r in rows:
        as_it_should = r.equal != bool(r.refusal)
        wrong += not as_it_should
        verdict = ("refused, and it differs" if r.refusal else "equal") if as_it_should else "WRONG"
        table.add_row(
            r.name, r.arch, f"{r.difference:.2e}", f"{r.spread:.2f}", f"{r.top5:.0%}", f"{r.top1:.0%}", verdict
        )
    console.print(table)
    for name, found in texts.items():
        same = [text for text, equal in found if equal]
        wrong += len(found) - len(same)
        console.print(f"{name}: ids equal for {len(same)} of {len(found)} texts", markup=False)
        for text, equal in found:
            if not equal:
                console.print(f"  differs: {text!r}", markup=False)
    if args.json:
        told: dict[str, Any] = {"shapes": [vars(r) for r in rows], "texts": texts}
        args.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
