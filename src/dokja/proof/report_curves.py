"""Curves of one stage from its metrics, and what its model wrote along the way, for every section about training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dokja.proof.figures import Both, percent_tick, short
from dokja.proof.plots import Point, Series, line_chart, smooth
from dokja.proof.report_html import both, details, text
from dokja.proof.report_read import Stage
from dokja.proof.strings import say, stage_name

Line = tuple[str, str, Both]
"""Key of the metrics, CSS class of its colour, name in the legend."""
_LOADS: list[Line] = [
    ("expert_load_worst", "c5", say("worst_layer")), ("expert_load_mean", "c3", say("mean_layer"))
]  # fmt: skip


def curve(stage: Stage, key: str) -> list[Point]:
    """The steps that have a number under `key`."""
    pairs = ((m["step"], m.get(key)) for m in stage.metrics)
    return [(float(s), float(v)) for s, v in pairs if isinstance(v, int | float) and not isinstance(v, bool)]


def curves(stage: Stage) -> str:
    """Loss, bits per byte, rates and speed, and what the model wrote; nothing without metrics."""
    keys = list(dict.fromkeys(k for m in stage.metrics for k in m))
    loss = curve(stage, "loss")
    held = [k for k in keys if "loss" in k and k != "loss" and ("eval" in k or "held" in k or "val" in k)]
    bits = [k for k in keys if "bits_per_byte" in k or k.endswith("bpb")]
    plots = []
    if loss:
        series = [Series(loss, "c1", "raw"), Series(smooth(loss), "c1")]
        series += [Series(curve(stage, k), f"c{2 + n % 3}", "dots", k) for n, k in enumerate(held)]
        legend = [
            (f"c{2 + n % 3}", say("held_out_loss") if len(held) == 1 else Both.same(k)) for n, k in enumerate(held)
        ]
        plots.append(figure(say("loss"), series, legend, "main", 260))
    if bits:
        # A key of every step is of the batch itself, one of some steps is of held-out text.
        series = [
            s
            for n, k in enumerate(bits)
            for s in _dense_or_dots(curve(stage, k), f"c{1 + n % 4}", k, len(stage.metrics))
        ]
        legend = [(f"c{1 + n % 4}", Both.same(_tail(k))) for n, k in enumerate(bits)] if len(bits) > 1 else []
        plots.append(figure(say("bpb"), series, legend, "main" if not loss else ""))
    return titled(stage, [*plots, *economy(stage)])


def titled(stage: Stage, plots: Sequence[str]) -> str:
    """The stage's name over its charts and what it wrote along the way; nothing where there is neither."""
    inside = grid(plots) + written(stage)
    return f"<h3>{both(stage_name(stage.name))}</h3>{inside}" if inside else ""


def economy(stage: Stage) -> list[str]:
    """Learning rates, tokens per second and gradient norm; of a mixture of experts how evenly they were used."""
    keys = list(dict.fromkeys(k for m in stage.metrics for k in m))
    speed = next((k for k in ("tokens_per_s", "tokens_per_second") if k in keys), "")
    return [
        _rates(stage, [k for k in keys if k == "lr" or k.startswith(("lr_", "lr/"))]),
        *(several(stage, say(name), [(key, "c3", Both.same(""))], from_zero=True, faint="c4")
          for name, key in (("tps", speed), ("grad", "grad_norm"))),
        several(stage, say("expert_load"), _LOADS),
        several(stage, say("experts_dead"), [("experts_dead", "c5", Both.same(""))], from_zero=True,
                format_y=percent_tick),
    ]  # fmt: skip


def several(
    stage: Stage,
    title: Both,
    lines: Sequence[Line],
    *,
    dots: Sequence[Line] = (),
    share: float = 0.03,
    from_zero: bool = False,
    faint: str = "",
    format_y: Callable[[float], str] = short,
    note: Both | None = None,
) -> str:
    """One chart of several keys: each step faintly, a moving average firmly, `dots` as marks. Nothing without them."""
    found = [(curve(stage, key), css, name, False) for key, css, name in lines]
    found += [(curve(stage, key), css, name, True) for key, css, name in dots]
    found = [entry for entry in found if entry[0]]
    series: list[Series] = []
    for points, css, name, marked in found:
        if marked:
            series.append(Series(points, css, "dots", name.en))
        else:
            series += [Series(points, faint or css, "raw"), Series(smooth(points, share), css)]
    legend = [(css, name) for _, css, name, _ in found if name.en]
    return figure(title, series, legend, from_zero=from_zero, format_y=format_y, note=note)


def figure(
    title: Both,
    series: list[Series],
    legend: Iterable[tuple[str, Both]] = (),
    css: str = "",
    height: int = 150,
    from_zero: bool = False,
    note: Both | None = None,
    format_y: Callable[[float], str] = short,
) -> str:
    """A titled chart with its legend; nothing where there is nothing to draw."""
    svg = line_chart(series, title.en, height=height, from_zero=from_zero, format_y=format_y)
    return framed(title, svg, legend, css, note) if svg else ""


def framed(
    title: Both, svg: str, legend: Iterable[tuple[str, Both]] = (), css: str = "", note: Both | None = None
) -> str:
    """A drawing under its title and legend, `note` below."""
    keys = "".join(f'<span class="key {c}"><i></i><span>{both(name)}</span></span>' for c, name in legend)
    below = f'<div class="below">{both(note)}</div>' if note else ""
    return f'<figure class="{css}"><figcaption><b>{both(title)}</b>{keys}</figcaption>{svg}{below}</figure>'


def grid(plots: Sequence[str]) -> str:
    """Charts side by side, as many as fit."""
    return f'<div class="plots">{"".join(plots)}</div>' if any(plots) else ""


def written(stage: Stage) -> str:
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


def _dense_or_dots(points: list[Point], css: str, name: str, steps: int) -> list[Series]:
    if len(points) > max(1, steps // 2):
        return [Series(points, css, "raw"), Series(smooth(points), css)]
    return [Series(points, css, "dots", name)]


def _rates(stage: Stage, keys: list[str]) -> str:
    """Learning rates as shares of their peaks: groups with the same schedule lie on one line."""
    shapes: dict[tuple[float, ...], list[Point]] = {}
    peaks = []
    for key in keys:
        values = curve(stage, key)
        peak = max((v for _, v in values), default=0.0)
        if peak > 0:
            peaks.append(f"{_tail(key)} {short(peak)}")
            shapes.setdefault(tuple(round(v / peak, 6) for _, v in values), [(s, v / peak) for s, v in values])
    series = [Series(points, f"c{1 + n % 4}") for n, points in enumerate(shapes.values())]
    note = say("lr_peaks", peaks=", ".join(peaks)) if peaks else None
    return figure(say("lr"), series, from_zero=True, note=note)


def _tail(key: str) -> str:
    """`lr_matrix` -> `matrix`, `bits_per_byte/ko` -> `ko`."""
    whole = key
    for prefix in ("eval_", "bits_per_byte", "lr"):
        key = key.removeprefix(prefix)
    return key.strip("_/.") or whole
