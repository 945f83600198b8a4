"""Tokenised documents on disk.

    tokens-000.bin   uint16 (vocabulary up to 65,536) or uint32, little-endian, documents one after the other
    loss-000.bin     uint8, 1 where the token is to be learnt; only when the writer was given flags
    docs-000.npy     int64, where each document begins in tokens-000.bin, and one last offset: its end
    pixels-000.bin   uint8, the images of the documents one after the other, each [height, width, 3]; only with images
    images-000.npy   int64 (images, 4): the document in this file, height, width, where its pixels begin
    shards.json      counts, and bytes and SHA-256 of every file; written last, so a folder without it is unfinished

A document never straddles two files. Reading maps the files into memory; nothing is loaded but the offsets.
"""

import contextlib
import hashlib
import io
import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dokja.errors import DataError
from dokja.ledger.hashing import sha256_file, sha256_json
from dokja.text.images import check_pixels

INDEX = "shards.json"
FORMAT = 1
TOKENS_PER_FILE = 64 * 2**20
_FLUSH_TOKENS = 1 << 20
_KEYS = {"vocab", "dtype", "loss", "shards", "documents", "tokens", "utf8_bytes", "tokenizer_sha256", "files"}
_verified: set[tuple[str, int, int, str]] = set()
"""(path, bytes, mtime_ns, sha256) of the files this process has hashed already."""


class _HashedFile:
    """A file that is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes, self._hash = path, 0, hashlib.sha256()
        self._file = open(path, "wb")  # noqa: SIM115 (closed when the shard is finished)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def close(self) -> dict[str, Any]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"bytes": self.bytes, "sha256": self._hash.hexdigest()}

    def abort(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk, closing fails as writing did; the first error is told
            self._file.close()


class ShardWriter:
    """Writes the shards of one folder: `add` documents, then `close`. Left unclosed, the folder counts as unfinished.

    As a context manager it closes itself, except after an error. Memory is bounded by about one million tokens."""

    def __init__(
        self, path: str | Path, vocab: int, *, tokenizer_sha256: str = "", tokens_per_file: int = TOKENS_PER_FILE
    ) -> None:
        self.path = Path(path)
        self._vocab, self._tokenizer, self._limit = vocab, tokenizer_sha256, tokens_per_file
        self._dtype = np.dtype("<u2") if vocab <= 65536 else np.dtype("<u4")
        self._flags: bool | None = None
        self._files: dict[str, dict[str, Any]] = {}
        self._open: dict[str, _HashedFile] = {}
        self._ids: list[np.ndarray] = []
        self._loss: list[np.ndarray] = []
        self._pixels: list[np.ndarray] = []
        self._images: list[tuple[int, int, int, int]] = []
        self._pixel_bytes = 0
        self._waiting = self._shards = 0
        self._offsets = array("q", [0])
        self.documents = self.tokens = self.loss_tokens = self.utf8_bytes = self.images = 0
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for stale in (
                INDEX,
                "tokens-*.bin",
                "loss-*.bin",
                "docs-*.npy",
                "pixels-*.bin",
                "images-*.npy",
            ):  # the index first: half a folder is none
                for file in self.path.glob(stale):
                    file.unlink()
        except OSError as error:
            raise self._refusal(error) from error

    def add(
        self,
        ids: Sequence[int] | np.ndarray,
        loss_flags: Sequence[int] | Sequence[bool] | np.ndarray | None = None,
        utf8_bytes: int = 0,
        images: Sequence[np.ndarray] = (),
    ) -> None:
        """One document. `loss_flags[i]` says whether ids[i] is a target to learn; give flags for all documents or for
        none. `utf8_bytes` counts the raw text, for bits per byte. `images` are uint8 [height, width, 3], in the
        order of their places among the ids."""
        values = np.asarray(ids, dtype=np.int64)
        if values.size and not 0 <= values.min() <= values.max() < self._vocab:
            raise ValueError(f"document {self.documents} has ids outside of 0..{self._vocab - 1}")
        if self._flags is None:
            self._flags = loss_flags is not None
        if self._flags != (loss_flags is not None):
            raise ValueError("loss flags must be given for all documents or for none")
        if self._offsets[-1] and self._offsets[-1] + len(values) > self._limit:
            self._finish_shard()
        if loss_flags is not None:
            flags = np.asarray(loss_flags, dtype=bool)
            if len(flags) != len(values):
                raise ValueError(f"document {self.documents} has {len(values)} ids and {len(flags)} loss flags")
            self._loss.append(flags)
            self.loss_tokens += int(np.count_nonzero(flags))
        else:
            self.loss_tokens += len(values)
        for pixels in map(check_pixels, images):
            self._images.append((len(self._offsets) - 1, *pixels.shape[:2], self._pixel_bytes))
            self._pixels.append(pixels)
            self._pixel_bytes += pixels.size
            self._waiting += pixels.size // 4
        self.images += len(images)
        self._ids.append(values.astype(self._dtype))
        self._offsets.append(self._offsets[-1] + len(values))
        self.documents += 1
        self.tokens += len(values)
        self.utf8_bytes += utf8_bytes
        self._waiting += len(values)
        if self._waiting >= _FLUSH_TOKENS:
            self._flush()

    def close(self) -> dict[str, Any]:
        """Finish the files, then write `shards.json`; returns what it holds."""
        if len(self._offsets) > 1:
            self._finish_shard()
        index = {
            "format": FORMAT,
            "vocab": self._vocab,
            "dtype": self._dtype.name,
            "loss": bool(self._flags),
            "shards": self._shards,
            "documents": self.documents,
            "tokens": self.tokens,
            "loss_tokens": self.loss_tokens,
            "utf8_bytes": self.utf8_bytes,
            "tokenizer_sha256": self._tokenizer,
            "files": self._files,
            **({"images": self.images} if self.images else {}),
        }
        try:
            partial = self.path / (INDEX + ".partial")
            with open(partial, "w", encoding="utf-8") as file:
                json.dump(index, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path / INDEX)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)  # the rename itself
            finally:
                os.close(folder)
        except OSError as error:
            raise self._refusal(error) from error
        return index

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

    def _abort(self) -> None:
        for file in self._open.values():
            file.abort()

    def _refusal(self, error: OSError) -> DataError:
        self._abort()
        return DataError(
            f"Writing shards to {self.path} failed: {error.strerror or error}. Make room there and run the same "
            "command again; this stage starts over, finished ones are kept."
        )

    def _flush(self) -> None:
        try:
            for kind, parts in (("tokens", self._ids), ("loss", self._loss), ("pixels", self._pixels)):
                if parts:
                    name = f"{kind}-{self._shards:03d}.bin"
                    if name not in self._open:
                        self._open[name] = _HashedFile(self.path / name)
                    self._open[name].write(b"".join(part.tobytes() for part in parts))
        except OSError as error:
            raise self._refusal(error) from error
        self._ids, self._loss, self._pixels, self._waiting = [], [], [], 0

    def _finish_shard(self) -> None:
        self._flush()
        try:
            tables = {"docs": np.frombuffer(self._offsets, dtype="<i8")}
            if self._images:
                tables["images"] = np.array(self._images, dtype="<i8")
            for kind, table in tables.items():
                buffer, name = io.BytesIO(), f"{kind}-{self._shards:03d}.npy"
                np.save(buffer, table)
                self._open[name] = _HashedFile(self.path / name)
                self._open[name].write(buffer.getvalue())
            self._files |= {name: file.close() for name, file in self._open.items()}
        except OSError as error:
            raise self._refusal(error) from error
        self._open = {}
        self._images, self._pixel_bytes = [], 0
        self._offsets = array("q", [0])
        self._shards += 1


class ShardSet:
    """The documents of one shard folder, mapped into memory. Made by `ShardSet.open`.

    `lengths` int64 (documents,): tokens of each; `index`: what `shards.json` holds; `sha256`: identity of the data."""

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path, self.index = path, index
        self.vocab: int = index["vocab"]
        self.documents: int = index["documents"]
        self.tokens: int = index["tokens"]
        self.utf8_bytes: int = index["utf8_bytes"]
        self.tokenizer_sha256: str = index["tokenizer_sha256"]
        self.has_loss: bool = index["loss"]
        self.sha256 = sha256_json(index)
        self.token_files: list[np.ndarray] = []
        self.loss_files: list[np.ndarray] = []
        self.has_images = "images" in index
        self._pixels: list[np.ndarray] = []
        tables = [np.zeros((0, 5), np.int64)]
        starts, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for n in range(index["shards"]):
            offsets = np.load(path / f"docs-{n:03d}.npy")
            self.token_files.append(_map(path / f"tokens-{n:03d}.bin", np.dtype(index["dtype"]).newbyteorder("<")))
            if self.has_loss:
                self.loss_files.append(_map(path / f"loss-{n:03d}.bin", np.dtype(np.uint8)))
            if offsets[-1] != len(self.token_files[-1]) or (self.has_loss and offsets[-1] != len(self.loss_files[-1])):
                raise DataError(f"{path}: tokens, flags and offsets of shard {n} disagree. {_REBUILD.format(path)}")
            if (path / f"images-{n:03d}.npy").name in index["files"]:
                self._pixels.append(_map(path / f"pixels-{n:03d}.bin", np.dtype(np.uint8)))
                table = np.load(path / f"images-{n:03d}.npy")
                document = table[:, :1] + sum(map(len, lengths))
                tables.append(np.hstack((document, table[:, 1:], np.full_like(document, len(self._pixels) - 1))))
            starts.append(offsets[:-1])
            lengths.append(np.diff(offsets))
        self.first_document = np.cumsum([len(part) for part in starts])  # of each file; the last one is the count
        self.starts, self.lengths = np.concatenate(starts), np.concatenate(lengths)
        self._images = np.concatenate(tables)  # document, height, width, first byte, number of the file

    @classmethod
    def open(cls, path: str | Path, verify: bool = True, tokenizer_sha256: str | None = None) -> "ShardSet":
        """Sizes are always checked, hashes when `verify` (once per process and unchanged file). With
        `tokenizer_sha256`, shards of another tokenizer are refused."""
        path = Path(path)
        index = _read_index(path)
        for name, facts in index["files"].items():
            _check(path / name, facts, verify)
        if tokenizer_sha256 is not None and index["tokenizer_sha256"] != tokenizer_sha256:
            raise DataError(f"{path} was written with another tokenizer. {_REBUILD.format(path)}")
        return cls(path, index)

    def file_of(self, documents: np.ndarray) -> np.ndarray:
        """Number of the file in which each document lies."""
        return np.searchsorted(self.first_document, documents, side="right") - 1

    def document(self, n: int) -> np.ndarray:
        """The token ids of document n, a view of the file."""
        return self._slice(self.token_files, n)

    def loss(self, n: int) -> np.ndarray:
        """The loss flags (uint8) of document n; all ones when the shards carry none."""
        return self._slice(self.loss_files, n) if self.has_loss else np.ones(int(self.lengths[n]), np.uint8)

    def images(self, n: int) -> tuple[np.ndarray, ...]:
        """The images of document n, uint8 [height, width, 3] each, views of the file."""
        first, end = np.searchsorted(self._images[:, 0], (n, n + 1))
        return tuple(
            self._pixels[file][at : at + height * width * 3].reshape(height, width, 3)
            for _, height, width, at, file in self._images[first:end].tolist()
        )

    @property
    def longest_with_images(self) -> int:
        """Tokens of the longest document that holds images; 0 without any."""
        return int(self.lengths[self._images[:, 0]].max(initial=0))

    def _slice(self, files: list[np.ndarray], n: int) -> np.ndarray:
        file = files[int(self.file_of(np.array(n)))]
        return file[self.starts[n] : self.starts[n] + self.lengths[n]]


_REBUILD = "Delete the folder {} and run the same command again: it rebuilds the stage."


def _map(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    empty = path.stat().st_size == 0  # which cannot be mapped
    return np.zeros(0, dtype) if empty else np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _read_index(path: Path) -> dict[str, Any]:
    file = path / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        known = index["format"] == FORMAT
        if known and not index.keys() >= _KEYS:
            raise KeyError
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing: the shards were not finished. Run the same command again.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged. {_REBUILD.format(path)}") from error
    if not known:
        raise DataError(f"{file} has a format this version does not read. {_REBUILD.format(path)}")
    return index


def _check(file: Path, facts: dict[str, Any], verify: bool) -> None:
    """Raise a DataError that names the file and whether it is missing, truncated, too long or changed."""
    try:
        stat = file.stat()
        known = (str(file.resolve()), stat.st_size, stat.st_mtime_ns, facts["sha256"])
        if stat.st_size != facts["bytes"]:
            what = "truncated" if stat.st_size < facts["bytes"] else "changed: it is longer than written"
            what += f" ({stat.st_size:,} of {facts['bytes']:,} bytes)"
        elif verify and known not in _verified and sha256_file(file) != facts["sha256"]:
            what = "changed: its SHA-256 is not the one in shards.json"
        else:
            if verify:
                _verified.add(known)
            return
    except FileNotFoundError:
        what = "missing"
    except OSError as error:
        what = f"unreadable ({error.strerror or error})"
    raise DataError(f"{file} is {what}. {_REBUILD.format(file.parent)}")
