"""The section that says what each stage of training changed: pass@1 and thought length, SFT -> preference -> RL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dokja.proof.figures import NONE, Both, percent, percent_tick, points, short, signed
from dokja.proof.plots_stages import Interval, Trail, stage_chart
from dokja.proof.report_curves import framed, grid
from dokja.proof.report_html import Cell, section, table
from dokja.proof.report_read import Run
from dokja.proof.strings import say, stage_name
from dokja.text.chat import MODES

LANGUAGES = ("ko", "en")


@dataclass(frozen=True)
class StageRow:
    """One stage in one mode and language (None: both), as far as `judge/stages.json` tells; shares are 0 to 1."""

    stage: str
    mode: str
    language: str | None
    score: Interval
    thought: Interval | None
    change: Interval | None
    """Difference of shares to the first stage."""
    thought_change: Interval | None
    gained: int
    lost: int


def stage_rows(run: Run) -> list[StageRow]:
    """The rows of the table by stage in the order of the road; what cannot be read as one is left out."""
    out = []
    for stage in _list(run.comparison.get("stages")):
        for row in _list(stage.get("rows")):
            score, language = _interval(row.get("score")), row.get("language")
            if score is None or row.get("mode") not in MODES or not isinstance(language, str | None):
                continue
            raw = row.get("difference")
            change: dict[str, Any] = raw if isinstance(raw, dict) else {}
            out.append(
                StageRow(
                    str(stage.get("stage")),
                    row["mode"],
                    language,
                    score,
                    _interval(row.get("thought_tokens")),
                    _interval(change.get("score")),
                    _interval(change.get("thought_tokens")),
                    _count(change.get("gained")),
                    _count(change.get("lost")),
                )
            )
    return out


def stages(run: Run) -> str:
    """Small charts by stage and the table; nothing where fewer than two stages were judged."""
    rows = stage_rows(run)
    names = list(dict.fromkeys(r.stage for r in rows))
    if len(names) < 2:
        return ""
    charts = [_chart(rows, names, mode, "score") for mode in MODES] + [_chart(rows, names, "think", "thought")]
    lede = say("stages_lede", first=short_name(names[0]))
    return section("stages", say("stages"), lede, grid(charts), _table(rows))


def short_name(stage: str) -> Both:
    """A stage's name where there is little room; folders of other names keep theirs."""
    return say(f"short_{stage}") if stage in ("sft", "preference", "rl") else stage_name(stage)


def _chart(rows: Sequence[StageRow], names: Sequence[str], mode: str, what: str) -> str:
    trails, legend = [], []
    for language, css in zip(LANGUAGES, ("c3", "c5"), strict=True):
        found = {r.stage: getattr(r, what) for r in rows if (r.mode, r.language) == (mode, language)}
        if any(found.values()):
            trails.append(Trail([found.get(name) for name in names], css, say(language).en))
            legend.append((css, say(language)))
    title = say("thought_length") if what == "thought" else say("stages_pass1", mode=say(mode))
    axis = short if what == "thought" else percent_tick
    svg = stage_chart(trails, [short_name(n) for n in names], title.en, axis)
    return framed(title, svg, legend) if svg else ""


def _table(rows: Sequence[StageRow]) -> str:
    head = [
        say("mode"), say("stage"), *map(say, LANGUAGES), say("both_languages"), say("thought_length"),
        say("change_points"), say("change_thought"),
    ]  # fmt: skip
    lines: list[list[Cell]] = []
    for mode in MODES:
        for stage in dict.fromkeys(r.stage for r in rows if r.mode == mode):
            of = {r.language: r for r in rows if (r.mode, r.stage) == (mode, stage)}
            whole = of.get(None)
            cells: list[Cell] = [_share(of[k].score) if k in of else NONE for k in (*LANGUAGES, None)]
            cells.append(_tokens(whole.thought) if whole and whole.thought else NONE)
            cells.append(_points(whole) if whole and whole.change else NONE)
            cells.append(_signed(whole.thought_change) if whole and whole.thought_change else NONE)
            lines.append([say(mode), short_name(stage), *cells])
    return table(head, lines, left=2)


def _share(e: Interval) -> Cell:
    return percent(e[0]), f"[{100 * e[1]:.1f}, {100 * e[2]:.1f}]"


def _tokens(e: Interval) -> Cell:
    return f"{e[0]:.1f}", f"[{e[1]:.1f}, {e[2]:.1f}]"


def _points(row: StageRow) -> Cell:
    assert row.change
    value, low, high = (points(v) for v in row.change)
    return f"{value} [{low}, {high}]", say("gained_lost", gained=row.gained, lost=row.lost)


def _signed(e: Interval) -> Cell:
    value, low, high = map(signed, e)
    return value, f"[{low}, {high}]"


def _interval(e: Any) -> Interval | None:
    """{value, low, high} as three finite numbers."""
    found = [e.get(k) for k in ("value", "low", "high")] if isinstance(e, dict) else []
    numbers = [float(v) for v in found if isinstance(v, int | float) and math.isfinite(v)]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _list(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
