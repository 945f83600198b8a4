"""From a path to an engine: release folders, run folders and the stages inside them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from dokja.engine.engine import Engine
from dokja.engine.recommended import Recommended, read_recommended
from dokja.errors import CheckpointError, DataError
from dokja.ledger.hashing import sha256_file, sha256_json
from dokja.model.decoder import Decoder
from dokja.text.images import ImageConfig
from dokja.text.styles import read_template, style_of
from dokja.text.template import JINJA
from dokja.text.tokenizer import Tokenizer

_CONFIG = "config.json"
# Where weights lie under a run or stage folder, best first; among equals the newest counts.
_PLACES = (
    ("weights",),  # a training stage
    ("release*", "release*/*"),  # a run that was released
    ("*/weights",),  # a run that is still training
)


def find_folder(path: str | Path) -> Path:
    """The folder with config.json behind `path`: itself, a run's newest release, else its newest stage's weights.

    Raises DataError with a sentence where there is none.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"There is no model at {path}. Name a release folder or a run folder.")
    if (path / _CONFIG).is_file():
        return path
    for patterns in _PLACES:
        found = [f for pattern in patterns for f in path.glob(pattern) if (f / _CONFIG).is_file()]
        if whole := [f for f in found if _weight_files(f) and not f.name.endswith(".partial")]:
            return max(whole, key=lambda f: (max(w.stat().st_mtime_ns for w in _weight_files(f)), str(f)))
    raise DataError(
        f"{path} holds no model yet: neither {_CONFIG} nor a release nor a finished training stage. "
        "Name a release folder, or run `dokja build` until its first stage is done."
    )


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def load_decoder(folder: Path, dtype: torch.dtype | None = None) -> Decoder:
    """The decoder of a release folder, whatever family its config.json names; its matrices in `dtype` (None: fp32)."""
    if not _weight_files(folder):
        raise DataError(f"{folder} has a {_CONFIG} but no .safetensors weights. Copy the whole release folder.")
    from dokja.model.families import load_model

    return load_model(folder, dtype)


def load_engine(
    path: str | Path, *, dtype: torch.dtype = torch.float32, slots: int = 128, device: str = "cpu", draft: int = 0
) -> tuple[Engine, Tokenizer, dict[str, Any]]:
    """Engine, tokenizer and facts of the model at `path` (see `find_folder`); `draft` as in `Engine`.

    The facts: name, path, sha256 of the weights file (of the list of hashes where there are several), spec (plain
    data), template_sha256 of the chat template that lies with it (ours where none does), images: the ImageConfig of a
    vision model, None for others; style: the chat format that it speaks; sampling: how to draw its answers, as the
    makers of an imported model recommend (our own are greedy unless asked otherwise).
    Raises DokjaError with a sentence where something is missing or does not fit together.
    """
    folder = find_folder(path)
    model = load_decoder(folder, dtype).requires_grad_(False)  # read only: the native path need not look for changes
    tokenizer = Tokenizer.load(folder, imported=True)
    if tokenizer.vocab_size > model.spec.vocab:
        raise CheckpointError(
            f"The tokenizer in {folder} has {tokenizer.vocab_size} tokens and its model only {model.spec.vocab}. "
            "They do not belong together: restore the folder."
        )
    hashes = {f.name: sha256_file(f) for f in _weight_files(folder)}
    info = {
        "name": _name(Path(path), folder),
        "path": str(folder),
        "sha256": next(iter(hashes.values())) if len(hashes) == 1 else sha256_json(hashes),
        "spec": model.spec.to_dict(),
        "images": ImageConfig.read(folder) if model.spec.vision else None,
        "template_sha256": hashlib.sha256((read_template(folder) or JINJA).encode()).hexdigest(),
        "style": style_of(folder, tokenizer),
        "sampling": read_recommended(folder) if tokenizer.foreign else Recommended(),
    }
    return Engine(model, slots=slots, dtype=dtype, device=device, draft=draft), tokenizer, info


def _name(path: Path, folder: Path) -> str:
    """What to call the model: the folder that was named, and the stage where the weights lie deeper."""
    top = path.resolve()
    inner = [part for part in folder.resolve().relative_to(top).parts if part != "weights"]
    return "/".join([top.name, *inner])
