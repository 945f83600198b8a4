"""ledger.jsonl: one JSON line per event, each holding the hash of the one before.

Covered: an edited, removed, inserted or reordered line is found by `verify`. Not covered: somebody who rewrites the
whole file from some line on, or cuts its tail; that takes a signature over the last hash, which a release carries.
Writers hold the run's lock; there is one at a time.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dokja.errors import DataError
from dokja.ledger.hashing import canonical_json, sha256_json

FILE_NAME = "ledger.jsonl"
FIRST = "0" * 64
"""`prev` of the first line."""

_log = logging.getLogger(__name__)


def append(run_path: str | Path, entry: dict[str, Any]) -> str:
    """Add one entry (`kind` and what it tells) and fsync it; returns its hash.

    A last line without its newline is a write that was cut off by a kill: it is dropped, with a notice.
    """
    path = Path(run_path) / FILE_NAME
    return _append(path, entry, _read(path))


def append_once(run_path: str | Path, entry: dict[str, Any], identity: Sequence[str]) -> str:
    """As `append`, unless an entry with the same `kind` and the same values under the `identity` keys is there already.

    A resumed run passes the same places again; the ledger then stays as it is and the old entry's hash is returned.
    """
    path = Path(run_path) / FILE_NAME
    entries = _read(path)
    names = ("kind", *identity)
    for old in entries:
        if all(old.get(name) == entry.get(name) for name in names):
            return old["hash"]
    return _append(path, entry, entries)


def read_chain(run_path: str | Path) -> list[dict[str, Any]]:
    """Every whole entry, oldest first; nothing is changed on disk. Raises DataError for a line that is no entry."""
    lines, _ = _lines(Path(run_path) / FILE_NAME)
    return [_parse(line, i, Path(run_path) / FILE_NAME) for i, line in enumerate(lines)]


def verify(run_path: str | Path) -> list[str]:
    """Problems of the chain, one sentence each; empty when every line is what was written, in order."""
    path = Path(run_path) / FILE_NAME
    lines, torn = _lines(path)
    problems: list[str] = []
    previous, number = FIRST, 0
    for i, line in enumerate(lines):
        where = f"{path.name} line {i + 1}"
        try:
            entry = _parse(line, i, path)
        except DataError as error:
            problems.append(str(error))
            previous, number = "", i + 1
            continue
        body = {k: v for k, v in entry.items() if k != "hash"}
        if sha256_json(body) != entry["hash"]:
            problems.append(f"{where} was edited: its hash does not match its content.")
        if entry.get("n") != number:
            found = entry.get("n")
            problems.append(f"{where} is entry {found} where {number} should be: lines were removed or moved.")
        if previous and entry.get("prev") != previous:
            problems.append(f"{where} does not follow what stands before it: a line was edited, removed or added.")
        previous = entry["hash"]
        number = entry["n"] + 1 if isinstance(entry.get("n"), int) else i + 1
    if torn:
        problems.append(f"{path.name} ends in a torn line of {len(torn)} bytes; the next append drops it.")
    return problems


def _append(path: Path, entry: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    taken = {"n", "time", "prev", "hash"} & entry.keys()
    if taken or "kind" not in entry:
        raise ValueError(f"an entry has a kind and leaves n, time, prev and hash to the chain; got {sorted(entry)}")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = {"n": len(entries), "time": now, **entry, "prev": entries[-1]["hash"] if entries else FIRST}
    digest = sha256_json(body)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(canonical_json({**body, "hash": digest}).encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return digest


def _read(path: Path) -> list[dict[str, Any]]:
    """Entries of the file after its torn tail, if any, has been cut off."""
    lines, torn = _lines(path)
    if torn:
        _log.warning("%s: dropped a torn last line of %d bytes (the last write was cut off).", path, len(torn))
        os.truncate(path, path.stat().st_size - len(torn))
    return [_parse(line, i, path) for i, line in enumerate(lines)]


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """Whole lines without their newlines, and what follows the last newline."""
    *lines, torn = (path.read_bytes() if path.exists() else b"").split(b"\n")
    return lines, torn


def _parse(line: bytes, index: int, path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("hash"), str):
        raise DataError(f"{path.name} line {index + 1} is not a ledger entry. The chain was edited; restore {path}.")
    return entry
