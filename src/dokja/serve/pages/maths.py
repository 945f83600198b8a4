"""LaTeX of an answer as MathML, which browsers draw themselves.

Why not KaTeX: it would have to be bundled and run over every block again; MathML is text like the rest of the page.
Covered: what latex2mathml reads. Not covered: other commands; their source is shown as it was written.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element

LONGEST = 4000
"""Characters of a formula that is drawn; longer ones are shown as they were written."""
_NAMED = (("aligned", "align*"), ("gathered", "gather*"), ("align", "align*"), ("equation", "gather*"))
"""Environments that are read under another name, so that their columns are kept and nothing is numbered."""


@lru_cache(2048)
def mathml(latex: str, block: bool) -> str:
    """MathML of a formula; its source in <code> where it cannot be read. Sanitise it: commands may carry attributes."""
    try:
        if len(latex) > LONGEST:
            raise ValueError
        for name, read in _NAMED:
            latex = re.sub(rf"\\(begin|end)\{{{name}\}}", rf"\\\1{{{read}}}", latex)
        tree = convert_to_element(latex.strip(), display="block" if block else "inline")
    except Exception:  # it raises many kinds, RecursionError among them, and half a formula is usual while one streams
        return f"<code>{html.escape(latex)}</code>"
    for element in tree.iter():  # entities are written as such, and text is left as it came: bring both to plain text
        element.text = html.unescape(element.text) if element.text else element.text
        if element.tag == "menclose" and element.get("notation") == "box":
            element.tag, element.attrib = "mrow", {"class": "boxed"}
    return ElementTree.tostring(tree, encoding="unicode")
