"""Random checkpoints in official folders for benches of speed, written once under a folder of the caller's."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch

from dokja.model.families import export
from dokja.model.families.weights import on_meta
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe
from dokja.text.tokenizer import train_tokenizer

RECIPES = Path(__file__).parent.parent / "recipes"
SPECIAL = {"bos": 1, "eos": 2, "pad": 0}
SHAPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "1.2b": ("shapes/4.0-1.2b.toml", ()),
    "100m": ("tiny.toml", ("scale=12", "model.width=640", "model.context=1024", "tokenizer.vocab=32768")),
    "tiny": ("tiny.toml", ()),
}
"""Recipe and changes to it. "quick" is the 1.2B shape made small, for trying a script out; "-full" behind a name
makes every layer global, which llama.cpp has for any depth."""
_CORPUS = ["An exported tokenizer has to hold something, so this one holds a sentence. 한국어 문장도 하나 있다. 12"] * 8


def shape(name: str, context: int | None = None) -> ModelSpec:
    """The spec of a shape, with another context where one is given."""
    if name == "quick":
        whole = shape("1.2b")
        small = replace(whole, vocab=1024, layers=3, width=256, heads=4, kv_heads=2, ffn=512)
        return small if context is None else replace(small, context=context)
    if name.endswith("-full"):
        return replace(shape(name.removesuffix("-full"), context), pattern="G", window=None, rope="all")
    path, changes = SHAPES[name]
    recipe = load_recipe(RECIPES / path, changes)
    spec = ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})
    return spec if context is None else replace(spec, context=context)


def invented_words(count: int, seed: int = 0) -> list[str]:
    """Texts of words that nobody uses, Hangul and Latin, different enough to give a tokenizer its whole vocabulary."""
    draw = random.Random(seed)
    latin = [c + v for c in "bcdfghjklmnprstvwz" for v in "aeiou"]

    def word() -> str:
        if draw.random() < 0.5:
            return "".join(draw.choice(latin) for _ in range(draw.randint(1, 4)))
        return "".join(chr(draw.randint(0xAC00, 0xAC00 + 1200)) for _ in range(draw.randint(1, 3)))

    words = [word() for _ in range(count)]
    return [" ".join(words[i : i + 20]) for i in range(0, count, 20)]


def random_checkpoint(
    folder: Path, spec: ModelSpec, dtype: torch.dtype = torch.bfloat16, seed: int = 0, readable: bool = False
) -> Path:
    """An official folder with random weights none of whose parts is silent, and a tokenizer; `folder` itself. The
    tokenizer is small, or with `readable` as large as the vocabulary, so that whatever is drawn is text."""
    if (folder / "config.json").is_file():
        return folder
    gen = torch.Generator().manual_seed(seed)
    weights = {}
    for name, p in on_meta(spec).named_parameters():
        if p.ndim == 1:
            small = spec.norm == "post" and name.endswith(("attn_norm", "ffn_norm"))
            start = (2 * spec.layers) ** -0.5 if small else 1.0
            weights[name] = torch.full(p.shape, start, dtype=dtype)
        else:
            std = 1.0 if name == "embed" and not spec.tied else p.shape[-1] ** -0.5
            weights[name] = torch.empty(p.shape, dtype=dtype).normal_(0.0, std, generator=gen)
    folder.mkdir(parents=True, exist_ok=True)
    if readable:
        train_tokenizer(invented_words(4 * spec.vocab), spec.vocab).save(folder)
    else:
        train_tokenizer(_CORPUS, 320).save(folder)
    export(spec, weights, folder, SPECIAL, dtype=dtype)  # config.json comes last: a folder that has it is whole
    return folder
