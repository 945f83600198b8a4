"""What lies in a run folder, read without changing anything and without insisting on what is not there yet.

Covered: stages that have not run, keys of other versions, torn last lines, files that are not JSON: each is left out.
Not covered: judging whether what lies there is true; that is `verify`'s work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dokja.errors import DataError
from dokja.judge.records import RECORDS, Record, read_records
from dokja.judge.stages import STAGES as COMPARISON
from dokja.judge.table import SUMMARY
from dokja.ledger import chain
from dokja.proof.report_read_rollouts import last_rollouts

STAGES = ("corpus", "tokenizer", "shards", "pretrain", "context", "sft", "preference", "rl", "judge", "release")


@dataclass(frozen=True)
class Stage:
    """One stage's folder: its manifest and, for training, a line per step and samples on the way."""

    name: str
    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]

    @property
    def cost(self) -> dict[str, Any]:
        """seconds, tokens, flops_6nd, flops_attention, peak_memory_bytes; whichever were measured."""
        return {k: v for k, v in _dict(self.manifest.get("cost")).items() if _is_number(v)}

    @property
    def attempts(self) -> int | None:
        """How often the stage was started; None where unknown."""
        attempts = self.manifest.get("attempts")
        return len(attempts) if isinstance(attempts, list) else attempts if isinstance(attempts, int) else None


@dataclass(frozen=True)
class Run:
    """A run folder as the report and the card see it."""

    path: Path
    name: str
    recipe: dict[str, Any]
    derived: list[dict[str, Any]]
    stages: list[Stage]
    summary: dict[str, Any]
    comparison: dict[str, Any]
    """judge/stages.json: the model after each stage of its training, on the same problems."""
    records: list[Record]
    rollouts: list[dict[str, Any]]
    """The stored answers of RL's last step, without their tokens."""
    environment: dict[str, Any]
    data: list[dict[str, Any]]
    """One entry per shard folder: name, documents, tokens, utf8_bytes."""
    bytes_per_token: dict[str, float]
    heldout: list[dict[str, Any]]
    """Held-out text: name (`*` for a whole language), language, bytes, bits_per_byte, baselines {name: same}."""
    ledger_entries: int
    ledger_head: str | None
    ledger_problems: list[str]
    shape: dict[str, Any]
    """config.json of the release, or of the last trained weights where nothing is released yet."""
    parameters: int | None
    """Counted from the tensors beside it."""
    notes: list[str] = field(default_factory=list)
    """What was there and could not be read, one sentence each."""

    def stage(self, name: str) -> Stage | None:
        """The stage of that name, if it has run."""
        return next((s for s in self.stages if s.name == name), None)

    @property
    def training_tokens(self) -> float | None:
        """Tokens of the stages that train, repeats included."""
        values = [s.cost["tokens"] for s in self.stages if s.metrics and "tokens" in s.cost]
        return sum(values) if values else None

    def total(self, key: str) -> float | None:
        """Sum of a cost over the stages that measured it; None where none did."""
        values = [s.cost[key] for s in self.stages if key in s.cost]
        return sum(values) if values else None

    @property
    def created(self) -> str:
        """Time of the newest manifest (UTC), empty when there is none."""
        return max((str(s.manifest.get("created") or "") for s in self.stages), default="")

    @property
    def peak_memory(self) -> float | None:
        """Largest resident memory of any stage, in bytes."""
        return max((s.cost["peak_memory_bytes"] for s in self.stages if "peak_memory_bytes" in s.cost), default=None)


def read_run(path: str | Path) -> Run:
    """Read a run folder; raises DataError where there is no such folder."""
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"There is no run folder at {path}. Name the folder that `dokja build` wrote.")
    notes: list[str] = []
    recipe = _dict(_json(path / "recipe.json", notes))
    derived = recipe.pop("derived", [])
    recipe = _dict(recipe.get("recipe")) or recipe
    derived = derived or _json(path / "derived.json", notes) or []
    names = [s for s in STAGES if (path / s).is_dir()]
    names += sorted(p.parent.name for p in path.glob("*/manifest.json") if p.parent.name not in STAGES)
    stages = [_stage(path / name, notes) for name in names]
    stages = [s for s in stages if s.manifest or s.metrics or s.samples]
    records = []
    if (path / "judge" / RECORDS).exists():
        try:
            records = read_records(path / "judge")
        except DataError as err:
            notes.append(str(err))
    entries: list[dict[str, Any]] = []
    try:
        entries = chain.read_chain(path)
    except DataError as err:
        notes.append(str(err))
    weights = _weights(path)
    return Run(
        path=path,
        name=str(recipe.get("name") or path.resolve().name),
        recipe=recipe,
        derived=[d for d in derived if isinstance(d, dict)] if isinstance(derived, list) else [],
        stages=stages,
        summary=_dict(_json(path / "judge" / SUMMARY, notes)),
        comparison=_dict(_json(path / "judge" / COMPARISON, notes)),
        records=records,
        rollouts=last_rollouts(path / "rl", notes),
        environment=next((e for s in reversed(stages) if (e := _dict(s.manifest.get("environment")))), {}),
        data=_data(path, notes),
        bytes_per_token=_bytes_per_token(path, notes),
        heldout=_heldout(path, notes),
        ledger_entries=len(entries),
        ledger_head=entries[-1]["hash"] if entries else None,
        ledger_problems=chain.verify(path) if (path / chain.FILE_NAME).exists() else [],
        shape=_dict(_json(weights / "config.json", notes)) if weights else {},
        parameters=_parameters(weights) if weights else None,
        notes=notes,
    )


def _stage(folder: Path, notes: list[str]) -> Stage:
    return Stage(
        folder.name,
        _dict(_json(folder / "manifest.json", notes)),
        [line for line in _lines(folder / "metrics.jsonl") if _is_number(line.get("step"))],
        _lines(folder / "samples.jsonl"),
    )


def _data(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    found = []
    for file in sorted((path / "shards").rglob("shards.json")) if (path / "shards").is_dir() else []:
        found.append({"name": file.parent.relative_to(path / "shards").as_posix(), **_dict(_json(file, notes))})
    return found


def _bytes_per_token(path: Path, notes: list[str]) -> dict[str, float]:
    table = _dict(_dict(_json(path / "tokenizer" / "figures.json", notes)).get("bytes_per_token"))
    return {str(k): float(v) for k, v in table.items() if _is_number(v)}


def _heldout(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The rows of judge/texts.json: each source, then each language where it has several sources."""
    content = _dict(_json(path / "judge" / "texts.json", notes))
    settings = _dict(content.get("settings"))
    names = {"ngram": f"{settings.get('ngram_order', 'n')}-gram", "xz": "xz -9"}
    sources = _dict(content.get("sources"))
    rows = [(name, row) for name, row in sources.items() if isinstance(row, dict)]
    tags = [row.get("language") for _, row in rows]
    rows += [
        ("*", {**_dict(row), "language": tag})
        for tag, row in _dict(content.get("languages")).items()
        if tags.count(tag) > 1
    ]
    return [
        {
            "name": name,
            "language": str(row.get("language") or ""),
            "bytes": row.get("bytes"),
            "bits_per_byte": float(row["model"]),
            "baselines": {words: float(row[key]) for key, words in names.items() if _is_number(row.get(key))},
        }
        for name, row in rows
        if _is_number(row.get("model"))
    ]


def _weights(path: Path) -> Path | None:
    """The folder with the newest weights: the release, which may hold them one level deeper, or the last stage's."""
    places = [path / "release", *sorted((path / "release").glob("*/"))]
    places += [path / stage / "weights" for stage in reversed(STAGES)]
    return next((p for p in places if (p / "config.json").is_file()), None)


def _parameters(folder: Path) -> int | None:
    """Parameters of the safetensors files, from their headers: 8 bytes of length, then JSON with a shape per tensor."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with open(file, "rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            for name, tensor in header.items():
                if name != "__metadata__":
                    product = 1
                    for extent in tensor["shape"]:
                        product *= extent
                    total += product
        except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError, AttributeError):
            return None
    return total or None


def _json(path: Path, notes: list[str]) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        notes.append(f"{path.name} in {path.parent.name}/ could not be read ({err}).")
        return None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file; torn or foreign lines are left out."""
    out = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            out.append(value)
    return out


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
