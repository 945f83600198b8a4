"""What the card says of the stages after pretraining: a table by stage, and what each of them was."""

from __future__ import annotations

from collections.abc import Callable

from dokja.proof.figures import NONE, Both, percent, points, signed
from dokja.proof.plots_stages import Interval
from dokja.proof.report_read import Run
from dokja.proof.report_stages import LANGUAGES, short_name, stage_rows
from dokja.proof.strings import say
from dokja.text.chat import MODES

_COLUMNS = ("card_stage", *LANGUAGES, "both_languages", "thought_length", "change_points", "change_thought")


def stages(run: Run) -> tuple[list[Both], list[list[Both | str]]]:
    """Head, and a row per mode and stage; no rows where fewer than two stages were judged."""
    found = stage_rows(run)
    out: list[list[Both | str]] = []
    for mode in MODES if len({r.stage for r in found}) > 1 else ():
        for stage in dict.fromkeys(r.stage for r in found if r.mode == mode):
            of = {r.language: r for r in found if (r.mode, r.stage) == (mode, stage)}
            both = of.get(None)
            out.append(
                [
                    say("card_stage_row", stage=short_name(stage), mode=say(mode)),
                    *(_share(of[k].score) if k in of else NONE for k in (*LANGUAGES, None)),
                    _span(both.thought if both else None, "{:.1f}".format),
                    _span(both.change if both else None, points),
                    _span(both.thought_change if both else None, signed),
                ]
            )
    return [say(key) for key in _COLUMNS], out


def lessons(run: Run) -> list[Both]:
    """What followed pretraining, where preference or RL did."""
    if not (run.stage("preference") or run.stage("rl")):
        return []
    preference, rl = (s if isinstance(s := run.recipe.get(k), dict) else {} for k in ("preference", "rl"))
    lines = [say("card_sft")] if run.stage("sft") else []
    if run.stage("preference") and preference.get("objective"):
        lines.append(say("card_preference", objective=str(preference["objective"])))
    if run.stage("rl") and rl.get("algorithm") and rl.get("steps"):
        lines.append(say("card_rl", algorithm=str(rl["algorithm"]), steps=str(rl["steps"])))
    return lines


def _share(e: Interval) -> str:
    """As the card's other shares: brackets would be links in Markdown."""
    return f"{percent(e[0])} ({100 * e[1]:.1f}–{100 * e[2]:.1f})"


def _span(e: Interval | None, spell: Callable[[float], str]) -> str:
    return f"{spell(e[0])} ({spell(e[1])} … {spell(e[2])})" if e else NONE
