"""metrics.jsonl: one line per step, the only truth about how training went.

A run that falls back to checkpoint k drops the lines after k and writes them again, so an interrupted run's file ends
up equal to an uninterrupted one's, the `TIMING_KEYS` aside.
"""

import json
import math
from pathlib import Path
from typing import Any

from dokja.ledger.atomic import write_atomic

TIMING_KEYS = frozenset(
    {"time", "seconds", "rollout_seconds", "tokens_per_second", "gflops", "share_of_peak", "peak_memory_bytes"}
)
"""Keys that differ between two runs which are otherwise the same."""


class MetricsLog:
    """Appends to one metrics.jsonl. A torn last line, left by a kill, is dropped when the file is opened."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._keep(lambda line: True)
        self._file = open(self.path, "ab")  # noqa: SIM115 - lives as long as the log

    def write(self, step: int, **values: Any) -> None:
        """One line, handed to the kernel at once. A value that is not finite is written as null: JSON has no NaN."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        row = {"step": step, **finite}
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")
        self._file.flush()

    def truncate_after(self, step: int) -> None:
        """Drop every line with a larger step, atomically."""
        self._file.close()
        self._keep(lambda line: json.loads(line)["step"] <= step)
        self._file = open(self.path, "ab")  # noqa: SIM115

    def close(self) -> None:
        self._file.close()

    def _keep(self, wanted: Any) -> None:
        old = self.path.read_bytes() if self.path.exists() else b""
        new = b"".join(line + b"\n" for line in old.split(b"\n")[:-1] if wanted(line))
        if new != old:
            write_atomic(self.path, new)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Every whole line, in order; a torn last line is left out. A file that is not there has no lines."""
    data = Path(path).read_bytes() if Path(path).exists() else b""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]
