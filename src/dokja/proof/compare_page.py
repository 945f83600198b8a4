"""compare.html: two or more judged models side by side, bars by family with the reliability of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dokja.judge.compare import Bar, Change, CompareRow, Comparison, Side
from dokja.judge.stats import Estimate
from dokja.ledger.atomic import write_atomic
from dokja.proof import plots_bars
from dokja.proof.figures import NONE, Both, count, interval, percent, percent_tick, points, short
from dokja.proof.page import document
from dokja.proof.plots_bars import bar_track, difference_track
from dokja.proof.plots_scatter import Spot, scatter
from dokja.proof.report_curves import framed, grid
from dokja.proof.report_html import Cell, both, details, section, table
from dokja.proof.strings import say
from dokja.text.chat import MODES

COLOURS = ("t", "d", "g", "f")
"""CSS classes of the models in their order; a fifth begins anew."""
STYLES = ("report.css", "compare.css")
FAULTS = ("truncated", "unparseable", "refused", "grader_failed")


def write_comparison(comparison: Comparison, out: str | Path, language: str = "en") -> Path:
    """Write the page to `out` (a file, or a folder that gets compare.html); returns the file's path."""
    out = Path(out)
    file = out if out.suffix == ".html" else out / "compare.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, page(comparison, language).encode("utf-8"))
    return file


def page(comparison: Comparison, language: str = "en") -> str:
    """The whole document."""
    first, *others = comparison.sides
    if len(others) == 1:
        title = Both.same(f"{first.name} · {others[0].name}")
        sentences = [_sentence(row, first, others[0]) for row in comparison.rows if row.kind == "all"]
    else:
        title = say("cmp_many", n=str(len(comparison.sides)))
        sentences = [Both.same(" · ".join(side.name for side in comparison.sides))]
    ledes = [f'<p class="lede">{both(sentence)}</p>' for sentence in sentences]
    notes = "".join(f"<li>{both(say(f'cmp_note_{key}', details=words))}</li>" for key, words in comparison.notes)
    warning = f'<aside class="notes"><h3>{both(say("cmp_notes"))}</h3><ul>{notes}</ul></aside>' if notes else ""
    parts = [warning, bars(comparison), spent(comparison)]
    return document(title, say("cmp_kicker"), "".join(ledes), parts, say("cmp_footer"), language, styles=STYLES)


def bars(comparison: Comparison) -> str:
    """By mode: a bar for each model and family, the difference, and how sure they are."""
    reach = max(
        (abs(v) for row in comparison.rows for c in row.changes for v in (c.difference.low, c.difference.high)),
        default=0.0,
    )
    reach = max(0.05, min(1.0, reach))
    out = [_legend(comparison.sides)]
    for mode in MODES:
        rows = [r for r in comparison.rows if r.mode == mode]
        if not rows:
            continue
        tasks = sorted((r for r in rows if r.kind == "task"), key=lambda r: r.name or "")
        shown = [*(r for r in rows if r.kind != "task"), *(tasks if len(tasks) > 1 else ())]
        scale = "".join(f"<span>{part}</span>" for part in ("0", "100 %"))
        ends = "".join(f"<span>{part}</span>" for part in (points(-reach), "0", points(reach)))
        head = (
            f'<div class="head"></div><div class="head scale">{scale}</div><div class="head"></div>'
            f'<div class="head scale">{ends}</div><div class="head pad">{both(say("cmp_difference"))}</div>'
            f'<div class="head pad">{both(say("cmp_reliability"))}</div>'
        )
        body = "".join(_row(row, comparison.sides, reach) for row in shown)
        out.append(f'<h3>{both(say(mode))}</h3><div class="versus">{head}{body}</div>')
    lede = say("cmp_bars_lede", a=comparison.sides[0].name)
    method = f'<p class="soft small">{both(say("cmp_method"))}</p>'
    return section("bars", say("cmp_bars"), lede, *out, method, details(say("cmp_table"), _figures(comparison)))


def spent(comparison: Comparison) -> str:
    """Score against size, tokens, time and cost: those of which two different values are known."""
    formats: dict[str, Callable[[float], str]] = {"parameters": lambda v: count(v).en}
    charts = []
    for key in ("parameters", "tokens", "seconds", "cost"):
        spots = []
        for n, side in enumerate(comparison.sides):
            for mode in MODES:
                row = next((r for r in comparison.rows if (r.kind, r.mode) == ("all", mode)), None)
                x = side.spent(mode)[key] if row else None
                if row and x:
                    e = row.bars[n].score
                    spots.append(Spot(x, e.value, e.low, e.high, _colour(n), side.name, hollow=mode == "direct"))
        title = say(f"cmp_{key}")
        svg = scatter(spots, title.en, formats.get(key, short), percent_tick, 220)
        charts += [framed(title, svg, [])] if svg else []
    inside = _legend(comparison.sides) + grid(charts) if charts else ""
    return section("spent", say("cmp_spent"), say("cmp_spent_lede"), inside)


def _legend(sides: Sequence[Side]) -> str:
    names = (f'<span class="{_colour(n)}"><i></i><span>{both(s.name)}</span></span>' for n, s in enumerate(sides))
    return f'<div class="legend many">{"".join(names)}</div>'


def _figures(comparison: Comparison) -> str:
    """Every figure as a table."""
    names = ("mode", "family", "problems")
    head = [*map(say, names), *(Both.same(s.name) for s in comparison.sides)]
    for side in comparison.sides[1:]:
        head += [say("cmp_change", a=comparison.sides[0].name, b=side.name), say("cmp_gained_lost"), say("cmp_p")]
    rows: list[list[Cell]] = []
    for row in comparison.rows:
        cells: list[Cell] = [say(row.mode), _name(row), f"{row.problems} × {row.repeats:g}"]
        cells += [(percent(b.score.value), interval(b.score.low, b.score.high)) for b in row.bars]
        for c in row.changes:
            e = c.difference
            cells.append((points(e.value), _between(e)))
            cells += [f"{c.gained} / {c.lost}", _p(c.adjusted_p)]
        rows.append(cells)
    return table(head, rows, left=2)


def _sentence(row: CompareRow, first: Side, side: Side) -> Both:
    e = row.changes[0].difference
    return say(
        "cmp_lede",
        mode=say(row.mode),
        n=f"{row.problems:,}",
        a=first.name,
        b=side.name,
        share=percent(row.bars[1].score.value),
        first=percent(row.bars[0].score.value),
        change=points(e.value),
        interval=_between(e),
    )


def _row(row: CompareRow, sides: Sequence[Side], reach: float) -> str:
    name = _name(row)
    marks = [
        plots_bars.Bar(b.score.value, b.score.low, b.score.high, _colour(n), _spoken(sides[n].name, b))
        for n, b in enumerate(row.bars)
    ]
    changes = [
        plots_bars.Bar(e.value, e.low, e.high, _colour(n + 1), f"{points(e.value)} {_between(e)}")
        for n, e in enumerate(c.difference for c in row.changes)
    ]
    values = "".join(f'<span class="{_colour(n)}">{percent(b.score.value)}</span>' for n, b in enumerate(row.bars))
    verdicts = "".join(
        f'<span class="{_tone(c)}">{points(c.difference.value)} <small>{both(say(f"cmp_{c.verdict}"))}</small></span>'
        for c in row.changes
    )
    label = f"{name.en}: " + "; ".join(m.title for m in marks)
    css = "all" if row.kind == "all" else ""
    return (
        f'<div class="family {css}"><span>{both(name)}</span></div>'
        f'<div class="track">{bar_track(marks, label)}</div><div class="figures">{values}</div>'
        f'<div class="track">{difference_track(changes, reach, label)}</div><div class="verdicts">{verdicts}</div>'
        f'<div class="sure">{_sure(row, sides)}</div>'
    )


def _sure(row: CompareRow, sides: Sequence[Side]) -> str:
    """Problems and repeats, what the row could show, and what went wrong beside being wrong."""
    lines = [say("cmp_problems", n=f"{row.problems:,}", repeats=f"{row.repeats:g}")]
    lines += [say("cmp_detectable", points=f"{100 * max(c.detectable for c in row.changes):.1f}")]
    for side, bar in zip(sides, row.bars, strict=True):
        faults = [say(f"cmp_{name}", n=str(getattr(bar, name))) for name in FAULTS if getattr(bar, name)]
        if faults:
            en, ko = ", ".join(f.en for f in faults), ", ".join(f.ko for f in faults)
            lines.append(Both(f"{side.name}: {en}", f"{side.name}: {ko}"))
    return "".join(f"<span>{both(line)}</span>" for line in lines)


def _name(row: CompareRow) -> Both:
    if row.name is None:
        return say("cmp_all")
    known = row.kind == "language" and row.name in ("ko", "en")
    return say(row.name) if known else Both.same(row.name.replace("_", " "))


def _spoken(name: str, bar: Bar) -> str:
    return f"{name} {percent(bar.score.value)} {interval(bar.score.low, bar.score.high)}"


def _between(e: Estimate) -> str:
    return f"[{points(e.low)}, {points(e.high)}]"


def _p(p: float) -> str:
    return NONE if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _tone(change: Change) -> str:
    return {"better": "good", "worse": "bad"}.get(change.verdict, "")


def _colour(n: int) -> str:
    return COLOURS[n % len(COLOURS)]
