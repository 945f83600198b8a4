"""Training and evaluation problems that never meet: seeds from disjoint ranges, and equal prompts removed.

Nothing here depends on PYTHONHASHSEED, the clock or the machine.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Collection, Iterator, Sequence, Set
from typing import Any

from dokja.errors import ConfigError, DataError
from dokja.tasks.problem import Problem, Task

TRAIN_SEEDS = range(0, 2**40)
EVAL_SEEDS = range(2**40, 2**41)
LANGUAGES = ("ko", "en")
_PATIENCE = 1000  # draws in a row that may all be known already before a cell is called exhausted


def prompt_key(prompt: str) -> bytes:
    """Identity of a question: 16 bytes of blake2b over its NFC text without spaces."""
    bare = "".join(unicodedata.normalize("NFC", prompt).split())
    return hashlib.blake2b(bare.encode(), digest_size=16).digest()


def image_sha256(pixels: Any) -> str:
    """Identity of an image, uint8 [height, width, 3]: its shape and its pixels."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def problem_key(problem: Problem) -> bytes:
    """Identity of a question with its images; `prompt_key` where there are none."""
    key = prompt_key(problem.prompt)
    images = "".join(map(image_sha256, problem.images))
    return hashlib.blake2b(key + images.encode(), digest_size=16).digest() if images else key


def prompt_keys(problems: Collection[Problem]) -> set[bytes]:
    """The keys of these problems, for the `exclude` of the functions below."""
    return {problem_key(p) for p in problems}


def _start(name: str, seed: int, seeds: range, room: int) -> int:
    """A place in `seeds` with at least `room` seeds after it, spread by a hash of (name, seed)."""
    digest = hashlib.sha256(f"{name}:{seed}".encode()).digest()
    return seeds.start + int.from_bytes(digest[:8], "big") % (len(seeds) - room)


def _exhausted(task: Task, level: int, language: str) -> DataError:
    return DataError(
        f"Task {task.name!r} level {level} in {language!r} has no new prompts left. Ask for fewer problems per cell."
    )


def eval_set(
    tasks: Sequence[Task],
    per_cell: int,
    languages: Sequence[str] = LANGUAGES,
    seed: int = 0,
    exclude: Set[bytes] = frozenset(),
    levels: Collection[int] | None = None,
) -> list[Problem]:
    """`per_cell` problems of each (task, level, language), all prompts distinct and none in `exclude`.

    A cell's problems depend on no other cell. DataError where a cell has too few prompts.
    """
    _check(tasks, languages)
    out, known = [], set(exclude)
    for task in tasks:
        for level in (v for v in task.levels if levels is None or v in levels):
            for language in languages:
                room = per_cell * 4 + _PATIENCE
                at = _start(f"eval:{task.name}:{level}:{language}", seed, EVAL_SEEDS, room)
                missed = got = 0
                while got < per_cell:
                    problem = task.problem(at, level, language)
                    key = problem_key(problem)
                    at += 1
                    if key in known:
                        missed += 1
                        if missed >= _PATIENCE:
                            raise _exhausted(task, level, language)
                        continue
                    missed = 0
                    known.add(key)
                    out.append(problem)
                    got += 1
    return out


def train_stream(
    tasks: Sequence[Task],
    n: int,
    seed: int,
    exclude: Set[bytes] = frozenset(),
    levels: Collection[int] | None = None,
    languages: Sequence[str] = LANGUAGES,
) -> Iterator[Problem]:
    """`n` problems in shuffled blocks: each block holds every (task, language) once, a task's levels take turns.

    Prompts in `exclude` are drawn anew from the same cell, so the balance stays. Prompts may repeat among themselves.
    The first k problems of a stream are those of a shorter one with the same seed.
    """
    _check(tasks, languages)
    rng = random.Random(_start("order", seed, TRAIN_SEEDS, 0))
    at = _start("train", seed, TRAIN_SEEDS, 2**36)
    cells = []
    for task in tasks:
        usable = [v for v in task.levels if levels is None or v in levels]
        cells += [(task, usable, language) for language in languages if usable]
    if not cells:
        raise ConfigError(f"No task has any of the levels {sorted(levels or ())}. Leave `levels` out to use them all.")
    made = block = 0
    while made < n:
        rng.shuffle(cells)
        for task, usable, language in cells[: n - made]:
            level = usable[block % len(usable)]
            for _ in range(_PATIENCE):
                problem = task.problem(at, level, language)
                at += 1
                if problem_key(problem) not in exclude:
                    break
            else:
                raise _exhausted(task, level, language)
            yield problem
            made += 1
        block += 1


def numbered(task: Task, level: int, language: str, number: int, seed: int, exclude: Set[bytes]) -> Problem:
    """Training problem `number` of a cell: always the same one, never one of `exclude`.

    Other seeds of the split than `train_stream` uses with the same `seed`. DataError where all tries are excluded.
    """
    at = _start(f"numbered:{task.name}:{level}:{language}", seed, TRAIN_SEEDS, 2**38) + number * _PATIENCE
    for place in range(at, at + _PATIENCE):
        problem = task.problem(place, level, language)
        if problem_key(problem) not in exclude:
            return problem
    raise _exhausted(task, level, language)


def _check(tasks: Sequence[Task], languages: Sequence[str]) -> None:
    unknown = [v for v in languages if v not in LANGUAGES]
    if not tasks or not languages or unknown:
        raise ConfigError(f"Problems need at least one task and languages among {', '.join(LANGUAGES)}; got {unknown}.")
