"""`pack.json` read and checked.

    {"name": "gsm8k", "version": "1", "title": "...", "citation": "...",
     "source": {"repository": "openai/grade-school-math", "path": "...", "hub": "openai/gsm8k"},
     "licence": {"spdx": "MIT", "redistributable": true},
     "data": "gsm8k",
     "sampling": {"think": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768}, "direct": {...}},
     "repeats": 4,
     "tasks": [{"name": "gsm8k", "language": "en", "files": ["test.jsonl"], "sha256": "...", "items": 1319,
                "reader": {"kind": "text", "question": "{question}", ...},
                "prompt": "{question}\\n\\n...", "grader": {"name": "maths"}}]}

`sha256` is of the text inside a `.gz`, null where the official file was never at hand to be hashed: what is read then
is not pinned, and `Pack.unpinned` says so. A task without data of its own names a `generator`, and a pack that only an
agent can answer has `"agent": true`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dokja.errors import DataError

_KEYS = {
    "name", "version", "title", "citation", "source", "licence", "data", "sampling", "repeats", "tasks", "notes",
    "metric", "agent", "scoring",
}  # fmt: skip
_TASK_KEYS = {
    "name",
    "language",
    "files",
    "sha256",
    "items",
    "reader",
    "prompt",
    "system",
    "grader",
    "generator",
    "tags",
}
_SAMPLING_KEYS = {"temperature", "top_p", "max_tokens", "budget", "presence_penalty"}
LANGUAGES = ("ko", "en")


@dataclass(frozen=True)
class TaskDefinition:
    """One task of a pack: a file of items, how they are asked and who grades them."""

    name: str
    language: str
    files: tuple[str, ...]
    """the data file by its plain name, and other names it goes by"""
    sha256: str | None
    items: int | None
    reader: Mapping[str, Any]
    prompt: str
    system: str | None
    grader: Mapping[str, Any]
    generator: Mapping[str, Any] | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """A benchmark as its pack defines it."""

    name: str
    version: str
    title: str
    source: Mapping[str, Any]
    licence: Mapping[str, Any]
    data: str
    """the folder that holds the data, by the pack's name unless it says otherwise"""
    sampling: Mapping[str, Mapping[str, float]]
    """by mode, as the makers or the index report it; empty where they do not"""
    repeats: int
    tasks: tuple[TaskDefinition, ...]
    citation: str = ""
    notes: str = ""
    metric: str = "accuracy"
    agent: bool = False
    scoring: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def shipped(self) -> bool:
        """Whether the data comes with the package or is made from seeds."""
        return all(t.generator is not None for t in self.tasks) or (self.folder / self.data).is_dir()


def read_definition(folder: str | Path) -> Definition:
    """The definition of a pack's folder. DataError, with the file and what is wrong, for one that cannot be meant."""
    folder = Path(folder)
    path = folder / "pack.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"There is no pack at {folder}: it has no pack.json.") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}). Restore it.") from error
    return parse_definition(raw, folder)


def parse_definition(raw: Any, folder: Path) -> Definition:
    """A definition from the object in `pack.json`; DataError as `read_definition`."""
    where = folder / "pack.json"
    if not isinstance(raw, dict) or "tasks" not in raw:
        raise DataError(
            f"{where} defines no tasks, so nothing can be asked: it needs `tasks` with a prompt and a grader each. "
            "A folder of data alone is named with --data, beside the benchmark's own name."
        )
    _refuse_unknown(raw, _KEYS, str(where))
    missing = {"name", "version", "title", "source", "licence", "repeats"} - raw.keys()
    if missing:
        raise DataError(f"{where} lacks {', '.join(sorted(missing))}.")
    if "spdx" not in raw["licence"]:
        raise DataError(f"{where}: `licence` needs `spdx`, a licence's identifier or NOASSERTION.")
    if not isinstance(raw["repeats"], int) or raw["repeats"] < 1:
        raise DataError(f"{where}: `repeats` is {raw['repeats']!r}. Use a whole number from 1.")
    for mode, values in raw.get("sampling", {}).items():
        if mode not in ("think", "direct"):
            raise DataError(f"{where}: `sampling` knows the modes think and direct, not {mode!r}.")
        _refuse_unknown(values, _SAMPLING_KEYS, f"{where}, sampling {mode}")
    tasks = tuple(_task(task, str(where), bool(raw.get("agent"))) for task in raw["tasks"])
    names = [t.name for t in tasks]
    if not names or len(set(names)) != len(names):
        raise DataError(f"{where}: every task needs a name of its own, and there must be one at least.")
    known: dict[str, Any] = {k: v for k, v in raw.items() if k != "tasks"}
    known.setdefault("data", raw["name"])
    known.setdefault("sampling", {})
    return Definition(**known, tasks=tasks, folder=folder)


def _task(raw: Mapping[str, Any], where: str, agent: bool) -> TaskDefinition:
    name = raw.get("name")
    place = f"{where}, task {name!r}"
    _refuse_unknown(raw, _TASK_KEYS, place)
    if not name or raw.get("language") not in LANGUAGES:
        raise DataError(f"{place} needs a name and a language ({' or '.join(LANGUAGES)}).")
    if not agent:
        if "generator" not in raw and not (raw.get("files") and raw.get("reader", {}).get("kind")):
            raise DataError(f"{place} needs `files` and a `reader` with a kind, or a `generator`.")
        if not raw.get("grader", {}).get("name"):
            raise DataError(f"{place} needs a `grader` with a name: without one nothing is right or wrong.")
    return TaskDefinition(
        name=name,
        language=raw["language"],
        files=tuple(raw.get("files", ())),
        sha256=raw.get("sha256"),
        items=raw.get("items"),
        reader=raw.get("reader", {}),
        prompt=raw.get("prompt", "{question}"),
        system=raw.get("system"),
        grader=raw.get("grader", {}),
        generator=raw.get("generator"),
        tags=tuple(raw.get("tags", ())),
    )


def _refuse_unknown(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(raw.keys() - known):
        raise DataError(f"{where} has {unknown[0]!r}, which means nothing here. There are: {', '.join(sorted(known))}.")
