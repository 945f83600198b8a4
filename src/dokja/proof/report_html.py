"""Pieces of HTML in two languages. Text becomes markup in `text` and nowhere else, so nothing a model wrote can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dokja.proof.figures import Both

Cell = Both | str | tuple[Both | str, Both | str]
"""What stands in a table: words, or a figure with a smaller one below it."""

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {127: "␡"}
_UNSEEN = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0xFEFF], "\ufffd")
_SHOWN = str.maketrans({**_PICTURES, **_UNSEEN, **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")})


def text(value: object) -> str:
    """Text as HTML: escaped, and with what one cannot see (control and direction characters) made visible."""
    return escape(str(value).translate(_SHOWN))


def both(words: Both | str) -> str:
    """Words in both languages, of which the page shows one; written once where they are the same."""
    if isinstance(words, str) or words.en == words.ko:
        return text(words if isinstance(words, str) else words.en)
    return f'<span class="en" lang="en">{text(words.en)}</span><span class="ko" lang="ko">{text(words.ko)}</span>'


def section(anchor: str, title: Both, lede: Both | None, *body: str) -> str:
    """A section of the page; nothing where the body is empty."""
    inside = "".join(body)
    if not inside:
        return ""
    lead = f'<p class="lead">{both(lede)}</p>' if lede else ""
    return f'<section id="{text(anchor)}"><h2>{both(title)}</h2>{lead}{inside}</section>'


def table(head: Sequence[Both], rows: Iterable[Sequence[Cell]], foot: Sequence[Cell] = (), left: int = 1) -> str:
    """A table whose first `left` columns are words and whose others are figures. Nothing without rows."""

    def cells(tag: str, row: Sequence[Cell]) -> str:
        marked = (f'<{tag} class="left">' if n < left else f"<{tag}>" for n in range(len(row)))
        return "<tr>" + "".join(f"{m}{_cell(c)}</{tag}>" for m, c in zip(marked, row, strict=True)) + "</tr>"

    body = "".join(cells("td", row) for row in rows)
    if not body:
        return ""
    end = f"<tfoot>{cells('td', foot)}</tfoot>" if foot else ""
    return f'<div class="wide"><table><thead>{cells("th", head)}</thead><tbody>{body}</tbody>{end}</table></div>'


def _cell(cell: Cell) -> str:
    return f"{both(cell[0])}<small>{both(cell[1])}</small>" if isinstance(cell, tuple) else both(cell)


def details(summary: Both, inside: str) -> str:
    """Something folded away; nothing where there is nothing inside."""
    return f"<details><summary>{both(summary)}</summary>{inside}</details>" if inside else ""


def definitions(pairs: Iterable[tuple[Both | str, Both | str]]) -> str:
    """A list of names and values; nothing without pairs."""
    inside = "".join(f'<dt>{both(k)}</dt><dd class="mono">{both(v)}</dd>' for k, v in pairs)
    return f"<dl>{inside}</dl>" if inside else ""
