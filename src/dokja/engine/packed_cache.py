"""Packed weights kept beside the compiled kernels, so that a large model is packed once and ready in a moment after.

    ~/.cache/dokja/packed/<key>.safetensors        key = hash of what the source looks like, bits and format

A folder is known by path, size and time of change of config.json and its weight files: nothing of it is read, and its
sha256 comes from the file in the cache. A GGUF file is known by its sha256, wherever it lies. A file in the cache that
is damaged is named on stderr and made anew; the ones unused for longest go when all together outgrow `LIMIT`.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from dokja.engine.packed import FORMAT, Bits, PackedWeights
from dokja.errors import CheckpointError
from dokja.ledger.hashing import canonical_json, sha256_file, sha256_json
from dokja.model.families.gguf_file import is_gguf
from dokja.model.native.build import cache_dir, load

LIMIT = 64 << 30
"""Bytes of all files; the newest may be larger by itself."""


@dataclass(frozen=True)
class Source:
    """A folder of official weights, or a GGUF file."""

    folder: Path

    @property
    def files(self) -> list[Path]:
        """Its weight files."""
        return [self.folder] if is_gguf(self.folder) else sorted(self.folder.glob("*.safetensors"))

    @property
    def identity(self) -> str:
        """What tells it from others, and from itself after a change. Reads a GGUF file once."""
        if is_gguf(self.folder):
            return f"gguf {self.sha256}"
        paths = [self.folder / "config.json", *self.files]
        facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return canonical_json(facts)

    @property
    def sha256(self) -> str:
        """Of the weights file, or of the list of hashes where there are several. Reads everything."""
        if is_gguf(self.folder):
            facts = self.folder.stat()
            return _sha256(self.folder.resolve(), facts.st_size, facts.st_mtime_ns)
        hashes = {file.name: sha256_file(file) for file in self.files}
        return next(iter(hashes.values())) if len(hashes) == 1 else sha256_json(hashes)


@functools.cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Of a file, as it was at that time: read once by a process."""
    return sha256_file(path)


def packed_dir() -> Path:
    """Folder of the files."""
    return cache_dir().parent / "packed"


def files() -> list[Path]:
    """All files, the last used first."""
    return sorted(packed_dir().glob("*.safetensors"), key=lambda path: -path.stat().st_mtime_ns)


def _path(identity: str, bits: Bits) -> Path:
    return packed_dir() / f"{sha256_json([identity, bits, FORMAT])[:32]}.safetensors"


def find(source: Source, bits: Bits) -> PackedWeights | None:
    """What is kept of a source, or None."""
    if load("pack") is None or load("wide") is None:
        return None
    identity = source.identity
    path = _path(identity, bits)
    try:
        found = PackedWeights.open(path, identity)
        os.utime(path)
    except CheckpointError as error:
        print(f"dokja: {error} It is made anew.", file=sys.stderr)
        return None
    except OSError:
        return None
    return found


def keep(weights: PackedWeights, identity: str) -> None:
    """Writes them down for `find`, where the disk has room; says so where it has not."""
    folder = packed_dir()
    size = weights.body.nbytes + weights.embed.nbytes
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < 2 * size:
            raise OSError(f"{size / 1e9:.1f} GB would fill the disk")
        weights.save(_path(identity, weights.bits), identity)
        total = 0
        for number, path in enumerate(files()):
            total += path.stat().st_size
            if number and total > LIMIT:
                path.unlink()
    except OSError as error:
        print(f"dokja: the packed weights could not be kept in {folder} ({error}).", file=sys.stderr)
