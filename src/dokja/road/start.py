"""Where a road begins that does not begin with empty weights: `init = "path"`.

The path may be a release, a run of ours, or an official folder (config.json, safetensors, tokenizer.json). Shape,
vocabulary and licence come from it; the hashes of its files stand in the manifests of the stages that read it, so that
a checkpoint that changed is noticed like any other input.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dokja.errors import CheckpointError, ConfigError
from dokja.ledger.hashing import sha256_file, sha256_json
from dokja.proof.licence import LICENCE_INPUT, read_licence, refuse_contradiction, text_for_release
from dokja.recipe.derive import Derived
from dokja.recipe.imported import Imported
from dokja.recipe.load import explain_recipe
from dokja.recipe.schema import Recipe

_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "*.jinja", "vocab.json",
          "merges.txt", "preprocessor_config.json")  # fmt: skip


def explain(path: str | Path, sets: Sequence[str] = ()) -> tuple[Recipe, list[Derived]]:
    """The recipe at `path` as `explain_recipe` gives it, and checked against the checkpoint it starts from.

    Raises DokjaError sentences: no model there, a [model] section or a licence that contradicts it, a tokenizer that
    does not belong to it.
    """
    recipe, rows = explain_recipe(path, sets, look)
    if recipe.init:
        folder = checkpoint(recipe.init)
        licence = read_licence(folder)
        refuse_contradiction(licence, recipe.release.licence, recipe.release.name)
        text_for_release(folder, licence)
    return recipe, rows


def checkpoint(init: str) -> Path:
    """The folder with the weights behind `init`. DataError or CheckpointError where there are none."""
    from dokja.engine.load import find_folder

    folder = find_folder(init)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} has a config.json but no .safetensors weights. Copy the whole folder.")
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json. Copy the whole folder: weights and tokenizer are one.")
    return folder


def look(init: str, written: Mapping[str, Any]) -> Imported:
    """What the checkpoint fixes of a recipe whose [model] section is `written`."""
    import torch

    from dokja.model.families.weights import open_checkpoint
    from dokja.model.spec import ModelSpec
    from dokja.text.tokenizer import Tokenizer

    folder = checkpoint(init)
    opened = open_checkpoint(folder)
    spec = opened.spec
    if spec.qkv_bias:
        raise ConfigError(
            f"{folder} is a model with biases on queries, keys and values (Qwen2), which recipes cannot say. dokja "
            "chats with it, serves and judges it; to train, start from a model without them."
        )
    found = spec.to_dict()
    for key, value in written.items():
        if key == "context":  # changes no weight, and longer rows are what [context] is for
            continue
        if key not in found:
            continue  # the schema refuses it in its own words
        ours = found[key]
        merged = {**ours, **value} if isinstance(ours, dict) and isinstance(value, dict) else value
        try:
            same = ModelSpec.from_dict({**found, key: merged}) == spec or (
                key == "pattern" and ModelSpec.from_dict({**found, key: value}).layer_specs == spec.layer_specs
            )
        except (ConfigError, TypeError):
            same = False
        if not same:
            raise ConfigError(
                f"model.{key} is {value!r} in the recipe and {ours!r} in the checkpoint {folder}. Leave it out: the "
                "shape comes with the weights."
            )
    tokens = Tokenizer.load(folder, imported=True).vocab_size
    if tokens > spec.vocab:
        raise CheckpointError(
            f"The tokenizer in {folder} has {tokens} tokens and its model only {spec.vocab}. They do not belong "
            "together: restore the folder."
        )
    matrices = {s.dtype for s in opened.stored.values() if len(s.shape) > 1}
    licence = read_licence(folder)
    return Imported(
        {k: v for k, v in found.items() if k != "vocab" and v is not None},
        spec.vocab,
        "bfloat16" if matrices == {torch.bfloat16} else "float32",
        licence.id,
        licence.prefix,
    )


def inputs(init: str) -> dict[str, str]:
    """What a stage that reads the checkpoint was built from: {"init/file": sha256}, and its licence's id."""
    folder = checkpoint(init)
    files = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
    return {**{f"init/{p.name}": _sha256(p) for p in files}, LICENCE_INPUT: read_licence(folder).id}


def weights_sha256(folder: Path) -> str:
    """One hash for the weights of a folder: of the file, or of the list of hashes where there are several."""
    files = {p.name: _sha256(p) for p in sorted(folder.glob("*.safetensors"))}
    return next(iter(files.values())) if len(files) == 1 else sha256_json(files)


def sentence(init: str) -> str:
    """What is told at import: what it is and under which licence, with what that asks."""
    folder = checkpoint(init)
    licence = read_licence(folder)
    return f"starting from {folder}, under {licence.title}." + (f" {licence.en}" if licence.en else "")


def _sha256(path: Path) -> str:
    """A file is hashed once a process as long as its size and time stay: weights are read by several stages."""
    stat = path.stat()
    return _hashed(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hashed(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)
