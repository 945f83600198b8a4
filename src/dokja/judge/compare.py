"""Two or more judged models on the same questions: what each scored, how they differ, and what could have been seen.

Only problems that all models answered in a mode count, and only where the question and its right answer are the same
text. Differences are to the first model and paired, so the problems' own difficulty drops out; a row is called
different where its p stays below 5 % after Holm's correction over the rows of its kind and mode.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

from dokja.errors import DataError
from dokja.judge.records import RECORDS, Record, Sampling, read_records
from dokja.judge.resolution import holm, minimum_detectable, paired_p, spread_of
from dokja.judge.speed import cost
from dokja.judge.stats import Estimate, mean_over_problems, paired_difference
from dokja.judge.table import SUMMARY
from dokja.text.chat import MODES, Mode

ALPHA = 0.05
KINDS: dict[str, Callable[[Record], str | None]] = {
    "all": lambda record: None,
    "language": lambda record: record.language,
    "task": lambda record: record.task,
}
"""What rows are of: everything, a language, a task."""
FACTS = ("parameters", "active_parameters", "input_price", "output_price")
"""What may be known of a model besides its answers; prices are per million tokens."""
Problems = dict[tuple[str, str], list[Record]]
"""Records by (task, problem), in the order of the file."""


@dataclass(frozen=True)
class Side:
    """One model: its answers, and of the `FACTS` those that are known."""

    name: str
    folder: Path
    records: list[Record]
    facts: Mapping[str, float] = field(default_factory=dict)

    def spent(self, mode: Mode) -> dict[str, float | None]:
        """Size, tokens written per answer, seconds of the longest sitting and cost of a mode, as far as known."""
        mine = [r for r in self.records if r.mode == mode]
        prices = self.facts.get("input_price"), self.facts.get("output_price")
        price = None
        if prices[0] is not None and prices[1] is not None:
            read, written = (sum(getattr(r.usage, k) for r in mine) for k in ("prompt_tokens", "completion_tokens"))
            price = cost(read, written, prices[0], prices[1])
        return {
            "parameters": self.facts.get("parameters"),
            "tokens": fmean(r.usage.completion_tokens for r in mine) if mine else None,
            "seconds": max((r.seconds for r in mine), default=None),
            "cost": price,
        }


@dataclass(frozen=True)
class Bar:
    """One model's score in a row and what makes it less than sure."""

    score: Estimate
    answers: int
    truncated: int
    unparseable: int
    refused: int
    grader_failed: int


@dataclass(frozen=True)
class Change:
    """A later model minus the first. `detectable`: the true difference that this row would have shown 4 times in 5."""

    difference: Estimate
    gained: int
    lost: int
    p: float
    adjusted_p: float
    detectable: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not told apart`."""
        if self.adjusted_p >= ALPHA:
            return "not told apart"
        return "better" if self.difference.value > 0 else "worse"


@dataclass(frozen=True)
class CompareRow:
    """One group of problems in one mode; `name` is its task or language, None for all. A bar and a change per model."""

    kind: str
    name: str | None
    mode: Mode
    problems: int
    repeats: float
    bars: tuple[Bar, ...]
    changes: tuple[Change, ...]
    """Of the second model on."""


@dataclass(frozen=True)
class Comparison:
    """All rows, and in words what keeps the models from being asked alike."""

    sides: tuple[Side, ...]
    rows: tuple[CompareRow, ...]
    notes: tuple[tuple[str, str], ...]
    """(what, details); what is grader_version, template_sha256, sampling, same_weights, other_texts or not_shared."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        sides = [{"name": s.name, "model_sha256": s.records[0].model_sha256, **s.facts} for s in self.sides]
        return {"models": sides, "notes": list(self.notes), "rows": [asdict(row) for row in self.rows]}


def find_records(path: str | Path) -> Path:
    """The folder with the records: `path` itself, its `judge`, or the only `judge-*` in it. DataError otherwise."""
    path = Path(path)
    if (path / RECORDS).exists():
        return path
    found = [p for p in (path / "judge", *sorted(path.glob("judge-*"))) if (p / RECORDS).exists()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(p.name for p in found)
        raise DataError(f"{path} was judged more than once ({names}). Name one of these folders.")
    raise DataError(f"There are no records in {path}. Run `dokja judge` first, or give the folder it wrote.")


def read_side(path: str | Path, name: str | None = None, facts: Mapping[str, Mapping[str, Any]] | None = None) -> Side:
    """A judged folder, called `name` or what its records say. `facts`, by that name, add to what its summary knows.

    Raises DataError where there are no records, or a fact is no number.
    """
    folder = find_records(path)
    records = read_records(folder)
    if not records:
        raise DataError(f"The records in {folder} are empty. Judge the model again.")
    called = name or records[0].model
    known: dict[str, float] = {}
    if (folder / SUMMARY).exists():
        try:
            settings = json.loads((folder / SUMMARY).read_text(encoding="utf-8")).get("settings", {})
            known = {k: settings[k] for k in FACTS if settings.get(k) is not None}
        except (ValueError, AttributeError) as err:
            raise DataError(f"{folder / SUMMARY} is damaged ({err}). Run the same `dokja judge` again.") from err
    for key, value in (facts or {}).get(called, {}).items():
        if key not in FACTS or not isinstance(value, int | float | Decimal) or isinstance(value, bool) or value < 0:
            raise DataError(f"{key} = {value!r} of {called} is no fact. Give numbers for {', '.join(FACTS)}.")
        known[key] = float(value)
    return Side(called, folder, records, known)


def compare_sides(sides: Sequence[Side]) -> Comparison:
    """Rows of all kinds and modes. Raises DataError where the models share no question in any mode."""
    if len(sides) < 2:
        raise ValueError("a comparison needs two models")
    sides = _told_apart(sides)
    rows: list[CompareRow] = []
    other_texts = dropped = 0
    for mode in MODES:
        by_problem = [_by_problem(r for r in side.records if r.mode == mode) for side in sides]
        common = [key for key in by_problem[0] if all(key in other for other in by_problem)]
        same = [key for key in common if len({_question(p[key][0]) for p in by_problem}) == 1]
        other_texts += len(common) - len(same)
        dropped += len(set().union(*by_problem)) - len(common)
        for kind, group_of in KINDS.items():
            groups: dict[str | None, list[tuple[str, str]]] = {}
            for key in same:
                groups.setdefault(group_of(by_problem[0][key][0]), []).append(key)
            rows += _corrected([_row(kind, name, mode, keys, by_problem) for name, keys in groups.items()])
    if not rows:
        names = " and ".join(s.name for s in sides)
        raise DataError(f"{names} have no question in common in any mode. Judge both with the same suite and modes.")
    return Comparison(tuple(sides), tuple(rows), tuple(_notes(sides, other_texts, dropped)))


def _row(
    kind: str, name: str | None, mode: Mode, keys: Sequence[tuple[str, str]], by_problem: Sequence[Problems]
) -> CompareRow:
    records = [[r for key in keys for r in found[key]] for found in by_problem]
    scores = [[[r.score for r in found[key]] for key in keys] for found in by_problem]
    changes = []
    for other in scores[1:]:
        ups = [fmean(x) - fmean(y) for x, y in zip(other, scores[0], strict=True)]
        p = paired_p(other, scores[0])
        gained, lost = sum(u > 0 for u in ups), sum(u < 0 for u in ups)
        difference = paired_difference(other, scores[0])
        # Answers that all agree show no spread; their interval, which knows better, is then the least.
        detectable = minimum_detectable(spread_of(other, scores[0]), len(keys))
        detectable = min(1.0, max(detectable, (difference.high - difference.low) / 2))
        changes.append(Change(difference, gained, lost, p, p, detectable))
    repeats = fmean(len(s) for side in scores for s in side)
    bars = tuple(_bar(s, r) for s, r in zip(scores, records, strict=True))
    return CompareRow(kind, name, mode, len(keys), repeats, bars, tuple(changes))


def _bar(scores: Sequence[Sequence[float]], records: Sequence[Record]) -> Bar:
    def count(reason: str) -> int:
        return sum(r.reason == reason for r in records)

    faults = (count(reason) for reason in ("truncated", "unparseable", "refused", "grader_failed"))
    return Bar(mean_over_problems(scores), len(records), *faults)


def _corrected(rows: Sequence[CompareRow]) -> list[CompareRow]:
    """The same rows with p-values adjusted over all of them and all models."""
    adjusted = iter(holm([change.p for row in rows for change in row.changes]))
    return [
        replace(row, changes=tuple(replace(change, adjusted_p=next(adjusted)) for change in row.changes))
        for row in rows
    ]


def _by_problem(records: Iterable[Record]) -> Problems:
    out: Problems = {}
    for record in records:
        out.setdefault((record.task, record.problem_id), []).append(record)
    return out


def _question(record: Record) -> tuple[str, str, tuple[str, ...]]:
    return record.prompt, record.reference, record.images


def _told_apart(sides: Sequence[Side]) -> list[Side]:
    """Models of one name get their folders' names."""
    names = [s.name for s in sides]
    if len(set(names)) == len(names):
        return list(sides)
    parts = [s.folder.resolve().parts for s in sides]
    depth = next((n for n in range(1, 9) if len({p[-n:] for p in parts}) == len(parts)), 8)
    return [replace(s, name="/".join(p[-depth:])) for s, p in zip(sides, parts, strict=True)]


def _sampling(sampling: Sampling) -> str:
    """`temperature 1, top_p 0.95, max_tokens 160`: what is set."""
    return ", ".join(f"{key} {value}" for key, value in asdict(sampling).items() if value not in (None, "", 0))


def _notes(sides: Sequence[Side], other_texts: int, dropped: int) -> Iterable[tuple[str, str]]:
    for key, words in (
        ("grader_version", lambda r: r.grader_version[:8]),
        ("template_sha256", lambda r: r.template_sha256[:8]),
        ("sampling", lambda r: _sampling(r.sampling)),
    ):
        said = [" / ".join(dict.fromkeys(words(r) for r in s.records)) for s in sides]
        if len(set(said)) > 1:
            yield key, "; ".join(f"{s.name}: {words}" for s, words in zip(sides, said, strict=True))
    if len({s.records[0].model_sha256 for s in sides}) < len(sides):
        yield "same_weights", ""
    if other_texts:
        yield "other_texts", str(other_texts)
    if dropped:
        yield "not_shared", str(dropped)
