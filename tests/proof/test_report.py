import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from run_folder import answer, full_run, judge, write

from dokja.errors import DataError
from dokja.ledger import chain
from dokja.proof.report import page, write_report
from dokja.proof.report_read import read_run

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Elements, attributes and visible text of a page; complains about tags that do not pair."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append((tuple(self.open), data))

    @property
    def text(self):
        return "".join(words for _, words in self.words)

    def sections(self):
        return [a["id"] for tag, a in self.tags if tag == "section"]


@pytest.fixture
def run(tmp_path):
    return full_run(tmp_path / "small")


def test_page_of_a_whole_run_is_well_formed_and_has_every_section(run):
    found = Page(page(read_run(run)))
    names = ["stages", "accuracy", "samples", "road", "training", "rl", "data", "recipe", "environment"]
    assert found.sections() == names
    for figure in ("75.0\u00a0%", "25.0\u00a0%", "+50.0", "1.5 GB", "3,000", "2.91", "1.400", "1.500", "64 · scale"):
        assert figure in found.text, figure
    assert chain.read_chain(run)[-1]["hash"] in found.text


def test_page_loads_nothing_and_runs_nothing(run):
    html = page(read_run(run))
    found = Page(html)
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "video", "audio"}
    assert not loading & {tag for tag, _ in found.tags}
    for tag, attrs in found.tags:
        assert not {"src", "href", "xlink:href", "srcset", "background", "poster"} & attrs.keys(), tag
        assert not [name for name in attrs if name.startswith("on")], tag
    assert not re.search(r"https?:|url\(|@import|//[a-z]", html)
    policy = next(a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</div></details></article></main><h1>owned</h1>",
    "<!-- <style>body{display:none}</style>",
    "&lt;b&gt; &amp; {braces} %s",
    "정답 \u202e거꾸로 \x00\x1b[31m",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_anywhere_stays_text(tmp_path, text):
    run = full_run(tmp_path / "x")
    calm = Page(page(read_run(run)))
    kw = {"prompt": text, "reasoning": text, "answer": text, "reference": text, "task": "add", "score": 0.0}
    shutil.rmtree(run / "judge")
    judge(run, [answer(0, reason=text, **kw), answer(1, **kw), answer(2, task=text)])
    write(run / "recipe.json", {"name": text, text: {text: text}, "release": {"name": text}})
    write(run / "pretrain" / "samples.jsonl", "{}\n" + json.dumps({"step": text, "prompt": text, "text": text}) + "\n")
    write(run / "tokenizer" / "figures.json", {"bytes_per_token": {text: 1.0}})
    texts = {
        "sources": {text: {"language": text, "bytes": 9, "model": 1.0, "xz": 2.0}},
        "settings": {"ngram_order": text},
    }
    write(run / "judge" / "texts.json", texts)
    html = page(read_run(run))
    found = Page(html)
    shown = text.replace("\x00", "␀").replace("\x1b", "␛").replace("\u202e", "\ufffd")
    assert found.text.count(shown) >= 10
    assert {t for t, _ in found.tags} <= {t for t, _ in calm.tags} | {"small"}
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", html)


def test_missing_stages_leave_out_their_sections_and_nothing_breaks(tmp_path):
    whole = full_run(tmp_path / "whole")
    expected = {
        "judge": {"stages", "accuracy", "samples"},
        "pretrain": set(),
        "sft": set(),
        "preference": set(),
        "rl": {"rl"},
        "tokenizer": set(),
        "shards": set(),
        "release": set(),
        "recipe.json": {"recipe"},
    }
    for name, gone in expected.items():
        run = tmp_path / f"without-{name}"
        shutil.copytree(whole, run)
        shutil.rmtree(run / name) if (run / name).is_dir() else [(run / f).unlink() for f in (name, "derived.json")]
        assert set(Page(page(read_run(whole))).sections()) - set(Page(page(read_run(run))).sections()) == gone, name


def test_an_empty_run_folder_gives_a_page_and_no_folder_a_sentence(tmp_path):
    (tmp_path / "bare").mkdir()
    found = Page(page(read_run(tmp_path / "bare")))
    assert found.sections() == [] and "bare" in found.text
    with pytest.raises(DataError, match="no run folder"):
        write_report(tmp_path / "nowhere", tmp_path)


def test_damaged_files_are_named_and_the_rest_is_shown(run):
    (run / "judge" / "summary.json").write_text('{"headline": ')
    lines = (run / "judge" / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "judge" / "records.jsonl").write_text("garbage\n" + "".join(lines))
    with open(run / "sft" / "metrics.jsonl", "a") as file:
        file.write('{"step": 31, "lo')
    found = Page(page(read_run(run)))
    assert found.sections() == ["stages", "road", "training", "rl", "data", "recipe", "environment"]
    assert "summary.json" in found.text and "Line 1" in found.text


def test_a_broken_ledger_is_said_to_be_broken(run):
    chain.append(run, {"kind": "manifest", "stage": "sft"})
    path = run / "ledger.jsonl"
    assert "The chain holds." in Page(page(read_run(run))).text
    path.write_text(path.read_text().replace('"corpus"', '"corpse"'))
    found = Page(page(read_run(run)))
    assert "The chain does not hold:" in found.text and "line 1 was edited" in found.text


def test_both_languages_are_in_the_page_and_one_is_chosen(run):
    for code in ("en", "ko"):
        html = page(read_run(run), code)
        assert f'id="pick-{code}" checked' in html and html.count(" checked") == 1 and f'<html lang="{code}">' in html
        found = Page(html)
        assert "Gain from thinking" in found.text and "생각의 효과" in found.text
        by_language = {c: sum(1 for t, a in found.tags if t == "span" and a.get("lang") == c) for c in ("en", "ko")}
        assert by_language["en"] == by_language["ko"] > 50


def test_report_is_a_pure_reader_and_gives_the_same_bytes_twice(run, tmp_path):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    first = write_report(run, tmp_path / "a" / "report.html")
    second = write_report(run, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes() and second.name == "report.html"
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_samples_show_both_languages_modes_and_verdicts(run):
    html = page(read_run(run))
    section = html[html.index('id="samples"') : html.index('id="road"')]
    assert section.count("<article") == 16
    assert section.count("✓") == section.count("✗") == 8
    assert len(re.findall(r'<p class="say" lang="ko">', section)) == 8


def test_rows_of_repeats_show_more_than_one_try(tmp_path):
    run = full_run(tmp_path / "r")
    shutil.rmtree(run / "judge")
    judge(run, [answer(n, repeat=r, score=float(r == 0)) for n in range(3) for r in range(2)])
    assert "at least one of k right" in Page(page(read_run(run))).text


def test_a_mixture_of_experts_shows_how_evenly_it_was_used_and_a_dense_model_does_not(run):
    assert "busiest expert" not in Page(page(read_run(run))).text
    path = run / "pretrain" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    loads = {"expert_load_worst": 2.5, "expert_load_mean": 1.25, "experts_dead": 0.125}
    path.write_text("".join(json.dumps({**row, **loads}) + "\n" for row in rows))
    found = Page(page(read_run(run))).text
    for words in ("busiest expert", "worst layer", "가장 바쁜 전문가의 몫", "Experts without a token"):
        assert words in found
