"""Shared by the tests of this room: every (task, level, language) once, and where the benchmark packs lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


@pytest.fixture
def shared_packs(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the packs that may be redistributed; the test is skipped where it does not lie beside us."""
    beside = Path(__file__).parents[2].parent / "shared" / "packs"
    for place in (*filter(None, os.environ.get("DOKJA_PACKS", "").split(os.pathsep)), beside):
        if (Path(place) / "README.md").is_file():
            monkeypatch.setenv("DOKJA_PACKS", str(place))
            return Path(place)
    pytest.skip("the benchmark packs do not lie beside the project")
