"""Markdown of an answer as safe HTML, block by block, so that a growing answer sends only what is new.

    "One\n\n``` py\nx" ─► blocks that no further text can change: ["<p>One</p>"], the open end: "<pre>…x</pre>"

What a model writes is hostile: HTML is shown as text, pictures become links, links go to http(s) and mail alone, and
what comes out passes a sanitiser that knows only the tags made here.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import re
from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.parser_inline import ParserInline
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from dokja.serve.pages.maths import LONGEST, mathml

COLOURED = 20_000
"""Characters of code that is coloured; more is shown plain."""
COLOURED_OPEN = 1_500
"""The same while it is being written: it is sent again and again, and colours make it five times as long."""
_OPENED = re.compile(r"^\s*(\\\[(?!.*\\\])|\$\$(?!.*\$\$))", re.MULTILINE | re.DOTALL)
"""A line that begins a formula which does not end."""
_MATHS = {
    "math", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mprescripts", "mroot", "mrow",
    "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder",
    "munderover", "none",
}  # fmt: skip
_TAGS = {
    "a", "blockquote", "br", "button", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
} | _MATHS  # fmt: skip
_MATHS_ATTRIBUTES = {
    "accent", "columnalign", "columnlines", "columnspacing", "display", "displaystyle", "fence", "form", "height",
    "depth", "linethickness", "lspace", "mathcolor", "mathvariant", "maxsize", "minsize", "movablelimits", "rowlines",
    "rowspacing", "rspace", "scriptlevel", "separator", "stretchy", "symmetric", "width",
}  # fmt: skip
_ATTRIBUTES = {tag: set(_MATHS_ATTRIBUTES) for tag in _MATHS} | {
    "a": {"href", "title", "target"}, "ol": {"start"}, "td": {"style"}, "th": {"style"}, "div": {"class"},
    "span": {"class"}, "button": {"class", "type"}, "code": {"class"},
}  # fmt: skip
_ATTRIBUTES["mrow"] |= {"class"}


class Blocks:
    """A text that grows. `push` it; `done` holds the HTML of its finished blocks, `open_html` that of the rest."""

    def __init__(self, text: str = "") -> None:
        self.done: list[str] = []
        self.tail = ""
        self.push(text)

    def push(self, text: str) -> None:
        """The text has grown by this much."""
        self.tail += text.replace("\r", "")
        whole = self.tail.rfind("\n") + 1  # a line that is not over yet may turn out to be anything
        if "\n" not in text or not whole:
            return
        lines = [line + "\n" for line in self.tail.split("\n")]
        edges = _edges(self.tail[:whole], lines)
        if len(edges) > 1:
            self.done += [render("".join(lines[a:b])) for a, b in itertools.pairwise(edges)]
            self.tail = "".join(lines[edges[-1] :])[:-1]

    @property
    def open_html(self) -> str:
        """HTML of what may still change; empty where there is nothing to see."""
        return render(self.tail, COLOURED_OPEN) if self.tail.strip() else ""


def render(text: str, coloured: int = COLOURED) -> str:
    """Safe HTML of Markdown. coloured: characters of code that gets colours."""
    made = _PARSER.render(text, {"coloured": coloured})
    return nh3.clean(
        made, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow", attribute_filter=_filter,
    )  # fmt: skip


def _filter(tag: str, name: str, value: str) -> str | None:
    if name == "style":  # of table cells
        return value if value in ("text-align:left", "text-align:center", "text-align:right") else None
    return value


def _edges(text: str, lines: Sequence[str]) -> list[int]:
    """First lines of the blocks, up to the last one that may still change: the end, or a formula over several
    paragraphs, which looks like them until it is closed."""
    blocks = [t for t in _PARSER.parse(text) if t.level == 0 and t.nesting >= 0 and t.map]
    edges = [0]
    for block, after in itertools.pairwise(blocks):
        assert block.map is not None and after.map is not None
        source = "".join(lines[edges[-1] : after.map[0]])
        if block.type == "paragraph_open" and len(text) < LONGEST and _OPENED.search(source):
            break
        edges.append(after.map[0])
    return edges


def _fence(renderer: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: EnvType) -> str:
    code = tokens[i].content
    language = tokens[i].info.split()[0][:24] if tokens[i].info.split() else ""
    inside = html.escape(code)
    if language and len(code) <= env["coloured"]:
        with contextlib.suppress(ClassNotFound):
            inside = highlight(code, get_lexer_by_name(language, stripnl=False), HtmlFormatter(nowrap=True))
    copy = '<button class="copy-code" type="button"></button>'
    head = f'<div class="code-head"><span>{html.escape(language)}</span>{copy}</div>'
    return f'<div class="code">{head}<pre><code>{inside}</code></pre></div>'


def _image(renderer: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: EnvType) -> str:
    """A picture elsewhere is not fetched: whoever holds it would learn who reads this."""
    token, source = tokens[i], str(tokens[i].attrs.get("src", ""))
    words = html.escape(token.content or source)
    return f'<a href="{html.escape(source)}" title="{html.escape(source)}" target="_blank">{words}</a>'


def _link_open(renderer: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: EnvType) -> str:
    target = str(tokens[i].attrs.get("href", ""))
    tokens[i].attrs |= {"target": "_blank", "title": target}  # who hovers sees where it leads, whatever it says
    return renderer.renderToken(tokens, i, options, env)


def _table_open(renderer: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: EnvType) -> str:
    return '<div class="table"><table>'


def _inline_math(renderer: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: EnvType) -> str:
    return mathml(tokens[i].content, False)


def _block_math(renderer: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: EnvType) -> str:
    return f'<div class="maths">{mathml(tokens[i].content, True)}</div>'


class _State(StateInline):
    """`**"말"**은` is meant bold. CommonMark wants a space between a letter and a closing mark that follows
    punctuation. Korean with its particles has none, so a neighbour in a CJK script counts as a space here."""

    def scanDelims(self, start: int, canSplitWord: bool) -> Any:
        found = super().scanDelims(start, canSplitWord)
        before, after = self.src[start - 1 : start], self.src[start + found.length : start + found.length + 1]
        if canSplitWord and _cjk(after) and before and not before.isspace():
            found = found._replace(can_close=True)
        if canSplitWord and _cjk(before) and after and not after.isspace():
            found = found._replace(can_open=True)
        return found


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        state = _State(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


def _displayed(state: StateInline, silent: bool) -> bool:
    """\\[ and \\] within a paragraph; the plugin knows them as blocks alone."""
    end = state.src.find("\\]", state.pos + 2) if state.src.startswith("\\[", state.pos) else -1
    if end < 0:
        return False
    if not silent:
        state.push("math_inline_double", "math", 0).content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _cjk(character: str) -> bool:
    return bool(character) and ("\u1100" <= character <= "\u11ff" or "\u2e80" <= character <= "\ud7ff")


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.inline = _Inline()
    parser.enable(["table", "strikethrough"])
    dollarmath_plugin(parser, allow_digits=False, double_inline=True)
    texmath_plugin(parser, delimiters="brackets")
    parser.inline.ruler.before("escape", "displayed", _displayed)
    for name in ("math_inline", "math_single"):
        parser.add_render_rule(name, _inline_math)
    for name in ("math_block", "math_inline_double", "math_block_label", "math_block_eqno"):
        parser.add_render_rule(name, _block_math if name != "math_inline_double" else _inline_math)
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("code_block", _fence)
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    return parser


_PARSER = _parser()
