import io
import json

import pytest
from rich.console import Console
from test_records import record

from dokja.errors import DataError
from dokja.judge.compare import Side, compare_sides, find_records, read_side
from dokja.judge.compare_table import print_comparison, write_json
from dokja.judge.records import RecordLog, Sampling, Usage
from dokja.judge.resolution import mcnemar
from dokja.judge.stats import mean_over_problems, paired_difference


def answers(scores, task="add", mode="think", language="ko", **kw):
    """One record per score; scores of one inner list are repeats of a problem."""
    return [
        record(task=task, mode=mode, language=language, problem_id=f"{task}-{language}-{i}", repeat=j, score=s,
               reason="right" if s == 1 else "wrong", prompt=f"{task} {i}", **kw)
        for i, repeats in enumerate(scores)
        for j, s in enumerate(repeats)
    ]  # fmt: skip


def side(name, records, tmp_path, **facts):
    return Side(name, tmp_path / name, records, facts)


def pair(tmp_path):
    """Thirty problems of two families; the second model solves ten more of `add` and as many of `sort`."""
    first = [*answers([[1.0]] * 5 + [[0.0]] * 15), *answers([[1.0]] * 5 + [[0.0]] * 5, "sort", language="en")]
    second = [*answers([[1.0]] * 15 + [[0.0]] * 5), *answers([[0.0]] * 5 + [[1.0]] * 5, "sort", language="en")]
    return [side("a", first, tmp_path), side("b", [r for r in second], tmp_path)]


def row(comparison, kind, name, mode="think"):
    return next(r for r in comparison.rows if (r.kind, r.name, r.mode) == (kind, name, mode))


def test_rows_hold_the_figures_counted_by_hand(tmp_path):
    found = row(compare_sides(pair(tmp_path)), "task", "add")
    change = found.changes[0]
    assert [b.score for b in found.bars] == [mean_over_problems([[1.0]] * n + [[0.0]] * (20 - n)) for n in (5, 15)]
    expected = paired_difference([[1.0]] * 15 + [[0.0]] * 5, [[1.0]] * 5 + [[0.0]] * 15)
    assert change.difference == expected and (change.gained, change.lost, found.problems) == (10, 0, 20)
    assert change.p == mcnemar(10, 0) and change.verdict == "better"


def test_many_rows_are_corrected_and_the_row_of_all_is_not(tmp_path):
    comparison = compare_sides(pair(tmp_path))
    add, sort = row(comparison, "task", "add").changes[0], row(comparison, "task", "sort").changes[0]
    assert add.adjusted_p == pytest.approx(2 * add.p) and sort.adjusted_p == sort.p == 1.0
    whole = row(comparison, "all", None).changes[0]
    assert whole.adjusted_p == whole.p == mcnemar(15, 5)


def test_no_difference_is_called_when_many_rows_were_looked_at(tmp_path):
    """p = 0.0312 in one of ten rows: worth nothing once ten were looked at."""
    one, two = [], []
    for n in range(10):
        one += answers([[0.0]] * 12, f"t{n}")
        two += answers(([[1.0]] * 6 + [[0.0]] * 6) if n == 0 else [[0.0]] * 12, f"t{n}")
    found = row(compare_sides([side("a", one, tmp_path), side("b", two, tmp_path)]), "task", "t0").changes[0]
    assert found.p < 0.05 <= found.adjusted_p and found.verdict == "not told apart"


def test_only_questions_that_all_answered_count(tmp_path):
    a, b = answers([[1.0]] * 12), answers([[1.0]] * 20)
    comparison = compare_sides([side("a", a, tmp_path), side("b", b, tmp_path)])
    assert row(comparison, "all", None).problems == 12 and ("not_shared", "8") in comparison.notes


def test_one_id_with_two_questions_is_left_out(tmp_path):
    a, b = answers([[1.0]] * 12), answers([[1.0]] * 12)
    b[3] = record(**{**vars(b[3]), "prompt": "another question"})
    comparison = compare_sides([side("a", a, tmp_path), side("b", b, tmp_path)])
    assert row(comparison, "all", None).problems == 11 and ("other_texts", "1") in comparison.notes


def test_models_without_a_common_mode_are_refused(tmp_path):
    sides = [side("a", answers([[1.0]] * 3), tmp_path), side("b", answers([[1.0]] * 3, mode="direct"), tmp_path)]
    with pytest.raises(DataError, match="a and b have no question in common"):
        compare_sides(sides)


def test_what_was_not_asked_alike_is_said(tmp_path):
    a = answers([[1.0]] * 3)
    b = answers([[1.0]] * 3, sampling=Sampling(0.6, 0.95, 64, None), grader_version="other", model_sha256="z")
    notes = dict(compare_sides([side("a", a, tmp_path), side("b", b, tmp_path)]).notes)
    assert set(notes) == {"sampling", "grader_version"} and "temperature 0.6" in notes["sampling"]
    same = dict(compare_sides([side("a", a, tmp_path), side("b", answers([[0.0]] * 3), tmp_path)]).notes)
    assert set(same) == {"same_weights"}


def test_failures_are_counted_beside_the_score(tmp_path):
    b = answers([[1.0]] * 4)
    b[0] = record(**{**vars(b[0]), "score": 0.0, "reason": "truncated"})
    b[1] = record(**{**vars(b[1]), "score": 0.0, "reason": "grader_failed"})
    bar = row(compare_sides([side("a", answers([[1.0]] * 4), tmp_path), side("b", b, tmp_path)]), "all", None).bars[1]
    assert (bar.truncated, bar.grader_failed, bar.unparseable, bar.refused, bar.answers) == (1, 1, 0, 0, 4)


def test_agreement_everywhere_does_not_promise_to_show_everything(tmp_path):
    sides = [side(n, answers([[1.0, 1.0]] * 20), tmp_path) for n in "ab"]
    change = row(compare_sides(sides), "all", None).changes[0]
    assert (
        change.detectable == pytest.approx((change.difference.high - change.difference.low) / 2)
        and change.detectable > 0.1
    )


def test_more_models_are_each_compared_with_the_first(tmp_path):
    sides = [side(n, answers([[1.0]] * k + [[0.0]] * (20 - k)), tmp_path) for n, k in (("a", 10), ("b", 12), ("c", 2))]
    found = row(compare_sides(sides), "all", None)
    assert [round(c.difference.value, 2) for c in found.changes] == [0.1, -0.4]
    assert [c.verdict for c in found.changes] == ["not told apart", "worse"]


def test_swapping_the_models_turns_the_sign(tmp_path):
    there, back = compare_sides(pair(tmp_path)), compare_sides(pair(tmp_path)[::-1])
    for one, two in zip(there.rows, back.rows, strict=True):
        x, y = one.changes[0], two.changes[0]
        assert (x.difference.value, x.gained, x.p) == (pytest.approx(-y.difference.value), y.lost, y.p)


def test_models_of_one_name_take_their_folders(tmp_path):
    a, b = (Side("tiny", tmp_path / n / "judge", answers([[1.0]] * 2)) for n in ("old", "new"))
    assert [s.name for s in compare_sides([a, b]).sides] == ["old/judge", "new/judge"]


def test_what_a_mode_took_is_known_from_records_and_facts(tmp_path):
    records = answers([[1.0]] * 4, usage=Usage(1000, 500, 400), seconds=2.0)
    spent = side("a", records, tmp_path, parameters=1e6, input_price=1.0, output_price=2.0).spent("think")
    assert spent == {"parameters": 1e6, "tokens": 500, "seconds": 2.0, "cost": pytest.approx(4 * 2000 / 1e6)}
    assert side("a", records, tmp_path).spent("think")["cost"] is None


def folder(path, records, **settings):
    with RecordLog(path) as log:
        for each in records:
            log.append(each)
    (path / "summary.json").write_text(json.dumps({"settings": settings}), encoding="utf-8")
    return path


def test_records_are_found_in_runs_and_judged_folders(tmp_path):
    inside = folder(tmp_path / "run" / "judge", answers([[1.0]]), parameters=7)
    assert find_records(tmp_path / "run") == find_records(inside) == inside
    assert read_side(tmp_path / "run").facts == {"parameters": 7} and read_side(inside, "me").name == "me"
    folder(tmp_path / "run" / "judge-1234", answers([[1.0]]))
    with pytest.raises(DataError, match=r"more than once \(judge, judge-1234\)"):
        find_records(tmp_path / "run")
    with pytest.raises(DataError, match="no records in"):
        find_records(tmp_path)


def test_facts_of_a_file_add_to_those_known(tmp_path):
    inside = folder(tmp_path / "judge", answers([[1.0]]), parameters=7)
    assert read_side(inside, "me", {"me": {"input_price": 2}}).facts == {"parameters": 7, "input_price": 2.0}
    for bad in ({"price": 2}, {"input_price": "2"}, {"input_price": -1}):
        with pytest.raises(DataError, match="is no fact"):
            read_side(inside, "me", {"me": bad})


def test_table_and_file_show_every_row(tmp_path):
    comparison = compare_sides(pair(tmp_path))
    console = Console(file=io.StringIO(), width=160)
    print_comparison(comparison, console)
    text = console.file.getvalue()
    assert "75.0 [53, 89]" in text and "+50.0 [+26.0, +74.0]*" in text and "sort" in text and "same weights" in text
    read = json.loads(write_json(comparison, tmp_path / "out" / "c.json").read_text(encoding="utf-8"))
    assert len(read["rows"]) == len(comparison.rows) and read["models"][1]["name"] == "b"
    assert read["rows"][0]["changes"][0]["difference"]["n"] == 30
