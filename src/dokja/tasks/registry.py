"""The families by name, in the order in which tables show them."""

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
)
TASKS: dict[str, Task] = {task.name: task for task in _FAMILIES}


def get_tasks(names: Iterable[str] = ("all",)) -> list[Task]:
    """The tasks of these names, each once, in the given order; `all` stands for every one. ConfigError for others."""
    found: dict[str, Task] = {}
    for name in names:
        if name == "all":
            found |= {k: v for k, v in TASKS.items() if k not in found}
        elif name in TASKS:
            found.setdefault(name, TASKS[name])
        else:
            near = difflib.get_close_matches(name, TASKS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: all, {', '.join(TASKS)}."
            raise ConfigError(f"There is no task {name!r}. {hint}")
    return list(found.values())
