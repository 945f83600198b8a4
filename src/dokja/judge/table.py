"""From records to tables: the headline, rows by family, language, level and mode; on the terminal and in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dokja.judge.endpoint.description import Prices
from dokja.judge.records import Record
from dokja.judge.speed import Speed
from dokja.judge.spent import speed_of
from dokja.judge.stats import Estimate, difference, mean_over_problems, paired_difference, pass_at_k, pass_hat_k
from dokja.judge.votes import cons_at_k, votes_of
from dokja.ledger.atomic import write_atomic
from dokja.text.chat import MODES, Mode

SUMMARY = "summary.json"
GROUPS: dict[str, tuple[str, ...]] = {
    "overall": ("mode",),
    "language": ("language", "mode"),
    "task": ("task", "mode"),
    "cell": ("task", "language", "mode"),
    "level": ("task", "level", "mode"),
}

_FAULTS = ("truncated", "unparseable", "refused", "grader_failed")


@dataclass(frozen=True)
class Row:
    """One group of answers. A field that does not tell this group from others is None; counts are of answers."""

    mode: Mode
    task: str | None
    language: str | None
    level: int | None
    problems: int
    answers: int
    score: Estimate
    pass_at: dict[int, float]
    pass_hat: dict[int, float]
    cons_at: dict[int, float]
    """Majority votes of k answers; leaders that tie share the point (`votes`)."""
    truncated: int
    unparseable: int
    refused: int
    grader_failed: int
    forced: int
    wrong_mode: int
    thought_tokens: float
    completion_tokens: float
    """of an answer, thought included, as are the means above and below"""
    prompt_tokens: float
    seconds: float
    """of the request that brought an answer; NaN where no endpoint was asked"""
    cost: float
    """of all these answers, judging models aside; NaN without prices"""
    speed: Speed | None
    """where answers were streamed"""


@dataclass(frozen=True)
class Headline:
    """The figures a reader asks for first. `None` where the records hold no such comparison."""

    think: Estimate | None
    direct: Estimate | None
    gap_needs_steps: Estimate | None
    ko_minus_en: dict[Mode, Estimate]
    wrong_mode: int
    answers: int


@dataclass(frozen=True)
class Summary:
    """Everything counted; `rows` by the names of `GROUPS`."""

    headline: Headline
    rows: dict[str, list[Row]]
    model: str
    model_sha256: str
    template_sha256: str
    grader_version: str
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON values only: NaN (a pass@k with too few answers) becomes null."""
        return _finite(asdict(self))


def summarise(
    records: Sequence[Record],
    needs_steps: Collection[str] = (),
    settings: Mapping[str, Any] | None = None,
    prices: Prices | None = None,
) -> Summary:
    """Count `records` of one model and suite; `needs_steps` names the families of the gap, `prices` are the endpoint's.
    ValueError if empty."""
    if not records:
        raise ValueError("there are no records to summarise")
    first = records[0]
    return Summary(
        headline=headline(records, needs_steps),
        rows={name: rows_by(records, fields, prices) for name, fields in GROUPS.items()},
        model=first.model,
        model_sha256=first.model_sha256,
        template_sha256=first.template_sha256,
        grader_version=first.grader_version,
        settings={**(settings or {}), "needs_steps": sorted(needs_steps)},
    )


def headline(records: Sequence[Record], needs_steps: Collection[str]) -> Headline:
    """Overall score by mode; thinking minus at once where steps are needed (paired); Korean minus English by mode."""
    by_mode = {m: _scores(r for r in records if r.mode == m) for m in MODES}
    overall = {m: mean_over_problems(list(s.values())) if s else None for m, s in by_mode.items()}
    hungry = [key for key in by_mode["think"] if key[0] in needs_steps and key in by_mode["direct"]]
    gap = None
    if hungry:
        gap = paired_difference([by_mode["think"][k] for k in hungry], [by_mode["direct"][k] for k in hungry])
    languages = {}
    for mode in MODES:
        ko, en = (_scores(r for r in records if r.mode == mode and r.language == lang) for lang in ("ko", "en"))
        if ko and en:
            languages[mode] = difference(mean_over_problems(list(ko.values())), mean_over_problems(list(en.values())))
    return Headline(
        think=overall["think"],
        direct=overall["direct"],
        gap_needs_steps=gap,
        ko_minus_en=languages,
        wrong_mode=sum(r.wrong_mode for r in records),
        answers=len(records),
    )


def rows_by(records: Iterable[Record], fields: Sequence[str], prices: Prices | None = None) -> list[Row]:
    """One row for each combination of `fields` that occurs, in the order of its first record."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(getattr(record, f) for f in fields), []).append(record)
    return [_row(dict(zip(fields, values, strict=True)), group, prices) for values, group in groups.items()]


def write_summary(folder: str | Path, summary: Summary) -> Path:
    """Write `summary.json` of a judged folder, atomically; returns its path."""
    path = Path(folder) / SUMMARY
    text = json.dumps(summary.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())
    return path


def print_table(summary: Summary, console: Console | None = None) -> None:
    """Print pass@1 by family, language and mode with 95 % intervals, beside it the answers that could not be graded on
    their merits, and the headline."""
    console = console or Console()
    tasks = list(dict.fromkeys(r.task or "" for r in summary.rows["task"]))
    spoken = {task: {r.language for r in summary.rows["cell"] if r.task == task} for task in tasks}
    languages: list[str | None] = list(dict.fromkeys(r.language for r in summary.rows["language"]))
    if all(len(told) == 1 for told in spoken.values()):  # tasks of one language each need one column for it
        languages = [None]
    modes = [mode for mode in MODES if any(r.mode == mode for r in summary.rows["overall"])]
    columns = [(language, mode) for language in languages for mode in modes]
    pack = shared_pack(tasks)
    title = f"{summary.model}{f', {pack}' if pack else ''}: pass@1 in %, 95 % intervals"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("task" if pack else "family", no_wrap=True)
    for language, mode in columns:
        table.add_column(f"{language} {mode}" if language else mode, justify="right", no_wrap=True)
    faults = [name for name in _FAULTS if any(getattr(r, name) for r in summary.rows["overall"])]
    for fault in faults:
        table.add_column(fault.replace("_", " "), justify="right")
    kinds = ("cell", "language") if languages != [None] else ("task", "overall")
    rows = {(r.task, r.language, r.mode): r for kind in kinds for r in summary.rows[kind]}

    def add(name: str, task: str | None, style: str = "") -> None:
        cells = [_cell(rows[key].score) if (key := (task, *column)) in rows else "–" for column in columns]
        mine = [r for r in summary.rows["task" if task else "overall"] if r.task == task]
        counts = [str(sum(getattr(r, fault) for r in mine)) for fault in faults]
        table.add_row(escape(name), *cells, *counts, style=style)

    for task in tasks:
        add(task.removeprefix(f"{pack}/") if pack else task, task)
    table.add_section()
    add("all", None, "bold")
    console.print(table)
    console.print(headline_sentence(summary.headline), markup=False, highlight=False)
    if counted := _faults(summary.rows["overall"]):
        console.print(f"Of these answers: {counted}.", markup=False, highlight=False)


def shared_pack(tasks: Sequence[str]) -> str | None:
    """The one pack that all these tasks are of."""
    packs = {task.partition("/")[0] for task in tasks}
    return packs.pop() if len(packs) == 1 and all("/" in task for task in tasks) else None


def headline_sentence(head: Headline) -> str:
    """The headline in one line of words."""
    parts = []
    if head.think:
        parts.append(f"thinking {_figure(head.think)}")
    if head.direct:
        parts.append(f"at once {_figure(head.direct)}")
    if head.gap_needs_steps:
        gap = head.gap_needs_steps
        parts.append(f"gap where steps are needed {_points(gap)}")
    parts += [f"ko − en ({mode}) {_points(e)}" for mode, e in head.ko_minus_en.items()]
    parts.append(f"{head.wrong_mode} of {head.answers} answers in the wrong mode")
    return "; ".join(parts) + "."


def _row(fields: dict[str, Any], records: list[Record], prices: Prices | None) -> Row:
    scores = list(_scores(records).values())
    counts = [(len(s), sum(x == 1.0 for x in s)) for s in scores]
    ks = _powers(min(n for n, _ in counts))
    by_problem: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        by_problem.setdefault((record.task, record.problem_id), []).append(record)
    used = [r.usage for r in records]
    timed = [r.times.seconds for r in records if r.times]
    ballots = [votes_of(answers) for answers in by_problem.values()]

    def mean_of(formula: Callable[[int, int, int], float]) -> dict[int, float]:
        return {k: fmean(formula(n, c, k) for n, c in counts) for k in ks}

    return Row(
        mode=fields["mode"],
        task=fields.get("task"),
        language=fields.get("language"),
        level=fields.get("level"),
        problems=len(scores),
        answers=len(records),
        score=mean_over_problems(scores),
        pass_at=mean_of(pass_at_k),
        pass_hat=mean_of(pass_hat_k),
        cons_at={k: fmean(cons_at_k(*votes, k) for votes in ballots) for k in ks},
        truncated=sum(r.reason == "truncated" for r in records),
        unparseable=sum(r.reason == "unparseable" for r in records),
        refused=sum(r.reason == "refused" for r in records),
        grader_failed=sum(r.reason == "grader_failed" for r in records),
        forced=sum(r.forced for r in records),
        wrong_mode=sum(r.wrong_mode for r in records),
        thought_tokens=fmean(r.usage.reasoning_tokens for r in records),
        completion_tokens=fmean(r.usage.completion_tokens for r in records),
        prompt_tokens=fmean(r.usage.prompt_tokens for r in records),
        seconds=fmean(timed) if timed else math.nan,
        cost=math.fsum(prices.of(u.prompt_tokens, u.completion_tokens, u.cached_tokens) for u in used)
        if prices
        else math.nan,
        speed=speed_of(records),
    )


def _scores(records: Iterable[Record]) -> dict[tuple[str, str], list[float]]:
    """Scores by problem, one per repeat; problems in the order of their first record."""
    out: dict[tuple[str, str], list[float]] = {}
    for record in records:
        out.setdefault((record.task, record.problem_id), []).append(record.score)
    return out


def _powers(n: int) -> list[int]:
    """1, 2, 4, ... up to n."""
    return [1 << i for i in range(n.bit_length())]


def _figure(e: Estimate) -> str:
    return f"{100 * e.value:.1f} % [{100 * e.low:.0f}, {100 * e.high:.0f}]"


def _points(e: Estimate) -> str:
    return f"{100 * e.value:+.1f} points [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"


def _cell(e: Estimate) -> str:
    return f"{100 * e.value:.0f} [{100 * e.low:.0f}, {100 * e.high:.0f}]"


def _faults(rows: Sequence[Row]) -> str:
    """Counts that explain a low score, only those which occur; the wrong mode is in the headline already."""
    found = {name: sum(getattr(r, name) for r in rows) for name in (*_FAULTS, "forced")}
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in found.items() if n)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
