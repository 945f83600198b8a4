"""From a path to an engine: release folders, run folders and the stages inside them, GGUF files."""

from __future__ import annotations

import hashlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from dokja.engine import lowbit, packed_cache
from dokja.engine.engine import Engine
from dokja.engine.lowbit import LowBitDecoder
from dokja.engine.packed import Bits, PackedWeights, obstacle
from dokja.engine.packed_cache import Source
from dokja.engine.recommended import Recommended, read_recommended, recommended_in
from dokja.errors import CheckpointError, DataError
from dokja.model.decoder import Decoder
from dokja.model.families.gguf_file import is_gguf, read_gguf
from dokja.model.families.gguf_text import style_in, template_of, tokenizer_of
from dokja.text.images import ImageConfig
from dokja.text.style import Style
from dokja.text.styles import read_template, style_of
from dokja.text.template import JINJA
from dokja.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from dokja.model.families.weights import Checkpoint

_CONFIG = "config.json"
_SETTLE_SECONDS = 2.0
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
        if whole := [f for f in found if Source(f).files and not f.name.endswith(".partial")]:
            return max(whole, key=lambda f: (max(w.stat().st_mtime_ns for w in Source(f).files), str(f)))
    raise DataError(
        f"{path} holds no model yet: neither {_CONFIG} nor a release nor a finished training stage. "
        "Name a release folder, or run `dokja build` until its first stage is done."
    )


def find_place(path: str | Path) -> Path:
    """The GGUF file `path`, or else `find_folder`."""
    return Path(path) if is_gguf(Path(path)) else find_folder(path)


def load_decoder(place: Path, dtype: torch.dtype | None = None) -> Decoder:
    """The decoder of a release folder, whatever family its config.json names, or of a GGUF file; its matrices in
    `dtype` (None: fp32)."""
    from dokja.model.families import weights

    return weights.load(_open(place), dtype)


def _open(place: Path) -> Checkpoint:
    _check_weights(place)
    from dokja.model.families import gguf_weights, weights

    return gguf_weights.open_gguf(place) if is_gguf(place) else weights.open_checkpoint(place)


def _check_weights(folder: Path) -> None:
    if not Source(folder).files:
        raise DataError(f"{folder} has a {_CONFIG} but no .safetensors weights. Copy the whole release folder.")


def load_few_bits(folder: Path, bits: Bits, device: str = "cpu") -> tuple[Decoder | PackedWeights, str]:
    """The model of a release folder or GGUF file with weights of so many bits, and the sha256 of its weights.

    Packed weights come from the cache, or go there. What wide.cpp cannot serve is kept for torch's kernels.
    """
    source = Source(folder)
    if device == "cpu" and (packed := packed_cache.find(source, bits)):
        # From the file's mapping it answers at once, and from large pages a little faster; the move can wait for a
        # moment when the first answer is under way.
        later = threading.Timer(_SETTLE_SECONDS, packed.settle)
        later.daemon = True
        later.start()
        return packed, packed.source
    from dokja.model.families import weights

    identity, sha256, checkpoint = source.identity, source.sha256, _open(folder)
    if (why := obstacle(checkpoint.spec, device)) is None:
        packed = PackedWeights.read(checkpoint, bits, sha256)
        if source.identity == identity:  # nobody has changed it meanwhile
            packed_cache.keep(packed, identity)
        return packed, sha256
    lowbit.say(bits, why)
    if bits == "bf16":
        return weights.load(checkpoint, torch.bfloat16), sha256
    return LowBitDecoder(checkpoint.spec, bits, weights.parameters_of(checkpoint), device), sha256


def load_engine(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    slots: int = 128,
    device: str = "cpu",
    draft: int = 0,
    drafter: Literal["mtp", "lookup"] | None = None,
    weights: Bits | None = None,
    kv_tokens: int | None = None,
    prefix_tokens: int = 8192,
) -> tuple[Engine, Tokenizer, dict[str, Any]]:
    """Engine, tokenizer and facts of the model at `path` (see `find_place`); all options as in `Engine`.

    The facts: name, path, sha256 of the weights file (of the list of hashes where there are several), weights (their
    bits; None: `dtype`), spec (plain data), template_sha256 of the chat template that lies with it (ours where none
    does), images: the ImageConfig of a vision model, None for others; style: the chat format that it speaks; sampling:
    how to draw its answers, as the makers of an imported model recommend (our own are greedy unless asked otherwise).
    Raises DokjaError with a sentence where something is missing or does not fit together.
    """
    folder = find_place(path)
    _check_weights(folder)
    with ThreadPoolExecutor(1) as beside:  # a large vocabulary takes as long to read as packed weights
        reading = beside.submit(_read_words, folder)
        if weights:
            model, sha256 = load_few_bits(folder, weights, device)
            dtype = torch.bfloat16
        else:  # read only: the native path need not look for changes
            model, sha256 = load_decoder(folder, dtype).requires_grad_(False), Source(folder).sha256
        words = reading.result()
    tokenizer = words.tokenizer
    if tokenizer.vocab_size > model.spec.vocab:
        raise CheckpointError(
            f"The tokenizer in {folder} has {tokenizer.vocab_size} tokens and its model only {model.spec.vocab}. "
            "They do not belong together: restore the folder."
        )
    info = {
        "name": _name(Path(path), folder),
        "path": str(folder),
        "sha256": sha256,
        "weights": weights,
        "spec": model.spec.to_dict(),
        "images": ImageConfig.read(folder) if model.spec.vision else None,
        "template_sha256": hashlib.sha256((words.template or JINJA).encode()).hexdigest(),
        "style": words.style,
        "sampling": words.sampling,
    }
    engine = Engine(
        model,
        slots=slots,
        dtype=dtype,
        device=device,
        kv_tokens=kv_tokens,
        prefix_tokens=prefix_tokens,
        draft=draft,
        drafter=drafter,
        tokenizer=tokenizer,
    )
    return engine, tokenizer, info


@dataclass(frozen=True)
class _Words:
    """What lies beside the weights."""

    tokenizer: Tokenizer
    style: Style
    template: str | None
    sampling: Recommended


def _read_words(place: Path) -> _Words:
    if not is_gguf(place):
        tokenizer = Tokenizer.load(place, imported=True)
        sampling = read_recommended(place) if tokenizer.foreign else Recommended()
        return _Words(tokenizer, style_of(place, tokenizer), read_template(place), sampling)
    file = read_gguf(place)
    tokenizer, advice = tokenizer_of(file), recommended_in(file.metadata)
    if advice is None and tokenizer.foreign:
        print(f"dokja: {place} does not say how to draw answers: the likeliest tokens, unless asked otherwise.",
              file=sys.stderr)  # fmt: skip
    return _Words(tokenizer, style_in(file, tokenizer), template_of(file), advice or Recommended())


def _name(path: Path, folder: Path) -> str:
    """What to call the model: the folder that was named, and the stage where the weights lie deeper; of a file its name
    without the suffix."""
    if is_gguf(folder):
        return folder.stem
    top = path.resolve()
    inner = [part for part in folder.resolve().relative_to(top).parts if part != "weights"]
    return "/".join([top.name, *inner])
