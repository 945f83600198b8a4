"""safetensors on disk: headers, tensors one at a time, folders of shards.

Why not the safetensors package: it maps whole files, whose pages count as memory of this process while they are copied,
and it writes a shard only once all of its tensors stand in memory. Here a tensor is read straight into the memory of
the parameter it becomes, and written piece by piece, so that a model as large as the machine can be loaded, converted
and saved. The format: 8 bytes with the header's length, the header (JSON: dtype, shape and offsets by name), the data.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dokja.errors import CheckpointError

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
_PIECE = 1 << 22  # numbers turned from one dtype into another at a time
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: file, dtype, shape and the offset of its first byte."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    def read_into(self, target: Tensor) -> None:
        """Fills a contiguous CPU tensor of as many numbers, cast to its dtype; extra memory: one small piece.

        Raises CheckpointError when the file ends too early.
        """
        if not target.is_contiguous():
            raise ValueError("read_into needs a contiguous target")
        flat = target.detach().view(-1)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            if self.dtype == flat.dtype:
                self._fill(file, flat)
                return
            piece = torch.empty(min(_PIECE, flat.numel()), dtype=self.dtype)
            for at in range(0, flat.numel(), _PIECE):
                part = piece[: min(_PIECE, flat.numel() - at)]
                self._fill(file, part)
                flat[at : at + _PIECE].copy_(part)

    def read(self) -> Tensor:
        """The tensor."""
        target = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(target)
        return target

    def _fill(self, file: Any, flat: Tensor) -> None:
        view = _bytes(flat)
        while len(view):
            if not (got := file.readinto(view)):
                raise CheckpointError(f"{self.path} is truncated. Copy it again from its source.")
            view = view[got:]


def read_folder(folder: Path) -> dict[str, Stored]:
    """Every tensor of a folder, by name: of `model.safetensors.index.json` where there is one, else of
    `model.safetensors`. CheckpointError where files are missing, damaged or not what the index says."""
    if not (folder / INDEX).is_file():
        return read_header(folder / ONE_FILE)
    try:
        files: dict[str, str] = dict(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / INDEX} is not an index of shards. Copy it again from its source.") from None
    if strays := sorted({name for name in files.values() if Path(name).name != name}):
        raise CheckpointError(f"{folder / INDEX} names files outside its folder: {strays[:4]}.")
    found: dict[str, Stored] = {}
    for name in sorted(set(files.values())):
        if not (folder / name).is_file():
            lacking = sorted({f for f in files.values() if not (folder / f).is_file()})
            raise CheckpointError(
                f"{folder} lacks {len(lacking)} of {len(set(files.values()))} files that its index names, the first "
                f"{lacking[0]}: the copy is not complete."
            )
        inside = read_header(folder / name)
        listed = {tensor for tensor, file in files.items() if file == name}
        if wrong := sorted(listed ^ set(inside)):
            raise CheckpointError(f"{folder / name} and the index beside it disagree about tensors: {wrong[:4]}.")
        found |= inside
    return found


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of one file, by name. CheckpointError when it is missing, truncated or not safetensors."""
    damaged = f"{path} is truncated or not safetensors"
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length <= size - 8 else None
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the folder holds no weights.") from None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{damaged} (no header). Copy it again from its source.")
    header.pop("__metadata__", None)
    found: dict[str, Stored] = {}
    for name, entry in header.items():
        try:
            kind, shape, (start, end) = str(entry["dtype"]), tuple(map(int, entry["shape"])), entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{damaged} ({name} is not described). Copy it again from its source.") from None
        if kind not in _DTYPES:
            raise CheckpointError(
                f"{path}: {name} is of dtype {kind}, which dokja does not compute with. Use the release in BF16 or F32."
            )
        if end - start != math.prod(shape) * _DTYPES[kind].itemsize or not 0 <= start <= end <= size - 8 - length:
            raise CheckpointError(f"{damaged} ({name} does not lie inside it). Copy it again from its source.")
        found[name] = Stored(path, _DTYPES[kind], shape, 8 + length + start)
    return found


@dataclass(frozen=True)
class Draft:
    """A tensor to be written; `make` is called when its turn comes, and its result forgotten afterwards."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """Size of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_folder(folder: Path, drafts: Iterable[Draft], shard_bytes: int | None = SHARD_BYTES) -> None:
    """Writes tensors into shards of at most `shard_bytes` (a larger tensor has one of its own; None: a single file).

    One shard is called model.safetensors; several are numbered and listed in an index, which is written last. Files of
    an earlier save are removed. Memory: one tensor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (folder / INDEX, folder / ONE_FILE, *folder.glob("model-*-of-*.safetensors")):
        old.unlink(missing_ok=True)
    shards = list(_shards(drafts, shard_bytes))
    if len(shards) == 1:
        write_file(folder / ONE_FILE, shards[0])
        return
    weight_map: dict[str, str] = {}
    for n, shard in enumerate(shards, 1):
        name = f"model-{n:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / name, shard)
        weight_map |= {draft.name: name for draft in shard}
    total = sum(draft.bytes for shard in shards for draft in shard)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(drafts: Iterable[Draft], shard_bytes: int | None) -> Iterator[list[Draft]]:
    shard: list[Draft] = []
    room = shard_bytes
    for draft in drafts:
        if room is not None and shard_bytes is not None:
            if shard and draft.bytes > room:
                yield shard
                shard, room = [], shard_bytes
            room -= draft.bytes
        shard.append(draft)
    yield shard


def write_file(path: Path, drafts: Iterable[Draft]) -> None:
    """Writes one file, wider dtypes first so that every tensor is aligned, and brings it to disk."""
    order = sorted(drafts, key=lambda draft: -draft.dtype.itemsize)
    header: dict[str, Mapping[str, Any]] = {"__metadata__": {"format": "pt"}}
    at = 0
    for draft in order:
        header[draft.name] = {
            "dtype": _NAMES[draft.dtype],
            "shape": list(draft.shape),
            "data_offsets": [at, at + draft.bytes],
        }
        at += draft.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for draft in order:
            tensor = draft.make()
            if tuple(tensor.shape) != draft.shape:
                raise ValueError(f"{draft.name} was announced as {draft.shape}, not {tuple(tensor.shape)}")
            _write(file, tensor.detach().reshape(-1), draft.dtype)
        os.fsync(file.fileno())


def _write(file: Any, flat: Tensor, dtype: torch.dtype) -> None:
    for at in range(0, flat.numel(), _PIECE):
        piece = flat[at : at + _PIECE].to("cpu", dtype).contiguous()
        view = _bytes(piece)
        while len(view):
            view = view[file.write(view) :]


def _bytes(flat: Tensor) -> memoryview:
    """The memory of a contiguous vector."""
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")
