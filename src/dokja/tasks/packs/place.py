"""Where the data of a pack lies, and what to do where it does not.

Looked at in this order: the path a person gave, the folders of DOKJA_PACKS, `packs/` and `../shared/packs/` beside the
working folder, the pack itself. `hub` or `hub:owner/name` fetches from the hub; nothing else ever does.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from dokja.errors import DataError
from dokja.tasks.packs.definition import Definition, TaskDefinition

_BESIDE = ("packs", "../shared/packs")
_SUFFIXES = ("", ".gz", ".jsonl", ".jsonl.gz", ".json", ".csv", ".tsv", ".parquet")


def find_data(definition: Definition, data: str | Path | None = None) -> Path:
    """The folder with the files of a pack's first task. DataError, which says where to put them, where they are not."""
    if data is not None and str(data).split(":")[0] == "hub":
        return _fetch(definition, str(data))
    task = next((t for t in definition.tasks if t.files), None)
    if task is None:
        return definition.folder
    for folder in _places(definition, data):
        if file_of(folder, task) is not None:
            return folder
    raise DataError(missing(definition, task, data))


def file_of(folder: Path, task: TaskDefinition) -> Path | None:
    """The file of a task in a folder, under any of its names and endings."""
    for name in task.files:
        for suffix in _SUFFIXES:
            for path in (folder / f"{name}{suffix}", folder / "data" / f"{name}{suffix}"):
                if path.is_file():
                    return path
    return None


def _places(definition: Definition, data: str | Path | None) -> Iterator[Path]:
    if data is not None:
        path = Path(data).expanduser()
        yield from (path, path / definition.data, path.parent if path.is_file() else path)
        return
    if (definition.folder / definition.data).is_dir():  # shipped: nothing beside takes its place
        yield definition.folder / definition.data
        return
    for top in (*filter(None, os.environ.get("DOKJA_PACKS", "").split(os.pathsep)), *_BESIDE):
        yield Path(top).expanduser() / definition.data
    yield definition.folder


def missing(definition: Definition, task: TaskDefinition, data: str | Path | None = None) -> str:
    """One sentence on what is missing, where it is to be had and where to put it."""
    source = definition.source
    hub = source.get("hub")
    where = source.get("repository") or hub or source.get("page", "its makers")
    looked = f" ({data} holds no such file)" if data is not None else ""
    fetch = f", or say --data hub to fetch {hub}" if hub else ""
    note = "" if definition.licence.get("redistributable") else " It may not be passed on, so it is not shipped."
    return (
        f"The data of {definition.name} is not here{looked}: put {task.files[0]} from {where} into "
        f"packs/{definition.data}, or name its folder with --data PATH or DOKJA_PACKS{fetch}. "
        f"Licence: {definition.licence['spdx']}.{note}"
    )


def _fetch(definition: Definition, data: str) -> Path:
    """A snapshot of a data set from the hub, in the hub's own cache."""
    name = data.partition(":")[2] or definition.source.get("hub")
    if not name:
        raise DataError(
            f"{definition.name} is on no hub that we know. Name it as --data hub:OWNER/NAME, or use a path."
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise DataError("Fetching from the hub needs huggingface_hub: pip install huggingface_hub")
    from huggingface_hub import snapshot_download

    wanted = [f"*{f}*" for task in definition.tasks for f in task.files] + definition.source.get("hub_files", [])
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=wanted))
    except Exception as error:  # whatever the network or the hub says, the person needs the other way
        raise DataError(
            f"{name} could not be fetched from the hub ({type(error).__name__}: {str(error)[:200]}). "
            f"Put its files into packs/{definition.data} instead."
        ) from error
