"""The frame of a page of ours: one file in two languages with a switch, which loads nothing and runs nothing.

Its Content-Security-Policy forbids scripts, fonts and pictures from anywhere, so that text of any origin stays text.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from dokja.proof.figures import Both
from dokja.proof.report_html import both, text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(
    title: Both | str,
    kicker: Both,
    lede: str,
    parts: Iterable[str],
    footer: Both,
    language: str = "en",
    *,
    images: bool = False,
    styles: Iterable[str] = ("report.css",),
) -> str:
    """The whole document. `lede` and `parts` are HTML; `language` is shown first; `images` allows data URLs."""
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
    css = "".join(files("dokja.proof").joinpath(name).read_text(encoding="utf-8") for name in styles)
    tab = title if isinstance(title, str) else getattr(title, first)
    policy = _POLICY + ("; img-src data:" if images else "")
    body = [
        f'<header><div class="bar"><span class="kicker">{both(kicker)}</span>{switch}</div>',
        f"<h1>{both(title)}</h1>{lede}</header>",
        *(part for part in parts if part),
        f"<footer>{both(footer)}</footer>",
    ]
    return (
        f'<!doctype html>\n<html lang="{first}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(tab)} · dokja</title>\n<style>\n{css}</style>\n</head>\n<body>\n{picks}\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )
