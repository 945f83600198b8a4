"""A suite: held-out problems with an identity, so that two scores are known to be of the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dokja.errors import ConfigError
from dokja.ledger.hashing import sha256_json
from dokja.tasks.packs.definition import Definition
from dokja.tasks.packs.load import load_pack
from dokja.tasks.problem import Problem
from dokja.tasks.registry import TASKS, get_tasks
from dokja.tasks.splits import eval_set, image_sha256


@dataclass(frozen=True)
class Suite:
    """Problems in a fixed order, the hash of what they ask, and the packs they are of."""

    problems: tuple[Problem, ...]
    sha256: str
    definitions: tuple[Definition, ...] = ()

    @property
    def short(self) -> str:
        """The hash's first eight digits, for folder names."""
        return self.sha256[:8]


def build_suite(
    tasks: Sequence[str] = ("all",),
    per_cell: int = 10,
    languages: Sequence[str] = ("ko", "en"),
    seed: int = 0,
) -> Suite:
    """`per_cell` problems of each family, level and language from the evaluation seeds. Same call, same suite."""
    if per_cell < 1:
        raise ConfigError(f"per_cell is {per_cell}, which asks nothing. Use at least 1 problem per cell.")
    problems = tuple(eval_set(get_tasks(tasks), per_cell, tuple(languages), seed))
    return Suite(problems, suite_hash(problems))


def pack_suite(
    names: Sequence[str],
    data: str | Path | None = None,
    limit: int | None = None,
    languages: Sequence[str] = ("ko", "en"),
    images: bool = True,
) -> Suite:
    """The problems of benchmark packs, in their order; the arguments and errors of `tasks.packs.load.load_pack`."""
    if not names:
        raise ConfigError("No benchmark was named. Name one, such as core-ko-en.")
    packs = [load_pack(name, data, limit, tuple(languages), images) for name in names]
    problems = tuple(p for pack in packs for p in pack.problems)
    return Suite(problems, suite_hash(problems), tuple(pack.definition for pack in packs))


def suite_hash(problems: Sequence[Problem]) -> str:
    """Identity of the questions and their right answers, whatever generated them."""
    return sha256_json(
        [
            [p.id, p.task, p.level, p.language, p.prompt, str(p.reference), *map(image_sha256, p.images)]
            for p in problems
        ]
    )


def needs_steps() -> frozenset[str]:
    """The families that cannot be answered well at once."""
    return frozenset(name for name, task in TASKS.items() if task.needs_steps)
