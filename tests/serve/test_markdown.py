"""Markdown of answers: hostile text stays text, a growing text gives what the whole gives, Korean, formulas."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.serve.pages.markdown import Blocks, render

TEXT = """# 제목
첫 줄 **굵게**는 `code`
setext
---
1. 하나

   이어서
2. 둘
- 점 \\(x^2\\)

```python
a = 1

b = 2
```
| a | b |
|---|--:|
| 1 | 2 |

\\[
x = 1

= y
\\]
> 인용
이어짐

$$
\\frac{a}{b}
$$
끝
\\[
y = 2

= 3 \\] 그리고 \\[z\\]

$$ 열린
채로

끝."""


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def squeezed(text: str) -> str:
    """Without the line breaks that stand between blocks."""
    return re.sub(r"\s*\n\s*", "", text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(TEXT)), max_size=40))
def test_a_growing_text_gives_what_the_whole_gives_for_every_split(cuts: list[int]) -> None:
    blocks, at, kept = Blocks(), 0, 0
    for cut in [*sorted(cuts), len(TEXT)]:
        blocks.push(TEXT[at:cut])
        at = cut
        assert len(blocks.done) >= kept
        kept = len(blocks.done)
    assert squeezed("\n".join([*blocks.done, blocks.open_html])) == squeezed(render(TEXT))


def test_finished_blocks_are_sent_once() -> None:
    blocks = Blocks()
    for n in range(50):
        blocks.push(f"paragraph {n}\n\n")
    assert len(blocks.done) >= 49
    assert len(blocks.tail) < 40


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "![x](http://elsewhere/pixel.png)",
        "![x](data:image/svg+xml;base64,PHN2Zy8+)",
        "[x](javascript:alert(1)) [y](data:text/html,<script>) [z](vbscript:x)",
        "<javascript:alert(1)>",
        "[a]: javascript:alert(1)\n\n[a]",
        "```html\n<script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "\\(\\text{<script>alert(1)</script>}\\)",
        "\\(\\href{javascript:alert(1)}{x}\\)",
        "$$\\text{</math><img src=x onerror=alert(1)>}$$",
        "$\\style{background:url(http://elsewhere)}{x}$",
        "| a |\n|---|\n| <b onclick=x>b</b> |",
        "`<iframe src=http://elsewhere>`",
    ],
)
def test_hostile_text_runs_nothing_and_fetches_nothing(text: str) -> None:
    for tag, attributes in Tags(render(text)).found:
        assert tag not in {"script", "img", "svg", "iframe", "style", "link", "object", "embed", "form", "b"}
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "src"
            if name == "href":
                assert re.match(r"https?:|mailto:", value or "")
            if name == "style":
                assert value.startswith("text-align:")


def test_a_link_opens_beside_the_page_and_says_where_it_leads() -> None:
    (link,) = (attributes for tag, attributes in Tags(render("[bank](http://evil.example)")).found if tag == "a")
    assert link["title"] == "http://evil.example" and link["target"] == "_blank"
    assert {"noopener", "noreferrer"} <= set(link["rel"].split())


@pytest.mark.parametrize(
    ("text", "bold"),
    [
        ('이것은 **"강조"**입니다', '"강조"'),
        ("**강조(굵게)**는", "강조(굵게)"),
        ("값은**(참)**이다", "(참)"),
        ("a **b** c", "b"),
    ],
)
def test_emphasis_ends_before_a_korean_particle(text: str, bold: str) -> None:
    assert f"<strong>{bold}</strong>" in render(text)


@pytest.mark.parametrize("text", ["2 ** 3 ** 4", "snake_case_name", "3 * 4 * 5", "값 ** 3 ** 끝"])
def test_what_is_no_emphasis_stays_as_it_is(text: str) -> None:
    assert render(text).strip() == f"<p>{text}</p>"


@pytest.mark.parametrize(
    "text", ["$x^2$", "\\(x^2\\)", "줄 안의 \\[x^2\\] 식", "$$x^2$$", "\\[\nx^2\n\n\\]", "- 항목\n  \\[\n  x^2\n  \\]"]
)
def test_every_way_to_write_a_formula_is_drawn(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in render(text)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("It costs $5 and $6.", "It costs $5 and $6."),
        ("\\(\\frac{a}{\\)", "<code>\\frac{a}{</code>"),
        ("\\(" + "{" * 3000 + "\\)", "{" * 3000),
        ("\\(x", "(x"),
        ("$$x", "$$x"),
    ],
    ids=["prices", "unfinished", "deep", "open", "open block"],
)
def test_what_is_no_formula_is_shown_as_it_was_written(text: str, seen: str) -> None:
    made = render(text)
    assert "<math" not in made and seen in made


def test_rows_of_an_aligned_formula_are_rows() -> None:
    made = render("\\[\n\\begin{aligned}a&=b\\\\c&=d\\end{aligned}\n\\]")
    assert made.count("<mtr>") == 2 and "(1)" not in made
    assert 'class="boxed"' in render("\\(\\boxed{36}\\)")


def test_code_is_coloured_and_can_be_copied() -> None:
    made = render("```python\nx = 1 < 2\n```")
    assert '<button class="copy-code" type="button"></button>' in made
    assert '<span class="n">x</span>' in made and "&lt;" in made
