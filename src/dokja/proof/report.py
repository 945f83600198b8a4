"""report.html: one self-contained page about a run, for somebody who was not there.

A pure reader of the run folder. The page holds both languages and a switch, follows the reader's light or dark scheme,
and loads nothing: no script, no font, no image but those it holds itself (what a vision model was shown). Its own
Content-Security-Policy forbids them, so that whatever a model wrote into a sample stays text.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from dokja.ledger.atomic import write_atomic
from dokja.proof import report_accuracy, report_parts, report_rl, report_stages, report_training
from dokja.proof.report_html import both, text
from dokja.proof.report_read import Run, read_run
from dokja.proof.strings import say

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


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
    first = "ko" if language == "ko" else "en"
    picks = "".join(
        f'<input class="pick" type="radio" name="language" id="pick-{code}"{" checked" if code == first else ""}'
        f' aria-label="{name}">'
        for code, name in (("en", "English"), ("ko", "한국어"))
    )
    switch = (
        '<span class="switch"><label for="pick-en" lang="en">English</label>'
        '<label for="pick-ko" lang="ko">한국어</label></span>'
    )
    css = files("dokja.proof").joinpath("report.css").read_text(encoding="utf-8")
    created = f" · {text(run.created[:10])}" if run.created else ""
    modes = f'<p class="soft">{both(say("two_modes"))}</p>' if run.summary else ""
    policy = _POLICY + ("; img-src data:" if any(r.images for r in run.records) else "")
    parts = [
        f'<header><div class="bar"><span class="kicker">{both(say("kicker"))}{created}</span>{switch}</div>',
        f'<h1>{text(run.name)}</h1><p class="lede">{both(report_parts.lede(run))}</p>{modes}</header>',
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
        f"<footer>{both(say('footer'))}</footer>",
    ]
    return (
        f'<!doctype html>\n<html lang="{first}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(run.name)} · dokja</title>\n<style>\n{css}</style>\n</head>\n<body>\n{picks}\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )
