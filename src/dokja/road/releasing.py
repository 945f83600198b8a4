"""Stage `release`."""

from __future__ import annotations

from pathlib import Path

from dokja.road.context import Context, Walked


def walk(context: Context, folder: Path) -> Walked:
    """The release folder."""
    raise NotImplementedError
