"""The model after each stage of its training, on the same problems: what preference and RL changed.

| figure | estimate | 95 % interval |
|---|---|---|
| pass@1 of a stage | mean of the problems' means | as `stats.mean_over_problems` |
| thought tokens of a stage (thinking) | mean of the problems' means | Student t over problems |
| difference to the first stage | mean of the paired differences | percentile bootstrap over problems |

The bootstrap draws problems with all their answers, `RESAMPLES` times from a fixed seed, so the same records give the
same interval. Where all differences of scores are equal (no problem changed) resampling would claim certainty, and
`stats.paired_difference` takes its place; lengths are not bounded, so equal differences of lengths keep no width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.errors import DataError
from dokja.judge.records import Record, read_records
from dokja.judge.stats import Estimate, mean_over_problems, paired_difference, t_quantile
from dokja.ledger.atomic import write_atomic
from dokja.text.chat import MODES

STAGES = "stages.json"
RESAMPLES = 10_000
_SEED = 2_718_281

Scores = dict[tuple[str, str], list[float]]
"""Values by (task, problem), one per repeat."""


@dataclass(frozen=True)
class _Pairs:
    """What a group of answers holds: scores, and for thinking answers the tokens of their thoughts."""

    score: Scores
    thought: Scores | None


def compare(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The table by stage, as JSON values, from folders with `records.jsonl` in the order of the road, final one last.

    `stages`: for each its name, model and `rows`, one per mode and one per (mode, language); a row has `score` and
    `thought_tokens` as {value, low, high, n}, and from the second stage on `difference` to the first over the problems
    both answered, with how many problems were `gained` and `lost`. Raises DataError where a folder has no records, or
    where stages were not asked in the same way and their difference would not be the training's.
    """
    if not folders:
        raise ValueError("there are no stages to compare")
    records = {name: read_records(folder) for name, folder in folders.items()}
    empty = [name for name, found in records.items() if not found]
    if empty:
        raise DataError(f"The stage {empty[0]} has no answers in {folders[empty[0]]}. Judge it before comparing.")
    _same_questions(records)
    groups = {name: _groups(found) for name, found in records.items()}
    first = next(iter(groups))
    return {
        "reference": first,
        "intervals": {
            "score": "95 %, Wilson or Student t over problems",
            "thought_tokens": "95 %, Student t over problems",
            "difference": f"95 %, percentile bootstrap over the paired problems, {RESAMPLES} resamples, fixed seed",
        },
        "stages": [
            {
                "stage": name,
                "model_sha256": records[name][0].model_sha256,
                "rows": [
                    _row(mode, language, found, None if name == first else groups[first].get((mode, language)))
                    for (mode, language), found in groups[name].items()
                ],
            }
            for name in groups
        ],
    }


def write_stages(folder: str | Path, table: dict[str, Any]) -> Path:
    """Write `stages.json` into a judged folder, atomically; returns its path."""
    path = Path(folder) / STAGES
    write_atomic(path, (json.dumps(table, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode())
    return path


def print_stages(table: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table by stage, then what each later stage changed, a line per mode."""
    console = console or Console()
    languages = list(dict.fromkeys(r["language"] for s in table["stages"] for r in s["rows"] if r["language"]))
    shown = Table(
        title="by stage: pass@1 in %, 95 % intervals; mean tokens of a thought",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE,
        collapse_padding=True,
    )
    for name in ("stage", "mode"):
        shown.add_column(name, no_wrap=True)
    for name in (*languages, "all", "thought"):
        shown.add_column(name, justify="right", no_wrap=True)
    for mode in MODES:
        for stage in table["stages"]:
            rows = {r["language"]: r for r in stage["rows"] if r["mode"] == mode}
            if rows:
                cells = [_share(rows[key]["score"]) if key in rows else "–" for key in (*languages, None)]
                thought = rows[None]["thought_tokens"] if None in rows else None
                tokens = f"{thought['value']:.1f}" if thought else "–"
                shown.add_row(escape(stage["stage"]), "think" if mode == "think" else "at once", *cells, tokens)
        shown.add_section()
    console.print(shown)
    for sentence in _sentences(table):
        console.print(sentence, markup=False, highlight=False)


def _sentences(table: Mapping[str, Any]) -> list[str]:
    """`rl − sft, thinking: +5.2 points [+3.1, +7.4], thoughts −8.0 tokens [−9.1, −6.9] (840 problems)`."""
    out = []
    for stage in table["stages"]:
        for row in stage["rows"]:
            if row["language"] is None and (change := row.get("difference")):
                mode = "thinking" if row["mode"] == "think" else "at once"
                words = f"{stage['stage']} − {table['reference']}, {mode}: {_span(change['score'], 'points', 100)}"
                if tokens := change["thought_tokens"]:
                    words += f", thoughts {_span(tokens, 'tokens')}"
                out.append(f"{words} ({change['score']['n']} problems)".replace("-", "−"))
    return out


def _same_questions(records: Mapping[str, Sequence[Record]]) -> None:
    """Problems may differ between stages (pairs are what they share); the way of asking and grading may not."""
    first, *others = records
    for field in ("sampling", "template_sha256", "grader_version"):
        known = {getattr(r, field) for r in records[first]}
        for name in others:
            if {getattr(r, field) for r in records[name]} != known:
                raise DataError(
                    f"The stages {first} and {name} were judged with another {field}, so their difference would not "
                    "be the training's. Remove their judge folders and judge both again."
                )


def _groups(records: Sequence[Record]) -> dict[tuple[str, str | None], _Pairs]:
    """By mode, and below each mode by language."""
    languages = list(dict.fromkeys(r.language for r in records))
    out: dict[tuple[str, str | None], _Pairs] = {}
    for mode in MODES:
        for language in (None, *languages):
            mine = [r for r in records if r.mode == mode and language in (None, r.language)]
            if mine:
                thought = _by_problem(mine, [r.usage.reasoning_tokens for r in mine]) if mode == "think" else None
                out[mode, language] = _Pairs(_by_problem(mine, [r.score for r in mine]), thought)
    return out


def _by_problem(records: Sequence[Record], values: Sequence[float]) -> Scores:
    out: Scores = {}
    for record, value in zip(records, values, strict=True):
        out.setdefault((record.task, record.problem_id), []).append(float(value))
    return out


def _row(mode: str, language: str | None, found: _Pairs, before: _Pairs | None) -> dict[str, Any]:
    return {
        "mode": mode,
        "language": language,
        "problems": len(found.score),
        "answers": sum(map(len, found.score.values())),
        "score": asdict(mean_over_problems(list(found.score.values()))),
        "thought_tokens": asdict(_mean(found.thought)) if found.thought else None,
        "difference": _difference(found, before) if before else None,
    }


def _difference(now: _Pairs, before: _Pairs) -> dict[str, Any] | None:
    shared = sorted(now.score.keys() & before.score.keys())  # an order of its own: the draw shall not see the file's
    if not shared:
        return None
    a, b = [now.score[k] for k in shared], [before.score[k] for k in shared]
    changes = [fmean(x) - fmean(y) for x, y in zip(a, b, strict=True)]
    thought = None
    if now.thought and before.thought:
        thought = asdict(_bootstrap([fmean(now.thought[k]) - fmean(before.thought[k]) for k in shared]))
    return {
        "score": asdict(_bootstrap(changes) if len(set(changes)) > 1 else paired_difference(a, b)),
        "thought_tokens": thought,
        "gained": sum(c > 0 for c in changes),
        "lost": sum(c < 0 for c in changes),
    }


def _mean(values: Scores) -> Estimate:
    """Mean over problems with Student's t; one problem alone shows no spread and gets no width."""
    means = [fmean(v) for v in values.values()]
    n, value = len(means), fmean(means)
    half = t_quantile(0.975, n - 1) * stdev(means) / math.sqrt(n) if n > 1 else 0.0
    return Estimate(value, max(0.0, value - half), value + half, n)


def _bootstrap(values: Sequence[float]) -> Estimate:
    """Mean with the 2.5 and 97.5 percentiles of the means of resampled problems (Efron 1979)."""
    x_N = np.asarray(values, dtype=np.float64)
    rng, n = np.random.Generator(np.random.PCG64(_SEED)), len(values)
    chunk = max(1, 2_000_000 // n)  # so many resamples at a time keep the index below 16 MB
    means_R = np.concatenate(
        [x_N[rng.integers(0, n, (min(chunk, RESAMPLES - at), n))].mean(1) for at in range(0, RESAMPLES, chunk)]
    )
    low, high = np.quantile(means_R, (0.025, 0.975))
    return Estimate(fmean(values), float(low), float(high), n)


def _share(e: Mapping[str, float]) -> str:
    return f"{100 * e['value']:.1f} [{100 * e['low']:.0f}, {100 * e['high']:.0f}]"


def _span(e: Mapping[str, float], unit: str, times: float = 1) -> str:
    return f"{times * e['value']:+.1f} {unit} [{times * e['low']:+.1f}, {times * e['high']:+.1f}]"
