"""How one answer is shown: what was asked, the thought, the answer, and what was right where it was not."""

from __future__ import annotations

from collections.abc import Sequence

from dokja.proof.figures import Both
from dokja.proof.report_html import both, text
from dokja.proof.strings import say

Tag = tuple[str, str]
"""CSS classes and HTML."""


def sample_card(
    tags: Sequence[Tag],
    language: str,
    prompt: str,
    thought: str,
    answer: str,
    expected: str | None = None,
    below: Sequence[str] = (),
    pictures: Sequence[str] = (),
) -> str:
    """An answer as a card; `expected` is shown where it is given, `below` are further lines of HTML,
    `pictures` data URLs of what the prompt shows."""
    lang = text(language)
    out = ['<article class="sample"><div class="tags">', *(f'<span class="{c}">{t}</span>' for c, t in tags), "</div>"]
    out += [f'<p><img class="shown" src="{text(url)}" alt=""></p>' for url in pictures]
    out.append(f'<p class="say" lang="{lang}">{text(prompt)}</p>')
    if thought:
        out.append(f'<div class="say thought" lang="{lang}">{text(thought)}</div>')
    words = f'<span class="say">{text(answer)}</span>' if answer.strip() else both(say("no_answer"))
    out.append(f'<div class="answer">{named(say("its_answer"), words)}')
    if expected is not None:
        out.append(named(say("expected"), f'<span class="say">{text(expected)}</span>'))
    out.append("</div>")
    out += [f'<div class="more">{line}</div>' for line in below]
    return "".join([*out, "</article>"])


def verdict(good: bool, words: Both) -> Tag:
    """The tag that says right or wrong, by sign and colour."""
    sign, css = ("✓", "good") if good else ("✗", "bad")
    return f"verdict {css}", f"{sign} {both(words)}"


def named(name: Both, inside: str) -> str:
    """A small name and HTML after it."""
    return f'<span><span class="name">{both(name)}</span>{inside}</span>'
