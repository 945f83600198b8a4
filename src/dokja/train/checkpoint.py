"""Checkpoints that exist only when they are complete.

    checkpoints/step_00000120/   model.safetensors  optimizer.safetensors  [ema.safetensors]  state.json  manifest.json

Everything is written to `step_00000120.partial`, each file synced, the manifest with every file's SHA-256 last, and
then the folder is renamed. A reader takes the newest folder whose files all match their hashes; a torn, cut or
altered one is named and passed over.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dokja.errors import CheckpointError
from dokja.ledger.atomic import sync_folder
from dokja.ledger.hashing import sha256_file
from dokja.model.families.files import Stored, read_header

Groups = Mapping[str, Mapping[str, Tensor]]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(folder: Path, step: int, groups: Groups, state: Mapping[str, Any], keep: int) -> dict[str, str]:
    """Writes checkpoint `step`, drops the oldest beyond `keep`; returns {file: sha256}.

    groups: {"model": tensors, "optimizer": tensors, ...}. Raises CheckpointError when the disk is full; the earlier
    checkpoints stay as they are.
    """
    final = folder / f"step_{step:08d}"
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        written = {}
        for name, tensors in groups.items():
            path = partial / f"{name}.safetensors"
            save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, path)
            _sync(path)
            written[path.name] = sha256_file(path)
        path = partial / "state.json"
        path.write_text(json.dumps({**state, "step": step}, indent=1, sort_keys=True))
        _sync(path)
        written[path.name] = sha256_file(path)
        (partial / "manifest.json").write_text(json.dumps({"step": step, "files": written}, indent=1, sort_keys=True))
        _sync(partial / "manifest.json")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        sync_folder(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        older = complete_steps(folder)
        left = f"the checkpoint of step {older[-1]} is untouched" if older else "no earlier checkpoint exists"
        cause = "the disk is full" if full else str(error)
        raise CheckpointError(
            f"checkpoint {final} could not be written: {cause}; {left}. Free space and run the same command again."
        ) from None
    for old in complete_steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step_{old:08d}")
    return written


def complete_steps(folder: Path) -> list[int]:
    """Steps whose folder was renamed into place, oldest first (contents not yet checked)."""
    return sorted(int(p.name[5:]) for p in folder.glob("step_*") if p.name[5:].isdigit() and p.is_dir())


def check(path: Path) -> None:
    """Raises CheckpointError naming the first file of a checkpoint folder that is missing, cut or altered."""
    try:
        files = json.loads((path / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError):
        raise CheckpointError(f"{path} has no readable manifest.json: the checkpoint is not complete.") from None
    for name, expected in files.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing.")
        if sha256_file(path / name) != expected:
            raise CheckpointError(f"{path / name} was cut or altered: its SHA-256 is not the manifest's.")


def hashes(folder: Path, step: int) -> dict[str, str]:
    """{file: sha256} of a checkpoint, from its manifest."""
    found: dict[str, str] = json.loads((folder / f"step_{step:08d}" / "manifest.json").read_text())["files"]
    return found


def clean(folder: Path, say: Callable[[str], None]) -> None:
    """Removes what a kill or a bad disk left: half-written folders, and damaged checkpoints newer than the last good
    one. `say` hears of each."""
    for partial in folder.glob("*.partial"):
        say(f"{partial.name} was cut off while it was written; it is removed.")
        shutil.rmtree(partial)
    for step in reversed(complete_steps(folder)):
        try:
            check(folder / f"step_{step:08d}")
            return
        except CheckpointError as error:
            say(f"{error} Falling back to the checkpoint before it.")
            shutil.rmtree(folder / f"step_{step:08d}")


@dataclass(frozen=True)
class Tensors(Mapping[str, Tensor]):
    """The tensors of one file by name, each read when it is asked for: memory holds one of them, not a second model."""

    stored: Mapping[str, Stored]

    def __getitem__(self, name: str) -> Tensor:
        return self.stored[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def load_latest(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """Tensors by group and state of the newest checkpoint, or None where there is none. Call `clean` before it."""
    steps = complete_steps(folder)
    if not steps:
        return None
    path = folder / f"step_{steps[-1]:08d}"
    groups = {p.stem: Tensors(read_header(p)) for p in path.glob("*.safetensors")}
    return groups, json.loads((path / "state.json").read_text())
