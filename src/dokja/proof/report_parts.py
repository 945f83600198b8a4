"""The sections of the report that are figures and tables: headline, road, data, recipe, environment."""

from __future__ import annotations

import json
from typing import Any

from dokja.proof.figures import NONE, Both, count, duration, interval, percent, points, power, size
from dokja.proof.report_html import both, definitions, details, section, table, text
from dokja.proof.report_read import Run
from dokja.proof.strings import say, stage_name


def lede(run: Run) -> Both:
    """What this is, in one sentence, from whatever is known."""
    nothing = Both("", "")
    tokens, seconds, cores = run.training_tokens, run.total("seconds"), run.environment.get("cores")
    return say(
        "lede_base" if run.recipe.get("init") else "lede",
        parameters=say("lede_parameters", n=count(run.parameters)) if run.parameters else nothing,
        tokens=say("lede_tokens", n=count(tokens)) if tokens else nothing,
        time=say("lede_time", t=duration(seconds)) if seconds else nothing,
        machine=say("lede_machine", n=cores) if isinstance(cores, int) else nothing,
    )


def headline(run: Run) -> str:
    """The figures one asks for first, as cards."""
    head = run.summary.get("headline") or {}
    cards = []
    for mode in ("think", "direct"):
        if e := head.get(mode):
            note = say("pass1_note", ci=interval(e["low"], e["high"]))
            cards.append(_card(say(mode), percent(e["value"]), note, mode))
    if e := head.get("gap_needs_steps"):
        cards.append(_card(say("gap"), points(e["value"]), say("gap_note")))
    if e := (head.get("ko_minus_en") or {}).get("think"):
        cards.append(_card(say("ko_minus_en"), points(e["value"]), say("ko_minus_en_note")))
    if head.get("answers"):
        wrong, answers = head.get("wrong_mode", 0), f"{head['answers']:,}"
        note = say("wrong_mode_note", n=answers)
        cards.append(_card(say("wrong_mode"), f"{wrong:,}", note, "bad" if wrong else ""))
    seconds, flops = run.total("seconds"), _flops(run)
    if seconds:
        cards.append(_card(say("wall"), duration(seconds), say("wall_note")))
    if flops:
        cards.append(_card(say("compute"), power(flops), say("compute_note")))
    if run.peak_memory:
        cards.append(_card(say("memory"), size(run.peak_memory), say("memory_note")))
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def road(run: Run) -> str:
    """The table of stages and what they cost."""
    names = ("stage", "tokens", "flops", "attention", "time", "rate", "memory", "attempts")
    rows: list[list[Both | str]] = []
    for stage in run.stages:
        cost = stage.cost
        rate = cost["tokens"] / cost["seconds"] if cost.get("tokens") and cost.get("seconds") else None
        rows.append([stage_name(stage.name), *_costs(cost), count(rate), size(cost.get("peak_memory_bytes")),
                     str(stage.attempts) if stage.attempts is not None else NONE])  # fmt: skip
    sums = {key: run.total(key) for key in ("flops_6nd", "flops_attention", "seconds")}
    foot: list[Both | str] = [say("total"), "", *_costs(sums)[1:], "", size(run.peak_memory), ""]
    return section(
        "road", say("road"), say("road_lede"), table([say(n) for n in names], rows, foot if len(rows) > 1 else ())
    )


def data(run: Run) -> str:
    """What was read: documents, tokens and bytes by source; bytes per token and bits per byte by language."""
    rows: list[list[Both | str]] = [
        [
            str(d["name"]),
            count(d.get("documents")),
            count(d.get("tokens")),
            size(d.get("utf8_bytes") or None),
            _ratio(d),
        ]
        for d in run.data
    ]
    head = [say(k) for k in ("source", "documents", "tokens", "bytes", "bytes_per_token")]
    parts = [table(head, rows)]
    if run.bytes_per_token:
        pairs = [(_language(k), f"{v:.2f}") for k, v in run.bytes_per_token.items()]
        parts.append(f"<h3>{both(say('tokenizer_by_language'))}</h3>{definitions(pairs)}")
    if run.heldout:
        baselines = list(dict.fromkeys(name for h in run.heldout for name in h["baselines"]))
        columns = [*map(say, ("source", "language", "bytes", "this_model")), *map(Both.same, baselines)]
        lines: list[list[Both | str]] = []
        for h in run.heldout:
            figures = (_bits(v) for v in (h["bits_per_byte"], *(h["baselines"].get(b) for b in baselines)))
            lines.append([_source(h["name"]), _language(h["language"]), size(h["bytes"]), *figures])
        parts.append(f"<h3>{both(say('heldout'))}</h3>{table(columns, lines, left=2)}")
    return section("data", say("data"), None, *parts)


def recipe(run: Run) -> str:
    """The resolved recipe, section by section, and where derived values come from."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in _flatten(run.recipe):
        place, _, name = key.rpartition(".")
        groups.setdefault(place, []).append((name, value))
    blocks = [f"<div><h3>{text(k or 'recipe')}</h3>{definitions(v)}</div>" for k, v in groups.items()]
    body = f'<div class="recipe">{"".join(blocks)}</div>' if blocks else ""
    rows = [[str(d.get("key", "")), _plain(d.get("value")), str(d.get("formula", ""))] for d in run.derived]
    derived = details(say("derived"), table([say("key"), say("value"), say("formula")], rows, left=3))
    return section("recipe", say("recipe"), say("recipe_lede"), body, derived)


def environment(run: Run) -> str:
    """Machine and versions, and the head of the ledger."""
    pairs: list[tuple[Both | str, Both | str]] = []
    for key, value in run.environment.items():
        plain = size(value) if key.endswith("memory_bytes") and isinstance(value, int) else _plain(value)
        pairs.append((key.removesuffix("_bytes").replace("_", " "), plain))
    proof = ""
    if run.ledger_head:
        state = both(say("ledger_holds"))
        if run.ledger_problems:
            items = "".join(f"<li>{text(p)}</li>" for p in run.ledger_problems[:5])
            state = f"{both(say('ledger_broken'))}<ul>{items}</ul>"
        sentence = both(say("ledger", n=f"{run.ledger_entries:,}"))
        proof = (
            f'<h3>{both(say("proof"))}</h3><p>{sentence}</p><code class="hash">{text(run.ledger_head)}</code>'
            f'<div class="soft">{state}</div>'
        )
    notes = "".join(f"<li>{text(n)}</li>" for n in run.notes)
    unread = f"<h3>{both(say('notes'))}</h3><ul>{notes}</ul>" if notes else ""
    return section("environment", say("environment"), None, definitions(pairs), proof, unread)


def _card(name: Both, figure: Both | str, note: Both, css: str = "") -> str:
    return (
        f'<div class="card {css}"><div class="name">{both(name)}</div>'
        f'<div class="big">{both(figure)}</div><div class="note">{both(note)}</div></div>'
    )


def _costs(cost: dict[str, Any]) -> list[Both | str]:
    flops = (power(cost.get(key) or None) for key in ("flops_6nd", "flops_attention"))
    return [count(cost.get("tokens") or None), *flops, duration(cost.get("seconds"))]


def _flops(run: Run) -> float:
    return (run.total("flops_6nd") or 0) + (run.total("flops_attention") or 0)


def _flatten(value: Any, place: str = "") -> list[tuple[str, str]]:
    if isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
        value = {str(i): v for i, v in enumerate(value)}
    if not isinstance(value, dict):
        return [] if value is None else [(place, _plain(value))]
    scalars = [(k, v) for k, v in value.items() if not isinstance(v, dict)]
    nested = [(k, v) for k, v in value.items() if isinstance(v, dict)]
    return [pair for k, v in (*scalars, *nested) for pair in _flatten(v, f"{place}.{k}" if place else str(k))]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _source(name: str) -> Both:
    return say("all_sources") if name == "*" else Both.same(name)


def _language(code: str) -> Both:
    return say(code) if code in ("ko", "en") else Both.same(code)


def _bits(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else NONE


def _ratio(shards: dict[str, Any]) -> str:
    tokens, size_ = shards.get("tokens"), shards.get("utf8_bytes")
    return f"{size_ / tokens:.2f}" if tokens and size_ else NONE
