"""What judging leaves: records in a folder, and what they add up to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dokja.judge.answering import Answerer, Item
from dokja.judge.endpoint.description import Endpoint, Prices
from dokja.judge.endpoint.judging import JudgingModel, judged_by
from dokja.judge.endpoint.spending import Limits, Spending
from dokja.judge.records import RECORDS, Record, read_records
from dokja.judge.runner import run_suite
from dokja.judge.settings import settings_of
from dokja.judge.suite import Suite, needs_steps
from dokja.judge.table import Summary, summarise, write_summary
from dokja.ledger.progress import Progress


@dataclass(frozen=True)
class Judged:
    """What judging left: the folder, its records in the suite's order, and what they add up to."""

    folder: Path
    records: list[Record]
    summary: Summary


def judge_items(
    suite: Suite,
    items: Sequence[Item],
    make: Callable[[Spending], Answerer],
    folder: Path,
    *,
    seed: int,
    settings: Mapping[str, Any],
    limits: Limits | None = None,
    prices: Prices | None = None,
    judge: Endpoint | None = None,
    log_path: Path | None = None,
) -> Judged:
    """Ask, grade, record and count. `make` gives who answers, `judge` judges what no rule can, `prices` are those of
    who answers. What earlier sittings spent counts towards `limits` of cost and tokens."""
    spending = Spending(limits or Limits())
    answerer = make(spending)
    model = JudgingModel(judge, spending) if judge is not None else None
    there = read_records(folder) if (folder / RECORDS).exists() else []
    for record in there:
        spending.add(record.usage, prices)
        if record.judge is not None:
            spending.add(record.judge.usage, judge.prices if judge else None)
    with (
        judged_by(model, suite.problems),
        Progress(len(items), "judge", log_path, start=min(len(there), len(items))) as p,
    ):
        if model is None:
            records = run_suite(items, answerer, folder, seed=seed, progress=p)
        else:
            with model:
                records = run_suite(items, answerer, folder, seed=seed, progress=p)
    facts = {
        "suite_sha256": suite.sha256,
        "tasks": list(dict.fromkeys(p.task for p in suite.problems)),
        **settings,
        "seed": seed,
        **settings_of(items),
        **({"judge_model": judge.url} if judge else {}),
    }
    summary = summarise(records, needs_steps(), facts, prices)
    write_summary(folder, summary)
    return Judged(folder, records, summary)


def folder_name(text: str) -> str:
    """A name as a folder may have it."""
    return re.sub(r"[^\w.\-]+", "-", text).strip("-.") or "model"
