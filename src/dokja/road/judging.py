"""Stage `judge`: held-out problems in both modes, and bits per byte of held-out texts beside two baselines."""

from __future__ import annotations

from pathlib import Path

from dokja.road.context import Context, Walked


def walk(context: Context, folder: Path) -> Walked:
    """records.jsonl and summary.json for problems, texts.json for texts."""
    raise NotImplementedError
