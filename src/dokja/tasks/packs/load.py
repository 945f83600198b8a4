"""`load_pack`: a benchmark's name in, its problems and the tasks that grade them out."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError, DataError
from dokja.tasks.graders.base import Grader, grade
from dokja.tasks.graders.registry import make_grader
from dokja.tasks.packs.definition import Definition, TaskDefinition, read_definition
from dokja.tasks.packs.place import file_of, find_data, missing
from dokja.tasks.packs.readers import Item, fill, keeps, read_item
from dokja.tasks.packs.rows import read_rows
from dokja.tasks.problem import Grade, Problem
from dokja.tasks.registry import LOADED
from dokja.text.chat import Message

_HERE = Path(__file__).parent
_TOPS = (_HERE / "core", _HERE / "definitions")
_GENERATORS = {
    "needle": "dokja.tasks.packs.long",
    "ruler": "dokja.tasks.packs.long",
    "csat": "dokja.tasks.packs.core.csat",
    "tools": "dokja.tasks.packs.core.tools",
}
"""Generators by name; each module has `items(name, language, options) -> list[Item]`."""


@dataclass(frozen=True)
class PackTask:
    """A task of a pack, as the other rooms see it: a Task whose problems are given, not drawn."""

    name: str
    grader: Grader
    structured: bool
    """whether references are JSON"""
    levels: tuple[int, ...] = (1,)
    needs_steps: bool = False
    needs_images: bool = False

    def problem(self, seed: int, level: int, language: str) -> Problem:
        """Refused: a pack's problems come from its data."""
        raise ConfigError(f"The problems of {self.name!r} come from a pack, not from seeds: judge it with --suite.")

    def grade(self, problem: Problem, answer: str, truncated: bool = False) -> Grade:
        """Judge `answer` against the problem's reference. Never raises, whatever the answer is."""
        reference = json.loads(problem.reference) if self.structured else problem.reference
        return grade(self.grader, reference, answer, truncated)


@dataclass(frozen=True)
class Pack:
    """A benchmark ready to be asked."""

    definition: Definition
    problems: tuple[Problem, ...]
    files: Mapping[str, str]
    """SHA-256 of the text of every data file, by task"""
    unpinned: tuple[str, ...]
    """tasks whose data could not be compared with a known hash"""


def pack_names() -> list[str]:
    """The benchmarks that can be named, our own first."""
    return [path.parent.name for top in _TOPS for path in sorted(top.glob("*/pack.json"))]


@cache
def find_definition(name: str) -> Definition:
    """The definition of a benchmark by name, or of a folder with a pack.json. ConfigError for neither."""
    for top in _TOPS:
        if (top / name / "pack.json").is_file():
            return read_definition(top / name)
    if (Path(name).expanduser() / "pack.json").is_file():
        return read_definition(Path(name).expanduser())
    near = difflib.get_close_matches(name, pack_names(), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(pack_names())}."
    raise ConfigError(f"There is no benchmark {name!r}, and no folder of that name with a pack.json. {hint}")


def load_pack(
    name: str,
    data: str | Path | None = None,
    limit: int | None = None,
    languages: Sequence[str] = ("ko", "en"),
    images: bool = True,
) -> Pack:
    """The problems of a benchmark in their order; its tasks are known to `tasks.registry.find_task`.

    `limit` keeps so many problems of every task, chosen by a hash of their ids, so that a smaller choice is part of a
    larger one. `images` False leaves pictures unread. ConfigError for an unknown name or a benchmark that needs an
    agent, DataError for data that is missing, altered or of another form.
    """
    definition = find_definition(name)
    if definition.agent:
        raise ConfigError(
            f"{definition.name} is answered in many turns with tools and a simulated user, which a list of problems "
            f"cannot hold. Judge it with: dokja judge MODEL --suite {definition.name} --user http://host:port/v1#model"
        )
    wanted = [t for t in definition.tasks if t.language in languages]
    if not wanted:
        raise ConfigError(f"{definition.name} has nothing in {', '.join(languages)}. Leave --languages out.")
    folder = find_data(definition, data) if any(t.generator is None for t in wanted) else definition.folder
    problems: list[Problem] = []
    hashes: dict[str, str] = {}
    unpinned: list[str] = []
    for task in wanted:
        items, digest = _generated(task) if task.generator is not None else _read(definition, task, folder, data)
        hashes[task.name] = digest
        if task.sha256 is None:
            unpinned.append(task.name)
        elif task.sha256 != digest:
            raise DataError(
                f"The data of {task.name} is not what {definition.name} {definition.version} was defined on "
                f"(SHA-256 {digest[:12]}, expected {task.sha256[:12]}). Fetch that version, or change pack.json."
            )
        problems += _problems(definition, task, items, limit, images)
    return Pack(definition, tuple(problems), hashes, tuple(unpinned))


def _read(
    definition: Definition, task: TaskDefinition, folder: Path, data: str | Path | None
) -> tuple[list[Item], str]:
    path = file_of(folder, task)
    if path is None:
        raise DataError(missing(definition, task, data))
    rows, digest = read_rows(path)
    items = [
        read_item(row, number, task.reader, path.parent) for number, row in enumerate(rows) if keeps(row, task.reader)
    ]
    if task.items is not None and len(items) != task.items:
        raise DataError(
            f"{path} holds {len(items)} items of {task.name}, not {task.items}. Restore it from its source."
        )
    return items, digest


def _generated(task: TaskDefinition) -> tuple[list[Item], str]:
    assert task.generator is not None
    kind = task.generator["name"]
    if kind not in _GENERATORS:
        raise DataError(f"There is no generator {kind!r}. There are: {', '.join(_GENERATORS)}.")
    make: Callable[[str, str, Mapping[str, Any]], list[Item]] = import_module(_GENERATORS[kind]).items
    items = make(kind, task.language, {k: v for k, v in task.generator.items() if k != "name"})
    text = json.dumps([[i.id, dict(i.fields), i.reference] for i in items], ensure_ascii=False, sort_keys=True)
    return items, hashlib.sha256(text.encode()).hexdigest()


def _problems(
    definition: Definition, task: TaskDefinition, items: list[Item], limit: int | None, images: bool
) -> list[Problem]:
    name = task.name if task.name == definition.name else f"{definition.name}/{task.name}"
    ids = [f"{name}/{item.id}" for item in items]
    if len(set(ids)) != len(ids):
        ids = [f"{name}/{number}" for number in range(len(items))]
    kept = range(len(items))
    if limit is not None and limit < len(items):
        if limit < 1:
            raise ConfigError(f"--limit {limit} asks nothing. Use at least 1.")
        by_hash = sorted(kept, key=lambda n: hashlib.sha256(ids[n].encode()).digest())
        kept = sorted(by_hash[:limit])  # type: ignore[assignment]
    LOADED[name] = made = _task(name, task)
    return [_problem(ids[n], name, task, items[n], made.structured, images) for n in kept]


def _task(name: str, task: TaskDefinition) -> PackTask:
    """What grades a task, from its definition alone."""
    options = {k: v for k, v in task.grader.items() if k != "name"}
    plain = task.reader.get("kind") == "text" or (task.generator or {}).get("name") == "csat"
    return PackTask(name, make_grader(task.grader["name"], options), not plain, needs_images="image" in task.reader)


def defined_task(name: str) -> PackTask:
    """The task of a pack that ships its definition, by the name that records bear; ConfigError for no such task."""
    pack, _, inner = name.partition("/")
    if pack in pack_names():
        for task in find_definition(pack).tasks:
            if task.name == (inner or pack):
                return _task(name, task)
    raise ConfigError(f"There is no task {name!r}: neither a family nor a task of a pack. Load its pack first.")


def _problem(id: str, name: str, task: TaskDefinition, item: Item, structured: bool, images: bool) -> Problem:
    pixels: tuple[Any, ...] = ()
    if item.image is not None and images:
        from dokja.text.images import read_image

        pixels = (read_image(item.image),)
    user = Message("user", fill(task.prompt, item.fields), images=pixels)
    system = item.system or task.system
    return Problem(
        id=id,
        task=name,
        level=1,
        language=item.language or task.language,
        messages=(Message("system", system), user) if system else (user,),
        reference=json.dumps(item.reference, ensure_ascii=False) if structured else item.reference,
        trace="",
        tags=task.tags + item.tags,
    )
