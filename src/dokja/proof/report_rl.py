"""The section about reinforcement learning: what was gained, how far the policy moved, which shortcuts it tried.

Metrics are those of rl/metrics.jsonl, a line per step; each chart is left out where its keys are missing.
"""

from __future__ import annotations

from dokja.proof.figures import Both, percent, percent_tick, short
from dokja.proof.plots_tiles import Tiles, tile_chart
from dokja.proof.report_curves import Line, curve, economy, framed, grid, several, written
from dokja.proof.report_html import both, details, section
from dokja.proof.report_read import Run, Stage
from dokja.proof.report_rollouts import rollouts
from dokja.proof.strings import known, say
from dokja.text.chat import MODES

FAULTS = ("forced", "wrong_mode", "wrong_language", "empty_thought", "repetition")
_SHARE = 0.1
_NAMELESS = Both.same("")
_COLOURS = ("c1", "c2", "c3", "c4", "c5")
_COLUMNS = 24
"""Most tiles in a row of the curriculum."""


def reinforcement(run: Run) -> str:
    """Curves by step, the curriculum, and answers of the last step; nothing where RL has not run."""
    stage = run.stage("rl")
    if stage is None:
        return ""
    charts = grid([*_gains(stage), *_policy(stage), *_health(stage)])
    loss = several(stage, say("objective"), [_line("loss", "c1")], share=_SHARE)
    optimiser = details(say("rl_optimiser"), grid([loss, *economy(stage)]))
    lede = say("rl_lede", how=_how(run))
    return section("rl", say("rl"), lede, charts, optimiser, written(stage), curriculum(stage), rollouts(run))


def curriculum(stage: Stage) -> str:
    """Success by family and level over the steps that report it, as tiles."""
    found = _rates(stage)
    steps = sorted({step for rates in found.values() for step in rates})
    if not steps:
        return ""
    shown = (
        steps if len(steps) <= _COLUMNS else [steps[n * (len(steps) - 1) // (_COLUMNS - 1)] for n in range(_COLUMNS)]
    )
    charts, modes = [], {mode for mode, _, _ in found}
    for mode, task in dict.fromkeys((mode, task) for mode, task, _ in found):
        rows = []
        for level in sorted({level for m, t, level in found if (m, t) == (mode, task)}, key=_by_number):
            shares = [found[mode, task, level].get(step) for step in shown]
            titles = [
                say("curriculum_tile", level=level, step=f"{step:g}", share=percent(share, 0)).en
                for step, share in zip(shown, shares, strict=True)
            ]
            rows.append(Tiles(level, shares, titles))
        name = task.replace("_", " ")
        words = say(mode) if mode in MODES else Both.same(mode)
        legend = [("c2" if mode == "direct" else "c1", words)] if len(modes) > 1 else []
        css = "at-once" if mode == "direct" else ""
        charts.append(framed(Both.same(name), tile_chart(rows, name), legend, css))
    scale = (
        f'<div class="scale-of-tiles"><span>0 %</span><i></i><span>100 % {both(say("curriculum_scale"))}</span></div>'
    )
    lede = say("curriculum_lede", first=f"{steps[0]:g}", last=f"{steps[-1]:g}")
    title = f'<h3>{both(say("curriculum"))}</h3><p class="soft">{both(lede)}</p>'
    return f'{title}{scale}<div class="heat">{"".join(charts)}</div>'


def _gains(stage: Stage) -> list[str]:
    """Reward, accuracy by mode and by language, held-out accuracy."""
    think, direct = say("think"), say("direct")
    return [
        several(stage, say("rl_reward"), [_line("reward", "c1")], share=_SHARE),
        several(
            stage,
            say("rl_accuracy"),
            _some(stage, ("accuracy_think", "c1", think), ("accuracy_direct", "c2", direct))
            or [_line("accuracy", "c1")],
            share=_SHARE,
            format_y=percent_tick,
        ),
        several(
            stage,
            say("rl_languages"),
            [("accuracy_ko", "c3", say("ko")), ("accuracy_en", "c5", say("en"))],
            share=_SHARE,
            format_y=percent_tick,
        ),
        several(
            stage,
            say("rl_eval"),
            [],
            dots=[("eval_think", "c1", think), ("eval_direct", "c2", direct)],
            format_y=percent_tick,
        ),
    ]


def _policy(stage: Stage) -> list[str]:
    """Lengths, entropy, and the two distances: to the engine that sampled, to the model it started from."""
    mismatch = [v for _, v in curve(stage, "mismatch_kl")]
    note = say("rl_mismatch_note", n=short(max(mismatch))) if mismatch else None
    return [
        several(
            stage,
            say("rl_length"),
            [("thought_tokens", "c1", say("rl_thought")), ("answer_tokens", "c2", say("rl_answer"))],
            dots=[("eval_thought_tokens", "c3", say("rl_thought_eval"))],
            share=_SHARE,
            from_zero=True,
        ),
        several(stage, say("rl_entropy"), [_line("entropy", "c1")], share=_SHARE, from_zero=True),
        several(
            stage,
            say("rl_mismatch"),
            [_line("mismatch_kl", "c1")],
            share=_SHARE,
            from_zero=True,
            format_y=_small,
            note=note,
        ),
        several(stage, say("rl_reference"), [_line("kl_ref", "c1")], share=_SHARE, from_zero=True, format_y=_small),
    ]


def _health(stage: Stage) -> list[str]:
    """Groups that train, clipped tokens, time, and the shortcuts a reward invites."""
    seen, never = [], []
    for n, name in enumerate(FAULTS):
        values = [v for _, v in curve(stage, name)]
        if any(values):
            seen.append((name, _COLOURS[n], known("fault", name)))
        elif values:
            never.append(known("fault", name))
    names = Both(", ".join(n.en for n in never), ", ".join(n.ko for n in never))
    note = say("rl_faults_none", names=names) if never else None
    faults = several(stage, say("rl_faults"), seen, share=_SHARE, from_zero=True, format_y=percent_tick, note=note)
    if not faults and note:
        faults = framed(say("rl_faults"), "", note=note)
    return [
        several(stage, say("rl_kept"), [_line("kept", "c1")], share=_SHARE, from_zero=True, format_y=percent_tick),
        several(
            stage, say("rl_clipped"), [_line("clipped", "c1")], share=_SHARE, from_zero=True, format_y=percent_tick
        ),
        several(
            stage,
            say("rl_seconds"),
            [("seconds", "c4", say("rl_seconds_all")), ("rollout_seconds", "c3", say("rl_seconds_rollouts"))],
            share=_SHARE,
            from_zero=True,
        ),
        faults,
    ]


def _how(run: Run) -> Both:
    """The algorithm and the size of a step, where the recipe says them."""
    values = run.recipe.get("rl")
    names = ("algorithm", "prompts", "group")
    if not isinstance(values, dict) or not all(isinstance(values.get(n), str | int) for n in names):
        return Both("", "")
    how = say("rl_how", **{n: str(values[n]) for n in names})
    return Both(f"{how.en} ", f"{how.ko} ")


def _rates(stage: Stage) -> dict[tuple[str, str, str], dict[float, float]]:
    """`rate/<mode>/<task>/<level>` -> share by step."""
    out: dict[tuple[str, str, str], dict[float, float]] = {}
    for key in dict.fromkeys(k for m in stage.metrics for k in m if k.startswith("rate/")):
        parts = key.split("/")
        if len(parts) == 4 and (points := curve(stage, key)):
            out[parts[1], parts[2], parts[3]] = dict(points)
    return out


def _some(stage: Stage, *lines: Line) -> list[Line]:
    return [line for line in lines if curve(stage, line[0])]


def _line(key: str, css: str) -> Line:
    return key, css, _NAMELESS


def _by_number(level: str) -> tuple[int, str]:
    return (int(level) if level.isdigit() else 0, level)


def _small(value: float) -> str:
    """A number on a narrow axis: `2e−8` where `short` would write a power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return short(value)
    return f"{value:.0e}".replace("e-0", "e-").replace("-", "−")
