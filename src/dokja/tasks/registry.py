"""The families by name, in the order in which tables show them, and the tasks of benchmark packs beside them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from dokja.errors import ConfigError
from dokja.tasks.families.addsub import AddSub
from dokja.tasks.families.base import Family
from dokja.tasks.families.bits import Bits
from dokja.tasks.families.calendar import Calendar
from dokja.tasks.families.chain import Chain
from dokja.tasks.families.clock import Clock
from dokja.tasks.families.hops import Hops
from dokja.tasks.families.letters import Letters
from dokja.tasks.families.modchain import ModChain
from dokja.tasks.families.reverse import Reverse
from dokja.tasks.families.sort import Sort
from dokja.tasks.families.sum import Sum
from dokja.tasks.families.word import Word
from dokja.tasks.problem import Task
from dokja.tasks.sight.bars import Bars
from dokja.tasks.sight.colours import Colours
from dokja.tasks.sight.digits import Digits
from dokja.tasks.sight.hangul import Hangul
from dokja.tasks.sight.howmany import HowMany
from dokja.tasks.sight.larger import Larger
from dokja.tasks.sight.parallel import Parallel
from dokja.tasks.sight.polygons import Polygons
from dokja.tasks.sight.where import Where

_FAMILIES: tuple[Family, ...] = (
    AddSub(),
    ModChain(),
    Letters(),
    Clock(),
    Chain(),
    Sort(),
    Reverse(),
    Word(),
    Bits(),
    Calendar(),
    Sum(),
    Hops(),
    HowMany(),
    Colours(),
    Digits(),
    Hangul(),
    Bars(),
    Polygons(),
    Larger(),
    Where(),
    Parallel(),
)
TASKS: dict[str, Task] = {task.name: task for task in _FAMILIES}
GROUPS: dict[str, dict[str, Task]] = {
    "all": {name: task for name, task in TASKS.items() if not task.needs_images},
    "sight": {name: task for name, task in TASKS.items() if task.needs_images},
}
"""Names that stand for several: every family of text, and every one about images."""

LOADED: dict[str, Task] = {}
"""Tasks of packs that `tasks.packs.load` has loaded, by the names that their problems and records bear."""


def find_task(name: str) -> Task:
    """The family or the task of a pack that a problem or a record names; a pack's data is not needed to grade.

    ConfigError where there is none.
    """
    found = TASKS.get(name) or LOADED.get(name)
    if found is None:
        from dokja.tasks.packs.load import defined_task  # packs are loaded by few, and load this module themselves

        found = LOADED[name] = defined_task(name)
    return found


def get_tasks(names: Iterable[str] = ("all",)) -> list[Task]:
    """The tasks of these names, each once, in the given order; a name of GROUPS stands for all of its. ConfigError for
    others."""
    found: dict[str, Task] = {}
    for name in names:
        if name in GROUPS:
            found |= {k: v for k, v in GROUPS[name].items() if k not in found}
        elif name in TASKS:
            found.setdefault(name, TASKS[name])
        else:
            near = difflib.get_close_matches(name, [*GROUPS, *TASKS], n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join([*GROUPS, *TASKS])}."
            raise ConfigError(f"There is no task {name!r}. {hint}")
    return list(found.values())
