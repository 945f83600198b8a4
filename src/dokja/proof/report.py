"""report.html: one self-contained page about a run, for somebody who was not there.

A pure reader of the run folder. The page (`page.document`) holds both languages and a switch, follows the reader's
light or dark scheme, and loads nothing but the images it holds itself (what a vision model was shown).
"""

from __future__ import annotations

from pathlib import Path

from dokja.ledger.atomic import write_atomic
from dokja.proof import report_accuracy, report_parts, report_rl, report_stages, report_training
from dokja.proof.figures import Both
from dokja.proof.page import document
from dokja.proof.report_html import both
from dokja.proof.report_read import Run, read_run
from dokja.proof.strings import say


def write_report(run_path: str | Path, out: str | Path, language: str = "en") -> Path:
    """Write the report of a run folder to `out` (a file, or a folder that gets report.html); returns the file's path.

    `language` is the one shown first. Raises DataError where there is no run folder; what has not run is left out.
    """
    out = Path(out)
    file = out if out.suffix == ".html" else out / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, page(read_run(run_path), language).encode("utf-8"))
    return file


def page(run: Run, language: str = "en") -> str:
    """The whole document."""
    made = f" · {run.created[:10]}" if run.created else ""
    kicker = say("kicker")
    modes = f'<p class="soft">{both(say("two_modes"))}</p>' if run.summary else ""
    parts = [
        report_parts.headline(run),
        report_stages.stages(run),
        report_accuracy.accuracy(run),
        report_accuracy.samples(run),
        report_parts.road(run),
        report_training.training(run),
        report_rl.reinforcement(run),
        report_parts.data(run),
        report_parts.recipe(run),
        report_parts.environment(run),
    ]
    return document(
        run.name,
        Both(kicker.en + made, kicker.ko + made),
        f'<p class="lede">{both(report_parts.lede(run))}</p>{modes}',
        parts,
        say("footer"),
        language,
        images=any(r.images for r in run.records),
    )
