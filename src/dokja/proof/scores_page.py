"""scores.html: the published scores to browse, each number with who measured it, and what was said about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dokja.judge.claims import Claim, claims
from dokja.judge.published import Figure, Model, Row, Table, measured_by, odd_vote, published
from dokja.ledger.atomic import write_atomic
from dokja.proof.figures import NONE, Both, count, percent_tick, short
from dokja.proof.page import document
from dokja.proof.plots_scatter import Spot, scatter
from dokja.proof.report_html import Cell, both, section, table, text
from dokja.proof.strings import say

STYLES = ("report.css", "compare.css")
SIZES = ("MMLU-Pro", "AIME 2025")
"""Benchmarks drawn against size; only of thinking models, from the tables named below."""
THINKING = ("exaone-4.0-32b-reasoning", "exaone-4.0-1.2b-reasoning", "k-exaone", "exaone-4.5-text")
_WIDTH = 900


def write_scores(tables: Sequence[Table], out: str | Path, language: str = "en") -> Path:
    """Write the page of `tables` to `out` (a file, or a folder that gets scores.html); returns the file's path."""
    out = Path(out)
    file = out if out.suffix == ".html" else out / "scores.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, page(tables, language).encode("utf-8"))
    return file


def page(tables: Sequence[Table], language: str = "en") -> str:
    """The whole document; claims, sizes and figures outside of tables where all tables are shown."""
    whole = tuple(tables) == published().tables
    n = sum(value is not None for t in tables for row in t.rows for value in row.values)
    lede = f'<p class="lede">{both(say("pub_lede", n=f"{n:,}"))}</p><p class="soft">{both(say("pub_own"))}</p>'
    parts = [_claims(claims()), _sizes()] if whole else []
    parts += [_table(t) for t in tables]
    parts += [_figures(published().figures)] if whole else []
    return document(say("pub_title"), say("pub_kicker"), lede, parts, say("pub_footer"), language, styles=STYLES)


def _claims(found: Sequence[Claim]) -> str:
    out = []
    for claim in sorted(found, key=lambda c: c.verdict == "holds"):
        css = "holds" if claim.verdict == "holds" else "no" if claim.verdict == "contradicted" else "unsure"
        wrong = [fact for fact in claim.facts if not fact.agrees]
        lines = []
        for fact in wrong:
            has = NONE if fact.published is None else short(fact.published)
            lines.append(say("pub_table_says", what=fact.what, said=short(fact.said), published=has))
            lines += [say("pub_same_as", said=short(fact.said), row=row) for row in fact.same_as]
        lines += [Both(claim.note_en, claim.note_ko)] if claim.note_en else []
        details = "".join(f"<small>{both(line)}</small>" for line in lines)
        said_by = both(Both(claim.by, claim.by_ko))
        out.append(
            f'<div><span class="verdict {css}">{both(say(f"pub_{claim.verdict}"))}</span>'
            f"<div><p>{both(Both(claim.en, claim.ko))} <small>{said_by}</small></p>{details}</div></div>"
        )
    return section("claims", say("pub_claims"), say("pub_claims_lede"), f'<div class="claims">{"".join(out)}</div>')


def _sizes() -> str:
    charts = []
    for benchmark in SIZES:
        spots: dict[tuple[float, float, str], Spot] = {}
        for name in THINKING:
            t = published().table(name)
            for row in (r for r in t.rows if r.benchmark == benchmark):
                for model, value in zip(t.models, row.values, strict=True):
                    if value is not None and model.total:
                        share, css = value / row.scale, "t" if model.own else "other"
                        name = re.sub(r" \(Reasoning.*\)| Thinking$", "", model.name)
                        spot = Spot(model.total, share, share, share, css, name)
                        there = spots.setdefault((model.total, value, css), spot)
                        # Of the publisher's own, one size with one score is one model under two names.
                        if not model.own and name not in there.name:
                            spots[model.total, value, css] = replace(there, name=f"{there.name} · {name}")
        svg = scatter(list(spots.values()), benchmark, lambda v: count(v).en, percent_tick, 480, _WIDTH)
        charts.append(f"<h3>{text(benchmark)}</h3>{svg}" if svg else "")
    return section("sizes", say("pub_size"), say("pub_size_lede"), *charts)


def _table(t: Table) -> str:
    head = "".join(f"<th>{text(m.name)}{_size(m)}</th>" for m in t.models)
    body, category, odd = [], None, 0
    for row in t.rows:
        if row.category and row.category != category:
            category = row.category
            body.append(f'<tr class="group"><td colspan="{len(t.models) + 1}">{text(category)}</td></tr>')
        name = row.benchmark + (f", {row.metric}" if row.metric != "score" else "")
        scale = f" <small>{both(say('pub_of_ten'))}</small>" if row.scale == 10 else ""
        cells = "".join(_cell(t, row, i) for i in range(len(t.models)))
        odd += sum(odd_vote(row, value) for value in row.values)
        body.append(f'<tr><td class="left">{text(name)}{scale}</td>{cells}</tr>')
    inside = (
        f'<div class="wide"><table class="scores"><thead><tr><th class="left">{both(say("pub_benchmark"))}</th>{head}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
    note = f'<p class="soft small">{both(say("pub_odd", n="30"))}</p>' if odd else ""
    lede = Both(f"{t.publisher} · {t.source}", f"{t.publisher_ko} · {t.source_ko}")
    return section(t.id, Both(t.en, t.ko), lede, inside, note)


def _cell(t: Table, row: Row, at: int) -> str:
    value, model = row.values[at], t.models[at]
    if value is None:
        return f"<td>{NONE}</td>"
    mark = "†" if odd_vote(row, value) else ""
    digits = 2 if row.scale == 10 else 1
    css = "own" if model.own else "other"
    return f'<td class="{css}" title="{text(measured_by(t, model))}">{value:.{digits}f}{mark}</td>'


def _size(model: Model) -> str:
    if not model.total:
        return ""
    active = f" · {count(model.active).en}" if model.active and model.active != model.total else ""
    return f"<small>{text(count(model.total).en)}{text(active)}</small>"


def _figures(figures: Sequence[Figure]) -> str:
    rows: list[list[Cell]] = [
        [
            f.model,
            Both(f.en, f.ko),
            Both(f"{short(f.value)} {f.unit}", f"{short(f.value)} {f.unit_ko}"),
            (Both(f.by, f.by_ko), Both(f.source, f.source_ko)),
        ]
        for f in figures
    ]
    head = [say("pub_model"), say("pub_figure"), say("pub_value"), say("pub_measured_by")]
    return section("figures", say("pub_elsewhere"), None, table(head, rows, left=2))
