"""What the runs page shows of a run folder, read again and again while it is built: only what was added is parsed.

Covered: stages under way, torn last lines, files that were cut back to a checkpoint, files that are not JSON.
Not covered: whether what lies there is true (`dokja verify` says that). Nothing is written and no lock is taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from dokja.proof.plots import Point, smooth, thin
from dokja.proof.report_read import STAGES

POINTS = 300
"""The most points of a drawn line."""
CURVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "pretrain": (("loss",), ("bits_per_byte",), ("tokens_per_second",)),
    "preference": (("loss",), ("accuracy",), ("margin",), ("tokens_per_second",)),
    "rl": (("reward",), ("eval_think", "eval_direct"), ("thought_tokens",), ("tokens_per_second",)),
}
"""Charts of a stage, each with its lines; of stages not listed, loss and speed."""
_OTHER = (("loss",), ("tokens_per_second",))
_SAMPLES = 12


class Tail:
    """The objects of a .jsonl file that grows. `read` takes in what is new."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self._at = path, list[dict[str, Any]](), 0
        self._last = b""

    def read(self) -> bool:
        """Whether something was new."""
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._at or (self._at and _at(file, self._at - len(self._last), self._last) != self._last):
                    self.rows, self._at, self._last = [], 0, b""  # it was cut back, and may have grown again
                if size == self._at:
                    return False
                file.seek(self._at)
                new = file.read(size - self._at)
        except OSError:
            return False
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                self.rows.append(row)
        if whole:
            self._at, self._last = self._at + len(whole), whole[-64:]
        return bool(whole)


@dataclass
class StageView:
    """One stage: its figures so far."""

    name: str
    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: Tail = field(init=False)
    samples: Tail = field(init=False)
    _stamp: float = 0.0

    def __post_init__(self) -> None:
        self.metrics, self.samples = Tail(self.folder / "metrics.jsonl"), Tail(self.folder / "samples.jsonl")

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self.manifest)

    @property
    def cost(self) -> dict[str, float]:
        """seconds, tokens, flops, peak_memory_bytes; of a stage under way what its metrics tell."""
        told = self.manifest.get("cost")
        if isinstance(told, Mapping):
            cost = {k: float(v) for k, v in told.items() if _number(v)}
            flops = cost.get("flops_6nd", 0) + cost.get("flops_attention", 0)
            return {**cost, "flops": flops} if flops else cost
        rows = self.metrics.rows
        if not rows:
            return {}
        seconds = sum(r["seconds"] + (r.get("rollout_seconds") or 0) for r in rows if _number(r.get("seconds")))
        tokens = rows[-1].get("tokens")
        return {"seconds": seconds, **({"tokens": float(tokens)} if _number(tokens) else {})}

    def read(self) -> bool:
        """Takes in what is new; whether there was something."""
        new = self.metrics.read() | self.samples.read()
        path = self.folder / "manifest.json"
        try:
            stamp = path.stat().st_mtime
            if stamp != self._stamp:
                self._stamp, self.manifest, new = stamp, json.loads(path.read_text(encoding="utf-8")), True
        except (OSError, ValueError):
            pass
        return new

    def charts(self) -> list[tuple[str, ...]]:
        """The keys of each chart that has something to draw."""
        found = []
        for keys in CURVES.get(self.name, _OTHER):
            drawn = tuple(k for k in keys if len(self.curve(k)) > 1)
            if drawn:
                found.append(drawn)
        return found

    def curve(self, key: str) -> list[Point]:
        """(step, value) where the metrics have a number."""
        pairs = ((r.get("step"), r.get(key)) for r in self.metrics.rows)
        return [(float(x), float(y)) for x, y in pairs if _number(x) and _number(y)]

    def last_samples(self) -> list[dict[str, Any]]:
        """What its model wrote last, the newest first."""
        return [r for r in reversed(self.samples.rows[-_SAMPLES:]) if isinstance(r.get("text"), str)]


@dataclass(frozen=True)
class Score:
    """pass@1 of a stage in a mode, with its 95 % interval."""

    stage: str
    mode: str
    value: float
    low: float
    high: float


class RunView:
    """A run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stages = folder, list[StageView]()
        self.scores: list[Score] = []
        self._stamp = 0.0

    @property
    def building(self) -> bool:
        """Whether a process builds it now: the one whose id is in run.lock is there."""
        try:
            os.kill(int((self.folder / "run.lock").read_text()), 0)
        except PermissionError:
            return True
        except (OSError, ValueError, OverflowError):
            return False
        return True

    def read(self) -> bool:
        """Takes in what is new; whether there was something."""
        known = {s.name for s in self.stages}
        found = [n for n in STAGES if n not in known and _is_stage(self.folder / n)]
        self.stages = sorted(
            [*self.stages, *(StageView(name, self.folder / name) for name in found)],
            key=lambda s: STAGES.index(s.name),
        )
        new = [stage.read() for stage in self.stages]
        return any(new) | bool(found) | self._read_scores()

    def total(self, key: str) -> float:
        """Of a cost, over all stages."""
        return sum(stage.cost.get(key, 0) for stage in self.stages)

    def _read_scores(self) -> bool:
        path = self.folder / "judge" / "stages.json"
        try:
            stamp = path.stat().st_mtime
            if stamp == self._stamp:
                return False
            table = json.loads(path.read_text(encoding="utf-8"))
            self.scores = [
                Score(stage["stage"], row["mode"], *(float(row["score"][k]) for k in ("value", "low", "high")))
                for stage in table["stages"]
                for row in stage["rows"]
                if row["language"] is None
            ]
            self._stamp = stamp
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True


def list_runs(folder: Path) -> list[Path]:
    """Run folders, the one that changed last first."""
    try:
        found = [p for p in folder.iterdir() if p.is_dir() and any(_is_stage(p / name) for name in STAGES)]
    except OSError:
        return []
    return sorted(found, key=_changed, reverse=True)


def find_run(folder: Path, name: str) -> Path | None:
    """The run of this name in the folder; names lead nowhere else."""
    return next((p for p in list_runs(folder) if p.name == name), None)


def drawn(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """(as measured, smoothed), both with few enough points to send."""
    return thin(points, POINTS, spread=True), thin(smooth(points), POINTS)


def _at(file: Any, place: int, like: bytes) -> bytes:
    file.seek(place)
    found: bytes = file.read(len(like))
    return found


def _is_stage(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() or (folder / "metrics.jsonl").is_file()


def _changed(folder: Path) -> float:
    files = [f for name in STAGES for f in ((folder / name / "metrics.jsonl"), (folder / name / "manifest.json"))]
    return max((f.stat().st_mtime for f in files if f.is_file()), default=0.0)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
