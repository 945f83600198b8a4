"""The table of the documentation has one row per objective that exists, in both languages."""

import re
from pathlib import Path

import pytest

from dokja.train.objectives import OBJECTIVES
from dokja.train.objectives.policy import POLICY
from dokja.train.objectives.preference import PREFERENCE

DOCS = Path(__file__).parents[3] / "docs"
NAMES = ["language", "sft", *PREFERENCE, *POLICY]


def rows(file: str) -> dict[str, list[str]]:
    """name -> the other cells of its row."""
    found: dict[str, list[str]] = {}
    for line in (DOCS / file).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            name = cells[0].strip("`")
            assert name not in found, f"{name} has two rows"
            found[name] = cells[1:]
    return found


@pytest.mark.parametrize("file", ["objectives.md", "objectives.ko.md"])
def test_every_objective_has_its_row_and_no_other_has(file) -> None:
    assert sorted(rows(file)) == sorted(NAMES)
    assert set(OBJECTIVES) >= {"language", "sft"}


@pytest.mark.parametrize("file", ["objectives.md", "objectives.ko.md"])
def test_every_row_is_full_and_cites_its_paper(file) -> None:
    for name, cells in rows(file).items():
        assert len(cells) == 7 and all(cells), name
        assert re.search(r"arXiv \d{4}\.\d{5}", cells[5]) or name in {"language", "sft"}, name


def test_both_languages_cite_the_same_papers_and_write_the_same_formulas() -> None:
    english, korean = rows("objectives.md"), rows("objectives.ko.md")
    for name in [*PREFERENCE, *POLICY]:
        ids = [re.findall(r"arXiv [\d.]+\d", table[name][5]) for table in (english, korean)]
        assert ids[0] == ids[1], name
        assert english[name][0] == korean[name][0].replace("또는", "or"), name


@pytest.mark.parametrize("name", sorted({*POLICY, *PREFERENCE}))
def test_the_docstring_cites_the_paper_of_the_table(name) -> None:
    paper = re.findall(r"\d{4}\.\d{5}", rows("objectives.md")[name][5])[0]
    assert paper in ({**POLICY, **PREFERENCE}[name].__doc__ or "")
