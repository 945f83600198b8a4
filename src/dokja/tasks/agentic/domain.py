"""Official data of a domain, from a pack's folder or from a checkout of the benchmark: nothing of it is in our code.

| read              | under either name                                                               |
|-------------------|---------------------------------------------------------------------------------|
| database          | `db.json`, `db.toml`; telecom's phone: `user_db.toml`                              |
| policy            | `policy.md`, `policy.txt`; telecom: `main_policy` and `tech_support_manual`        |
| scenarios         | `tasks.json`, those of the split `base` in `split_tasks.json`                      |
| user's guidelines | `simulation_guidelines` (with tools: `_tools`) in `user_simulator`, beside or above |

Each may be gzipped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError, DataError
from dokja.tasks.agentic.world import DESKS, World
from dokja.tasks.packs.definition import Definition
from dokja.tasks.packs.load import find_definition
from dokja.tasks.packs.place import find_data

SPLIT = "base"
_ENDINGS = ("", ".md", ".txt", ".json", ".toml")


@dataclass(frozen=True)
class Scenario:
    """One task: who the user is, where the database begins, and what is asked of the end."""

    id: str
    """`tau2/airline/7`"""
    task: str
    """`tau2/airline`"""
    instructions: Mapping[str, Any] | str
    persona: str | None
    initial_state: Mapping[str, Any] | None
    criteria: Mapping[str, Any]

    @property
    def basis(self) -> tuple[str, ...]:
        """The parts whose product is the reward; the original benchmark's where the data names none."""
        return tuple(self.criteria.get("reward_basis") or ("DB", "COMMUNICATE"))

    def part(self, name: str) -> list[Any]:
        """A list of the criteria; empty where there is none."""
        return list(self.criteria.get(name) or ())


@dataclass(frozen=True)
class Domain:
    """A domain with its scenarios."""

    name: str
    policy: str
    guidelines: str
    scenarios: tuple[Scenario, ...]
    sha256: str
    """of all that was read"""
    db: Mapping[str, Any]
    user_db: Mapping[str, Any] | None = None

    def world(self) -> World:
        """A fresh copy of the database with its tools."""
        db, user_db = self._texts
        return World(self.name, json.loads(db), None if user_db is None else json.loads(user_db))

    @cached_property
    def _texts(self) -> tuple[str, str | None]:
        # JSON read again is several times faster than copy.deepcopy, and a scenario needs two or three copies
        return json.dumps(self.db), None if self.user_db is None else json.dumps(self.user_db)


def load_domains(name: str, data: str | Path | None = None, limit: int | None = None) -> list[Domain]:
    """The domains of an agentic pack: all of `tau2`, or one of `tau2/airline`.

    `limit` keeps so many scenarios of each, chosen by a hash of their ids, so that a smaller choice is part of a larger
    one. ConfigError for an unknown name, DataError for data that is missing or altered.
    """
    pack, inner = split_name(name)
    definition = find_definition(pack)
    if not definition.agent:
        raise ConfigError(f"{pack} is no benchmark for agents. It is asked as a suite like any other.")
    wanted = [task for task in definition.tasks if inner in ("", task.name)]
    if not wanted or any(task.name not in DESKS for task in wanted):
        raise ConfigError(f"{pack} has no domain {inner!r}. There are: {', '.join(t.name for t in definition.tasks)}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit} asks nothing. Use at least 1.")
    return [_load(replace(definition, tasks=(task,)), data, limit) for task in wanted]


def split_name(name: str) -> tuple[str, str]:
    """(pack, domain or nothing): of a pack's name, or of the path of a folder with a pack.json."""
    whole = Path(name).expanduser()
    for folder, inner in ((whole, ""), (whole.parent, whole.name)):
        if (folder / "pack.json").is_file():
            return str(folder), inner
    pack, _, inner = name.partition("/")
    return pack, inner


def _load(definition: Definition, data: str | Path | None, limit: int | None) -> Domain:
    (task,) = definition.tasks
    files = _Files(find_data(definition, data) / task.name)
    tools = task.name == "telecom"
    db, user_db = files.rows("db"), files.rows("user_db") if tools else None
    if tools:
        main, support = files.text("main_policy"), files.text("tech_support_manual")
        policy = f"<main_policy>\n{main}\n</main_policy>\n<tech_support_policy>\n{support}\n</tech_support_policy>"
    else:
        policy = files.text("policy")
    guidelines = files.text("simulation_guidelines_tools" if tools else "simulation_guidelines", "user_simulator")
    rows, split = files.rows("tasks"), set(files.rows("split_tasks")[SPLIT])
    name = f"{definition.name}/{task.name}"
    scenarios = [_scenario(row, name) for row in rows if row["id"] in split]
    if task.items is not None and len(scenarios) != task.items:
        raise DataError(f"{files.folder} holds {len(scenarios)} scenarios of {name}, not {task.items}. Restore it.")
    digest = files.digest()
    if task.sha256 not in (None, digest):
        raise DataError(
            f"The data of {name} is not what {definition.name} {definition.version} was defined on (SHA-256 "
            f"{digest[:12]}, expected {str(task.sha256)[:12]}). Fetch that version, or change pack.json."
        )
    if limit is not None:
        first = {s.id for s in sorted(scenarios, key=lambda s: hashlib.sha256(s.id.encode()).digest())[:limit]}
        scenarios = [scenario for scenario in scenarios if scenario.id in first]
    return Domain(task.name, policy, guidelines, tuple(scenarios), digest, db, user_db)


def _scenario(row: Mapping[str, Any], task: str) -> Scenario:
    told = row["user_scenario"]
    return Scenario(
        id=f"{task}/{row['id']}",
        task=task,
        instructions=told["instructions"],
        persona=told.get("persona"),
        initial_state=row.get("initial_state"),
        criteria=row["evaluation_criteria"] or {},
    )


class _Files:
    """The files of a domain, and the hash of their texts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes: dict[str, str] = {}

    def digest(self) -> str:
        """SHA-256 of the names and hashes of all texts read; the endings of their files make no difference."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self._hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def text(self, name: str, inside: str = "") -> str:
        for base in (self.folder, self.folder.parent, self.folder.parent.parent) if inside else (self.folder,):
            for ending in (e + z for e in _ENDINGS for z in ("", ".gz")):
                path = base / inside / f"{name}{ending}"
                if path.is_file():
                    return self._read(name, path)
        raise DataError(f"{self.folder / inside / name} is missing. Restore the benchmark's data from its source.")

    def rows(self, name: str) -> Any:
        text = self.text(name)
        try:
            return json.loads(text) if text.lstrip()[:1] == "{" or '"id"' in text[:100] else tomllib.loads(text)
        except ValueError as error:
            raise DataError(f"{name} of {self.folder} cannot be read ({error}). Restore it from its source.") from error

    def _read(self, name: str, path: Path) -> str:
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            self._hashes[name] = hashlib.sha256(raw).hexdigest()
            return raw.decode("utf-8")
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}). Restore it from its source.") from error
