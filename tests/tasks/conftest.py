"""Shared by the tests of this room: every (task, level, language) once."""

from __future__ import annotations

from dokja.tasks.registry import TASKS

CELLS = [
    (name, level, language)
    for name, task in TASKS.items()
    if not task.needs_images
    for level in task.levels
    for language in ("ko", "en")
]


def pytest_generate_tests(metafunc):
    if "cell" in metafunc.fixturenames:
        metafunc.parametrize("cell", CELLS, ids=["-".join(map(str, c)) for c in CELLS])
