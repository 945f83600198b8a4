"""The sections of the report that are figures: headline, road, training curves, data, recipe, environment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dokja.proof.figures import NONE, Both, count, duration, interval, percent, points, power, short, size
from dokja.proof.plots import Series, line_chart, smooth
from dokja.proof.report_html import both, definitions, details, section, table, text
from dokja.proof.report_read import Run, Stage
from dokja.proof.strings import say, stage_name


def lede(run: Run) -> Both:
    """What this is, in one sentence, from whatever is known."""
    nothing = Both("", "")
    tokens, seconds, cores = run.training_tokens, run.total("seconds"), run.environment.get("cores")
    return say(
        "lede",
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


def training(run: Run) -> str:
    """Curves of every stage that wrote metrics, and what the model wrote on the way."""
    body = [_curves(stage) for stage in run.stages]
    return section("training", say("training"), say("training_lede"), *body)


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


def _curves(stage: Stage) -> str:
    def curve(key: str) -> list[tuple[float, float]]:
        pairs = ((m["step"], m.get(key)) for m in stage.metrics)
        return [(float(s), float(v)) for s, v in pairs if isinstance(v, int | float) and not isinstance(v, bool)]

    keys = list(dict.fromkeys(k for m in stage.metrics for k in m))
    loss = curve("loss")
    held = [k for k in keys if "loss" in k and k != "loss" and ("eval" in k or "held" in k or "val" in k)]
    bits = [k for k in keys if "bits_per_byte" in k or k.endswith("bpb")]
    plots = []
    if loss:
        series = [Series(loss, "c1", "raw"), Series(smooth(loss), "c1")]
        series += [Series(curve(k), f"c{2 + n % 3}", "dots", k) for n, k in enumerate(held)]
        legend = [
            (f"c{2 + n % 3}", say("held_out_loss") if len(held) == 1 else Both.same(k)) for n, k in enumerate(held)
        ]
        plots.append(_figure(say("loss"), series, legend, "main", 260))
    if bits:
        # A key of every step is of the batch itself, one of some steps is of held-out text.
        series = [
            s for n, k in enumerate(bits) for s in _dense_or_dots(curve(k), f"c{1 + n % 4}", k, len(stage.metrics))
        ]
        legend = [(f"c{1 + n % 4}", Both.same(_tail(k))) for n, k in enumerate(bits)] if len(bits) > 1 else []
        plots.append(_figure(say("bpb"), series, legend, "main" if not loss else "", 150))
    plots.append(_rates(curve, [k for k in keys if k == "lr" or k.startswith(("lr_", "lr/"))]))
    speed = next((k for k in ("tokens_per_s", "tokens_per_second") if k in keys), "")
    if steady := curve(speed):
        plots.append(
            _figure(say("tps"), [Series(steady, "c4", "raw"), Series(smooth(steady), "c3")], [], "", 150, True)
        )
    if norms := curve("grad_norm"):
        plots.append(_figure(say("grad"), [Series(norms, "c4", "raw"), Series(smooth(norms), "c3")], [], "", 150, True))
    inside = f'<div class="plots">{"".join(plots)}</div>' if any(plots) else ""
    inside += _written(stage)
    return f"<h3>{both(stage_name(stage.name))}</h3>{inside}" if inside else ""


def _dense_or_dots(points: list[tuple[float, float]], css: str, name: str, steps: int) -> list[Series]:
    if len(points) > max(1, steps // 2):
        return [Series(points, css, "raw"), Series(smooth(points), css)]
    return [Series(points, css, "dots", name)]


def _rates(curve: Any, keys: list[str]) -> str:
    """Learning rates as shares of their peaks: groups with the same schedule lie on one line."""
    shapes: dict[tuple[float, ...], list[tuple[float, float]]] = {}
    peaks = []
    for key in keys:
        values = curve(key)
        peak = max((v for _, v in values), default=0.0)
        if peak > 0:
            peaks.append(f"{_tail(key)} {short(peak)}")
            shapes.setdefault(tuple(round(v / peak, 6) for _, v in values), [(s, v / peak) for s, v in values])
    series = [Series(points, f"c{1 + n % 4}") for n, points in enumerate(shapes.values())]
    note = say("lr_peaks", peaks=", ".join(peaks)) if peaks else None
    return _figure(say("lr"), series, [], "", 150, True, note)


def _figure(
    title: Both,
    series: list[Series],
    legend: Iterable[tuple[str, Both]],
    css: str,
    height: int,
    from_zero: bool = False,
    note: Both | None = None,
) -> str:
    svg = line_chart(series, title.en, height=height, from_zero=from_zero)
    if not svg:
        return ""
    keys = "".join(f'<span class="key {c}"><i></i><span>{both(name)}</span></span>' for c, name in legend)
    below = f'<div class="below">{both(note)}</div>' if note else ""
    return f'<figure class="{css}"><figcaption><b>{both(title)}</b>{keys}</figcaption>{svg}{below}</figure>'


def _written(stage: Stage) -> str:
    """The last few samples of a training stage."""
    rows = []
    for sample in stage.samples[-6:]:
        output = next(
            (sample[k] for k in ("text", "output", "completion", "raw") if isinstance(sample.get(k), str)), None
        )
        if output is None:
            continue
        step = f"<div class='tags'>{both(say('step', n=str(sample['step'])))}</div>" if "step" in sample else ""
        prompt = sample.get("prompt")
        asked = f'<p class="say soft">{text(prompt)}</p>' if isinstance(prompt, str) and prompt else ""
        rows.append(f'<div class="sample">{step}{asked}<p class="say">{text(output)}</p></div>')
    return details(say("training_samples"), f'<div class="samples">{"".join(rows)}</div>') if rows else ""


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


def _tail(key: str) -> str:
    """`lr_matrix` -> `matrix`, `bits_per_byte/ko` -> `ko`."""
    whole = key
    for prefix in ("eval_", "bits_per_byte", "lr"):
        key = key.removeprefix(prefix)
    return key.strip("_/.") or whole
