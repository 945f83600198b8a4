"""The header of a GGUF file: metadata, and where its tensors lie (no torch).

    "GGUF" | version 2 or 3 | tensors | keys | key, type, value ... | name, shape, kind, offset ... | padding | data

Why not the reader of the gguf package: it makes an array of every string, which takes 7 seconds and half a gigabyte
for a vocabulary of 150,000 (here: 0.2 seconds), and the server's first process needs the vocabulary alone. What the
package knows of blocks of few bits is used where tensors are read (`gguf_weights.py`).
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dokja.errors import CheckpointError

SUFFIX = ".gguf"
KINDS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 6: ("Q5_0", 32, 22), 8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 30: ("BF16", 1, 2),
}  # fmt: skip
"""What is read: ggml's number -> name, numbers of a block, bytes of a block."""
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEEPEST = 4


@dataclass(frozen=True)
class Entry:
    """A tensor of the file, as rows of blocks."""

    shape: tuple[int, ...]
    """Rows first, as torch has it."""
    kind: int
    offset: int
    """Of its first byte in the file."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        _, numbers, size = KINDS[self.kind]
        return self.shape[-1] // numbers * size

    @property
    def bytes(self) -> int:
        """Size of its data."""
        return math.prod(self.shape[:-1]) * self.row_bytes


@dataclass(frozen=True)
class GgufFile:
    """What the header says."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Entry]

    @property
    def architecture(self) -> str:
        """As llama.cpp names it."""
        return str(self.metadata.get("general.architecture", "none"))


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file that is named as a GGUF file."""
    return path.suffix == SUFFIX and path.is_file()


def read_gguf(path: Path) -> GgufFile:
    """The header of a file. CheckpointError for one that is no GGUF file, of another version or byte order, truncated,
    in several parts, or with tensors of a kind that is not read."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 24 or file.read(4) != b"GGUF":
                raise CheckpointError(f"{path} is no GGUF file. Name a .gguf file, or a folder with config.json.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(path, data, size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from None
    except (struct.error, IndexError, UnicodeDecodeError, KeyError, RecursionError):
        raise CheckpointError(f"{path} has a damaged or truncated header. {_AGAIN}") from None


_AGAIN = "Copy it again from its source."


def _read(path: Path, data: mmap.mmap, size: int) -> GgufFile:
    cursor = _Cursor(data, 4, size)
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise CheckpointError(f"{path} is GGUF of version {version:#x}; dokja reads versions 2 and 3, little-endian.")
    tensors, keys = cursor.scalar("Q"), cursor.scalar("Q")
    metadata = dict(cursor.pair() for _ in range(cursor.count(keys, 13)))
    if metadata.get("split.count", 0) > 1:
        raise CheckpointError(
            f"{path} is one of {metadata['split.count']} parts. Join them first: llama-gguf-split --merge FIRST OUT."
        )
    listed = [cursor.tensor() for _ in range(cursor.count(tensors, 24))]
    align = metadata.get("general.alignment", 32)
    if not isinstance(align, int) or align < 1:
        raise CheckpointError(f"{path}: general.alignment is {align!r}. {_AGAIN}")
    begin = -(-cursor.at // align) * align
    found: dict[str, Entry] = {}
    for name, shape, kind, offset in listed:
        if kind not in KINDS:
            known = ", ".join(name for name, _, _ in KINDS.values())
            raise CheckpointError(
                f"{path}: {name} is of ggml's kind {kind}; dokja reads {known}. Take a file of another quantisation."
            )
        if not shape or shape[-1] % KINDS[kind][1]:
            raise CheckpointError(f"{path}: {name} has shape {list(shape)}, which its blocks do not fill. {_AGAIN}")
        found[name] = entry = Entry(shape, kind, begin + offset)
        if entry.offset + entry.bytes > size:
            raise CheckpointError(f"{path} is truncated: {name} ends behind its end. {_AGAIN}")
    if len(found) != len(listed):
        raise CheckpointError(f"{path} names a tensor twice. {_AGAIN}")
    return GgufFile(path, metadata, found)


class _Cursor:
    """Reads on from a place; struct.error where the file ends."""

    def __init__(self, data: mmap.mmap, at: int, size: int):
        self._data, self.at, self._size = data, at, size

    def count(self, number: int, least: int) -> int:
        """A number of things that take `least` bytes each, if as many can be there."""
        if number * least > self._size - self.at:
            raise struct.error("more than the file can hold")
        return number

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        begin = self.at + 8
        self.at = begin + self.count(self.scalar("Q"), 1)
        return self._data[begin : self.at].decode()

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        if depth == _DEEPEST:
            raise struct.error("arrays in arrays")
        inner, length = self.scalar("I"), self.scalar("Q")
        if inner in (_STRING, _ARRAY):
            read: Callable[[], Any] = self.string if inner == _STRING else lambda: self.value(inner, depth + 1)
            return [read() for _ in range(self.count(length, 8))]
        code = f"<{self.count(length, struct.calcsize(_SCALARS[inner]))}{_SCALARS[inner]}"
        values = list(struct.unpack_from(code, self._data, self.at))
        self.at += struct.calcsize(code)
        return values

    def pair(self) -> tuple[str, Any]:
        key = self.string()
        return key, self.value(self.scalar("I"))

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape (rows first), kind, offset behind the header."""
        name = self.string()
        shape = struct.unpack(f"<{(n := self.count(self.scalar('I'), 8))}Q", self._data[self.at : self.at + 8 * n])
        self.at += 8 * n
        return name, shape[::-1], self.scalar("I"), self.scalar("Q")
