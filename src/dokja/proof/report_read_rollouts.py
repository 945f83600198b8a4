"""The stored answers of RL's last step: rl/rollouts/step_<n>.jsonl.zst, an object per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zstandard

_MOST = 2**28
"""Bytes of one step's text that a report reads at most."""
_NOT_SHOWN = frozenset({"prompt_tokens", "tokens", "logprobs"})


def last_rollouts(stage: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The answers of the newest step without their tokens; none, and a sentence in `notes`, where it cannot be read."""
    files = sorted((stage / "rollouts").glob("step_*.jsonl.zst"))
    if not files:
        return []
    file = files[-1]
    try:
        packed = file.read_bytes()
        if (size := zstandard.frame_content_size(packed)) > _MOST:
            notes.append(f"{file.name} in rl/rollouts/ unpacks to {size:,} bytes, more than a report reads.")
            return []
        lines = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MOST).split(b"\n")
        rows = [json.loads(line) for line in lines if line]
    except (OSError, ValueError, RecursionError, MemoryError, zstandard.ZstdError) as err:
        notes.append(f"{file.name} in rl/rollouts/ could not be read ({err}).")
        return []
    return [{k: v for k, v in row.items() if k not in _NOT_SHOWN} for row in rows if isinstance(row, dict)]
