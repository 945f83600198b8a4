"""Weights out of a GGUF file, some rows at a time, for whoever reads a `Checkpoint`.

Blocks of few bits are turned into fp32 by the gguf package (`gguf.quants`, ggml's own numbers) and cast into the
parameter they belong to. Memory: the parameters and a few megabytes. llama.cpp's `llama` turns neighbouring features
instead of halves, so the rows of q and k lie interleaved in its files; they are put back in order here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dokja.errors import CheckpointError, ConfigError
from dokja.model.block import frequencies
from dokja.model.families.files import Stored
from dokja.model.families.gguf_config import FREQUENCIES, gguf_places, spec_of
from dokja.model.families.gguf_file import KINDS, Entry, GgufFile, read_gguf
from dokja.model.families.weights import Checkpoint, checked
from dokja.model.spec import ModelSpec, RopeScaling

_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PIECE = 1 << 21  # numbers made at a time


@dataclass(frozen=True)
class Quantised(Stored):
    """Where a tensor of blocks lies; `dtype` is what its numbers are made in."""

    entry: Entry | None = None
    heads: int = 0
    """Heads whose rows lie interleaved; 0 = in order."""

    def read_into(self, target: Tensor) -> None:
        """As `Stored.read_into`. ConfigError where the gguf package is missing."""
        assert self.entry is not None
        name, row_bytes = KINDS[self.entry.kind][0], self.entry.row_bytes
        out = target.detach().view(-1, self.shape[-1])
        rows, at_once = len(out), max(1, _PIECE // self.shape[-1])
        order = _order(rows, self.heads) if self.heads else None
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            for first in range(0, rows, at_once):
                raw = torch.empty(min(at_once, rows - first), row_bytes, dtype=torch.uint8)
                self._fill(file, raw.view(-1))
                piece = raw.view(_PLAIN[name]) if name in _PLAIN else _numbers(raw, name)
                where = slice(first, first + len(piece)) if order is None else order[first : first + len(piece)]
                out[where] = piece.to(out.dtype)


def _order(rows: int, heads: int) -> Tensor:
    """Where each row of a file of the architecture `llama` belongs: (head, feature of a half, half) there is (head,
    half, feature) here."""
    return torch.arange(rows).view(heads, 2, -1).transpose(1, 2).flatten()


def _numbers(raw: Tensor, name: str) -> Tensor:
    """What rows of blocks [R, bytes] stand for, [R, K] fp32."""
    try:
        import gguf
    except ImportError:
        raise ConfigError(
            "Reading quantised GGUF files needs the package gguf. Install it: pip install 'dokja[gguf]'."
        ) from None
    kind: Any = gguf.GGMLQuantizationType[name]
    return torch.from_numpy(gguf.quants.dequantize(raw.numpy(), kind))


def open_gguf(path: Path, file: GgufFile | None = None) -> Checkpoint:
    """A GGUF file whose tensors are known to be those that its metadata describes; `file` saves reading it again.

    CheckpointError for a tensor that is missing, foreign or of another shape, and for all that `read_gguf` and
    `gguf_config.spec_of` refuse.
    """
    file = file or read_gguf(path)
    spec = spec_of(file)
    interleaved = {"attn_q": spec.heads, "attn_k": spec.kv_heads} if file.architecture == "llama" else {}
    stored: dict[str, Stored] = {}
    for name, entry in file.tensors.items():
        dtype = _PLAIN.get(KINDS[entry.kind][0], torch.float32)
        heads = interleaved.get(name.split(".")[-2], 0)
        stored[name] = Quantised(path, dtype, entry.shape, entry.offset, entry, heads)
    if (factors := stored.pop(FREQUENCIES, None)) is not None:
        spec = replace(spec, rope_scaling=stretching(factors.read(), spec, path))
    return checked(file.metadata, spec, stored, list(gguf_places(spec)), path, "its metadata")


def stretching(factors: Tensor, spec: ModelSpec, path: Path) -> RopeScaling | None:
    """The stretching behind what RoPE's frequencies are divided by, [head_dim / 2]; None where that is one.

    Llama 3 and EXAONE 4.0 mix between wavelengths 1 and 1/4 of the original context; the file says neither that nor the
    context, so the one that gives these numbers is looked for. CheckpointError where none does.
    """
    if bool((factors == 1).all()):
        return None
    if factors.shape == (spec.head_dim // 2,):
        whole = frequencies(spec)
        factor = round(factors.max().item(), 4)
        for power in range(3, 22):
            scaling = RopeScaling(factor=factor, original=1 << power)
            made = whole / frequencies(replace(spec, rope_scaling=scaling))
            if torch.allclose(made, factors.float(), rtol=1e-5):
                return scaling
    raise CheckpointError(
        f"{path}: {FREQUENCIES} stretches RoPE in a way that dokja does not know. Use the model's official folder."
    )


def load_gguf(path: Path, dtype: Any = None) -> Any:
    """The Decoder (CPU) of a GGUF file; `dtype` and errors as in `families.load_model`."""
    from dokja.model.families import weights

    return weights.load(open_gguf(path), dtype)
