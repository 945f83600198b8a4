"""SHA-256 of files and of JSON values, the two identities everything in a run folder has."""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_file(path: str | Path) -> str:
    """Hex digest of the file's bytes, read in pieces (a shard may be larger than memory)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, Hangul unescaped. NaN has no JSON spelling and is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """Hex digest of `canonical_json(value)` in UTF-8."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()
