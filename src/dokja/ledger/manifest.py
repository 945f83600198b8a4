"""manifest.json: the proof that a stage is finished, and from what.

A stage's key is the hash of its resolved config, its inputs' hashes and the code of the rooms it uses. The manifest is
written last and atomically: where it lies, the stage is done; where its key differs, something changed.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import dokja
from dokja.errors import DataError
from dokja.ledger.atomic import write_atomic
from dokja.ledger.hashing import sha256_file, sha256_json

FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """One finished stage."""

    stage: str
    key: str
    """`stage_key` of what it was built from."""
    config: dict[str, Any]
    inputs: dict[str, str]
    """Name -> sha256 of everything it read."""
    outputs: dict[str, str]
    """Path relative to the stage folder -> sha256."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Path -> bytes; filled by `write_manifest`, so that a cut file is told from an altered one."""
    environment: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    """seconds, tokens, flops_6nd, flops_attention, peak_memory_bytes."""
    attempts: int = 1
    created: str = ""
    """UTC; filled by `write_manifest`."""


def stage_key(config: Mapping[str, Any], inputs: Mapping[str, str], code: str) -> str:
    """Identity of a stage's result: same key, same result."""
    return sha256_json({"config": dict(config), "inputs": dict(inputs), "code": code})


def code_version(rooms: Iterable[str]) -> str:
    """Hash of the source files of these rooms (`"model"`) and single files (`"road.py"`) of the package."""
    top = Path(dokja.__file__).parent
    found: dict[str, str] = {}
    for room in rooms:
        place = top / room
        if not place.exists():
            raise ValueError(f"no room or file {room!r} in {top}")
        for file in [place] if place.is_file() else place.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                found[file.relative_to(top).as_posix()] = sha256_file(file)
    return sha256_json(found)


def hash_outputs(folder: Path, paths: Iterable[str | Path]) -> dict[str, str]:
    """`Manifest.outputs` for files under `folder`, absolute or relative to it. A folder stands for all its files."""
    found: dict[str, str] = {}
    for path in paths:
        place = folder / path
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                found[file.relative_to(folder).as_posix()] = sha256_file(file)
    return found


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write `folder`/manifest.json atomically, with sizes and time filled in; returns what was written."""
    whole = replace(
        manifest,
        sizes={name: (folder / name).stat().st_size for name in manifest.outputs},
        created=manifest.created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    text = json.dumps(asdict(whole), indent=1, ensure_ascii=False, sort_keys=True)
    write_atomic(folder / FILE_NAME, f"{text}\n".encode())
    return whole


def read_manifest(folder: Path) -> Manifest | None:
    """The stage's manifest, or None where the stage is not finished. Raises DataError when it is not a manifest."""
    path = folder / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        data = None
    names = {f.name for f in fields(Manifest)}
    if not isinstance(data, dict) or set(data) != names:
        raise DataError(f"{path} is damaged: it is no manifest of ours. Remove it to build the stage again.")
    return Manifest(**data)


def check_outputs(folder: Path, manifest: Manifest) -> None:
    """Raise DataError for the first output that is missing, cut short or altered. Reads every byte."""
    for name, expected in manifest.outputs.items():
        path, size = folder / name, manifest.sizes[name]
        wrong = None
        if not path.is_file():
            wrong = "is missing"
        elif path.stat().st_size < size:
            wrong = f"is truncated: {path.stat().st_size:,} of {size:,} bytes"
        elif path.stat().st_size > size or sha256_file(path) != expected:
            wrong = "was altered: its SHA-256 is not the manifest's"
        if wrong:
            raise DataError(f"{path} {wrong}. Restore it, or build the stage {manifest.stage!r} again with --rebuild.")
