"""From a path to an engine: release folders, run folders and the stages inside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from dokja.engine.engine import Engine
from dokja.errors import CheckpointError, DataError
from dokja.ledger.hashing import sha256_file, sha256_json
from dokja.model.decoder import Decoder
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


def load_decoder(folder: Path) -> Decoder:
    """The decoder of a release folder, whatever family its config.json names."""
    if not _weight_files(folder):
        raise DataError(f"{folder} has a {_CONFIG} but no .safetensors weights. Copy the whole release folder.")
    from dokja.model.families import load_model

    return load_model(folder)


def load_engine(
    path: str | Path, *, dtype: torch.dtype = torch.float32, slots: int = 128, device: str = "cpu"
) -> tuple[Engine, Tokenizer, dict[str, Any]]:
    """Engine, tokenizer and facts of the model at `path` (see `find_folder`).

    The facts: name, path, sha256 of the weights file (of the list of hashes where there are several), spec (plain
    data), template_sha256 of the chat template that lies with it (ours where none does).
    Raises DokjaError with a sentence where something is missing or does not fit together.
    """
    folder = find_folder(path)
    model = load_decoder(folder).requires_grad_(False)  # read only: the native path need not look for changes
    tokenizer = Tokenizer.load(folder)
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
        "template_sha256": hashlib.sha256(_template(folder).encode()).hexdigest(),
    }
    return Engine(model, slots=slots, dtype=dtype, device=device), tokenizer, info


def _name(path: Path, folder: Path) -> str:
    """What to call the model: the folder that was named, and the stage where the weights lie deeper."""
    top = path.resolve()
    inner = [part for part in folder.resolve().relative_to(top).parts if part != "weights"]
    return "/".join([top.name, *inner])


def _template(folder: Path) -> str:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(config.get("chat_template") or JINJA)
    except FileNotFoundError:
        return JINJA
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}/tokenizer_config.json cannot be read ({error}). Restore the release folder."
        ) from error
