"""`dokja compare`, `show scores` and `show index` as a person types them."""

from pathlib import Path

import pytest
from test_main import type_in
from test_records import record

from dokja.judge.records import RecordLog


def judged(folder: Path, right: int) -> Path:
    """A folder with answers to twelve problems."""
    with RecordLog(folder) as log:
        for n in range(12):
            log.append(record(n, score=float(n < right), model=folder.name, model_sha256=folder.name))
    return folder


def test_compare_prints_the_table_and_writes_the_page(tmp_path: Path) -> None:
    a, b = judged(tmp_path / "a", 6), judged(tmp_path / "b", 11)
    done = type_in(
        "compare", str(a), str(b), "--names", "old,new", "--html", str(tmp_path / "c.html"), "--language", "ko"
    )
    assert done.returncode == 0, done.stderr
    assert "new − old" in done.stdout and "+41.7" in done.stdout
    assert '<html lang="ko">' in (tmp_path / "c.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["compare", "only"], "needs two judged models"),
        (["compare", "nowhere", "else"], "There is no model 'nowhere'"),
        (["compare", ".", "src", "--names", "a"], "1 names for 2 models"),
        (["show", "scores", "no such model"], "No published table"),
        (["show", "index", "aaii-9"], "There is no index 'aaii-9'"),
    ],
)
def test_an_error_is_one_sentence(arguments: list[str], part: str) -> None:
    done = type_in(*arguments)
    assert done.returncode == 2 and part in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_scores_are_listed_with_who_measured_them_and_what_was_said() -> None:
    done = type_in("show", "scores")
    assert done.returncode == 0, done.stderr
    assert "● 92.3" in done.stdout and "○ 90.8" in done.stdout and "52.7†" in done.stdout
    assert "contradicted: LiveCodeBench v6" in done.stdout and "no source: Training efficiency" in done.stdout
    found = type_in("show", "scores", "KoBALT").stdout
    assert "61.8" in found and "MMLU" not in found


def test_indexes_are_listed_explained_and_filled_in(tmp_path: Path) -> None:
    assert "aaii-4.3.2" in type_in("show", "index").stdout
    explained = type_in("show", "index", "aaii-2.0").stdout
    assert "1/6 = 16.6667" in explained and "recalled, not read" in explained
    values = tmp_path / "values.toml"
    values.write_text('["m"]\nmmlu_pro = 80\nhle = 10\n', encoding="utf-8")
    filled = type_in("show", "index", "aaii-2.0", "--of", str(values)).stdout
    assert "13.33" in filled and "m: partial, 33 % of the weight is there" in filled
