"""The sections of the report that are the judge's: accuracy by family, language and mode, and samples of thinking."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from dokja.judge.records import Record
from dokja.proof.figures import NONE, Both, interval, percent
from dokja.proof.pictures import pictures
from dokja.proof.plots import Mark, interval_track
from dokja.proof.report_html import both, details, section, table, text
from dokja.proof.report_read import Run
from dokja.proof.report_sample import sample_card, verdict
from dokja.proof.strings import reason_name, say
from dokja.text.chat import MODES

Row = dict[str, Any]
_LANGUAGES = ("ko", "en")


def accuracy(run: Run) -> str:
    """A dot and an interval for each family, language and mode; the same as a table; pass@k where there are repeats."""
    rows = run.summary.get("rows") or {}
    cells = rows.get("cell") or []
    if not cells:
        return ""
    steps = set((run.summary.get("settings") or {}).get("needs_steps") or [])
    languages = [lang for lang in _LANGUAGES if any(c["language"] == lang for c in cells)]
    legend = (
        f'<div class="legend"><span class="t"><i></i><span>{both(say("think"))}</span></span>'
        f'<span class="d"><i></i><span>{both(say("direct"))}</span></span></div>'
    )
    head = ['<div class="head"></div>']
    for lang in languages:
        scale = "".join(f"<span>{part}</span>" for part in ("0", f"<b>{both(say(lang))}</b>", "100 %"))
        head.append(f'<div class="head scale">{scale}</div><div class="head"></div>')
    body = _family_row(say("all_families"), None, rows.get("language") or [], languages, "all")
    for family in _families(rows.get("task") or [], cells):
        mine = [c for c in cells if c["task"] == family]
        note = say("no_steps") if steps and family not in steps else None
        body += _family_row(Both.same(family.replace("_", " ")), note, mine, languages, "")
    chart = f'<div class="tracks" style="--columns:{len(languages)}">{"".join(head)}{body}</div>'
    full = details(say("as_table"), _cells_table(cells, rows.get("overall") or []))
    return section(
        "accuracy", say("accuracy"), say("accuracy_lede"), legend, chart, full, _tries(rows.get("overall") or [])
    )


def samples(run: Run, each: int = 2) -> str:
    """Up to `each` answers per mode, verdict and language; families differ as long as there are several."""
    body = []
    for mode in MODES:
        for good in (True, False):
            chosen = [
                _choose([r for r in run.records if (r.mode, r.language, r.score >= 1) == (mode, lang, good)], each)
                for lang in _LANGUAGES
            ]
            if any(chosen):
                title = f"{both(say(mode))} · {both(say('right' if good else 'wrong'))}"
                # one row per pair, so that Korean and English stand side by side
                pairs = [c[n] for n in range(each) for c in chosen if n < len(c)]
                body.append(f'<h3>{title}</h3><div class="samples">{"".join(map(_sample, pairs))}</div>')
    return section("samples", say("samples"), say("samples_lede"), *body)


def _families(tasks: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """Families by falling score in thinking mode, then by name."""
    score = {row["task"]: -row["score"]["value"] for row in tasks if row["mode"] == "think"}
    return sorted({c["task"] for c in cells}, key=lambda t: (score.get(t, 0.0), t))


def _family_row(name: Both, note: Both | None, rows: Sequence[Row], languages: Sequence[str], css: str) -> str:
    small = f"<small>{both(note)}</small>" if note else ""
    out = [f'<div class="family {css}"><span>{both(name)}</span>{small}</div>']
    for lang in languages:
        marks, figures = [], []
        for mode in MODES:
            row = next((r for r in rows if r["language"] == lang and r["mode"] == mode), None)
            if row is None:
                continue
            e, short = row["score"], mode[0]
            title = f"{percent(e['value'])} {interval(e['low'], e['high'])}, n = {row['problems']}"
            marks.append(Mark(e["value"], e["low"], e["high"], short, title, hollow=mode == "direct"))
            figures.append(f'<span class="{short}">{percent(e["value"], 0)}</span>')
        label = f"{name.en}, {lang}: " + "; ".join(m.title for m in marks)
        out.append(f'<div class="phone">{both(say(lang))}</div>')
        out.append(
            f'<div class="track">{interval_track(marks, label)}</div><div class="figures">{"".join(figures)}</div>'
        )
    return "".join(out)


def _cells_table(cells: Sequence[Row], overall: Sequence[Row]) -> str:
    names = ("family", "language", "mode", "problems", "pass1", "ci", "thought", "truncated", "unparseable", "forced")
    rows = [_figures(c) for c in sorted(cells, key=lambda c: (c["task"], c["language"] != "ko", c["mode"] != "think"))]
    rows += [_figures(row) for row in overall]
    return table([*map(say, names), say("wrong_mode_short")], rows, left=3)


def _figures(row: Row) -> list[Both | str]:
    e = row["score"]
    counts = (row.get(k) for k in ("truncated", "unparseable", "forced", "wrong_mode"))
    return [
        str(row["task"]).replace("_", " ") if row.get("task") else say("all_families"),
        say(row["language"]) if row.get("language") in _LANGUAGES else NONE,
        say(row["mode"]),
        str(row["problems"]),
        percent(e["value"]),
        interval(e["low"], e["high"]),
        f"{row['thought_tokens']:.0f}" if row["mode"] == "think" else NONE,
        *(NONE if n is None else str(n) for n in counts),
    ]


def _tries(overall: Sequence[Row]) -> str:
    """pass@k and pass^k by mode, where several answers per problem exist."""
    ks = list(dict.fromkeys(k for row in overall for k in row.get("pass_at") or {}))
    if len(ks) < 2:
        return ""
    rows: list[list[Both | str]] = [
        [say(row["mode"]), words, *(percent((row.get(key) or {}).get(k)) for k in ks)]
        for row in overall
        for key, words in (("pass_at", say("any_of_k")), ("cons_at", say("most_of_k")), ("pass_hat", say("all_of_k")))
        if row.get(key)
    ]
    head = [say("mode"), Both.same(""), *(Both.same(f"k = {k}") for k in ks)]
    return f"<h3>{both(say('more_tries'))}</h3>{table(head, rows, left=2)}"


def _choose(records: Sequence[Record], most: int) -> list[Record]:
    """The first `most` in hash order, each family once before any comes twice."""
    ordered = sorted(records, key=lambda r: hashlib.sha256("\t".join(map(str, r.key)).encode()).digest())
    first = {record.task: record for record in reversed(ordered)}
    ones = [r for r in ordered if first[r.task] is r]
    return [*ones, *(r for r in ordered if first[r.task] is not r)][:most]


def _sample(record: Record) -> str:
    good = record.score >= 1
    tags = [
        verdict(good, reason_name(record.reason)),
        (record.mode[0], both(say(record.mode))),
        ("", text(record.task.replace("_", " "))),
        ("", both(say("level", n=str(record.level)))),
        ("", both(say("n_tokens", n=f"{record.usage.completion_tokens:,}"))),
    ]
    tags += [("bad", both(say("tag_forced")))] if record.forced else []
    tags += [("bad", both(say("tag_wrong_mode")))] if record.wrong_mode else []
    expected = None if good else record.reference
    shown = pictures(record)
    return sample_card(tags, record.language, record.prompt, record.reasoning, record.answer, expected, (), shown)
