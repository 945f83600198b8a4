"""The section with the curves of every stage that trains on given data: pretraining, context, SFT, preference pairs."""

from __future__ import annotations

from dokja.proof.figures import Both, percent_tick
from dokja.proof.report_curves import curves, economy, several, titled
from dokja.proof.report_html import section
from dokja.proof.report_read import Run, Stage
from dokja.proof.strings import say

_NAMELESS = Both.same("")


def training(run: Run) -> str:
    """Curves of every stage that wrote metrics, and what the model wrote on the way; RL has a section of its own."""
    body = [_pairs(s) if s.name == "preference" else curves(s) for s in run.stages if s.name != "rl"]
    return section("training", say("training"), say("training_lede"), *body)


def _pairs(stage: Stage) -> str:
    """How far the better answers were told from the worse ones, and what became of both."""
    logps = [("chosen_logp", "c3", say("chosen")), ("rejected_logp", "c5", say("rejected"))]
    plots = [
        several(stage, say("objective"), [("loss", "c1", _NAMELESS)], share=0.1),
        several(stage, say("pairs_accuracy"), [("accuracy", "c1", _NAMELESS)], share=0.1, format_y=percent_tick),
        several(stage, say("pairs_margin"), [("margin", "c1", _NAMELESS)], share=0.1),
        several(stage, say("pairs_logp"), logps, share=0.1),
    ]
    return titled(stage, [*plots, *economy(stage)])
