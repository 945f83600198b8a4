"""One sampled answer with all that was thought of it. Every rollout of a run is stored, a line each."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from dokja.errors import DataError
from dokja.ledger.atomic import write_atomic
from dokja.text.chat import Mode


@dataclass
class Rollout:
    """An answer to one prompt. Tokens and logprobs are those of the engine that sampled it."""

    step: int
    group: int
    """Which prompt of the step; the answers of a group are compared with each other."""
    sample: int
    task: str
    problem_id: str
    level: int
    language: str
    mode: Mode
    prompt: str
    reference: str
    prompt_tokens: list[int]
    tokens: list[int]
    logprobs: list[float]
    """Natural, of the raw distribution, exact fp32 numbers; one per token."""
    finish: str
    forced: bool
    forced_at: int
    """The token that closed the thought by force, -1 where none did: not the policy's choice, never trained."""
    reasoning: str
    answer: str
    reasoning_tokens: int
    wrong_mode: bool
    score: float
    reason: str
    detail: str
    reward: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def arm(self) -> tuple[str, int]:
        """(task, level): what the curriculum chooses between."""
        return self.task, self.level


def write_rollouts(path: Path, rollouts: Iterable[Rollout]) -> None:
    """Stores rollouts as one compressed JSON line each, atomically; the same rollouts give the same bytes."""
    text = io.StringIO()
    for r in rollouts:
        row = dict(vars(r))
        row["logprobs"] = [float(str(np.float32(x))) for x in r.logprobs]  # nine digits say an fp32 exactly
        text.write(json.dumps(row, ensure_ascii=False) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, zstandard.ZstdCompressor(level=3).compress(text.getvalue().encode()))


def read_rollouts(path: Path) -> Iterator[Rollout]:
    """What `write_rollouts` stored. DataError where the file is cut or not ours."""
    try:
        text = zstandard.ZstdDecompressor().decompress(path.read_bytes())
        rows: list[dict[str, Any]] = [json.loads(line) for line in text.split(b"\n") if line]
        yield from (Rollout(**row) for row in rows)
    except (OSError, ValueError, TypeError, zstandard.ZstdError) as error:
        raise DataError(f"{path} is no whole file of rollouts ({error}). Restore it, or use --rebuild.") from error
