import io
import json
from statistics import fmean

import pytest
from rich.console import Console
from test_records import record

from dokja.errors import DataError
from dokja.judge.records import RecordLog, Sampling, Usage
from dokja.judge.stages import compare, print_stages, write_stages
from dokja.judge.stats import mean_over_problems, paired_difference


def stage(folder, think, direct=(), tokens=20, start=0, **kw):
    """A judged folder with one answer per score, problems numbered from `start`, Korean where the number is even."""
    with RecordLog(folder) as log:
        for mode, scores in (("think", think), ("direct", direct)):
            for n, score in enumerate(scores, start):
                length = (tokens[n - start] if isinstance(tokens, list) else tokens) if mode == "think" else 0
                log.append(
                    record(n, mode=mode, score=score, language="ko" if n % 2 == 0 else "en",
                           usage=Usage(5, length + 4, length), **kw)
                )  # fmt: skip
    return folder


def row(table, name, mode="think", language=None):
    rows = next(s["rows"] for s in table["stages"] if s["stage"] == name)
    return next(r for r in rows if (r["mode"], r["language"]) == (mode, language))


def test_figures_of_each_stage_are_those_counted_by_hand(tmp_path):
    sft = stage(tmp_path / "a", [1.0, 0.0] * 10, [0.0] * 20, tokens=30)
    rl = stage(tmp_path / "b", [1.0] * 20, [1.0, 0.0] * 10, tokens=20)
    table = compare({"sft": sft, "rl": rl})
    assert [s["stage"] for s in table["stages"]] == ["sft", "rl"] and table["reference"] == "sft"
    assert row(table, "sft")["score"]["value"] == 0.5 and row(table, "sft")["difference"] is None
    assert row(table, "sft", "think", "ko")["score"]["value"] == 1.0  # even problems are Korean
    assert row(table, "sft", "think", "en")["score"]["value"] == 0.0
    assert row(table, "rl")["thought_tokens"] == {"value": 20.0, "low": 20.0, "high": 20.0, "n": 20}
    assert row(table, "rl", "direct")["thought_tokens"] is None
    change = row(table, "rl")["difference"]
    assert (change["score"]["value"], change["gained"], change["lost"]) == (0.5, 10, 0)
    assert change["thought_tokens"]["value"] == -10.0
    assert row(table, "rl", "direct")["difference"]["gained"] == 10
    expected = mean_over_problems([[1.0], [0.0]] * 10)
    assert (row(table, "sft")["score"]["low"], row(table, "sft")["score"]["high"]) == (expected.low, expected.high)


def test_the_bootstrap_agrees_with_student_where_both_hold(tmp_path):
    before = [float(n % 5 > 1) for n in range(300)]
    after = [float(n % 7 > 0) for n in range(300)]
    lengths = [20 + n % 9 for n in range(300)]
    table = compare(
        {"sft": stage(tmp_path / "a", before, tokens=30), "rl": stage(tmp_path / "b", after, tokens=lengths)}
    )
    change = row(table, "rl")["difference"]
    t = paired_difference([[x] for x in after], [[x] for x in before])
    assert change["score"]["value"] == pytest.approx(t.value)
    assert (change["score"]["low"], change["score"]["high"]) == pytest.approx((t.low, t.high), abs=0.01)
    assert change["thought_tokens"]["value"] == pytest.approx(fmean(lengths) - 30)
    assert change["thought_tokens"]["low"] < fmean(lengths) - 30 < change["thought_tokens"]["high"]


def test_pairing_is_sharper_than_the_two_intervals(tmp_path):
    before = [float(n % 2) for n in range(200)]
    after = [1.0 if n % 10 == 0 else x for n, x in enumerate(before)]  # a tenth of the problems were gained, none lost
    change = row(compare({"sft": stage(tmp_path / "a", before), "rl": stage(tmp_path / "b", after)}), "rl")[
        "difference"
    ]
    assert change["score"]["low"] > 0 and (change["gained"], change["lost"]) == (20, 0)
    alone = mean_over_problems([[x] for x in before])
    assert change["score"]["high"] - change["score"]["low"] < alone.high - alone.low


def test_the_order_of_records_and_a_second_call_change_nothing(tmp_path):
    scores = [float(n % 3 > 0) for n in range(40)]
    a = {"sft": stage(tmp_path / "a", scores), "rl": stage(tmp_path / "b", scores[::-1])}
    assert json.dumps(compare(a)) == json.dumps(compare(a))
    lines = (tmp_path / "b" / "records.jsonl").read_text().splitlines(keepends=True)
    before = row(compare(a), "rl")
    (tmp_path / "b" / "records.jsonl").write_text("".join(lines[::-1]))
    assert row(compare(a), "rl") == before


def test_equal_answers_are_no_certainty(tmp_path):
    change = row(compare({n: stage(tmp_path / n, [1.0] * 20) for n in ("sft", "rl")}), "rl")["difference"]
    assert change["score"]["value"] == 0 and change["score"]["low"] < 0 < change["score"]["high"]


def test_only_problems_that_both_answered_are_paired(tmp_path):
    table = compare({"sft": stage(tmp_path / "a", [0.0] * 10), "rl": stage(tmp_path / "b", [1.0] * 10, start=6)})
    assert row(table, "rl")["difference"]["score"]["n"] == 4 and row(table, "rl")["problems"] == 10
    table = compare({"sft": stage(tmp_path / "c", [0.0] * 4), "rl": stage(tmp_path / "d", [1.0] * 4, start=90)})
    assert row(table, "rl")["difference"] is None


def test_a_mode_that_the_first_stage_lacks_has_no_difference(tmp_path):
    table = compare({"sft": stage(tmp_path / "a", [1.0]), "rl": stage(tmp_path / "b", [1.0], [1.0])})
    assert row(table, "rl", "direct")["difference"] is None and row(table, "rl")["difference"] is not None


@pytest.mark.parametrize("kw", [{"sampling": Sampling(0.7, 1.0, 64, None)}, {"grader_version": "other"}])
def test_stages_asked_in_another_way_are_refused(tmp_path, kw):
    with pytest.raises(DataError, match="judged with another"):
        compare({"sft": stage(tmp_path / "a", [1.0]), "rl": stage(tmp_path / "b", [1.0], **kw)})


def test_a_stage_without_answers_is_named(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "records.jsonl").write_text("")
    with pytest.raises(DataError, match="The stage rl has no answers"):
        compare({"sft": stage(tmp_path / "a", [1.0]), "rl": tmp_path / "b"})
    with pytest.raises(DataError, match="no records"):
        compare({"sft": tmp_path / "nowhere"})


def test_the_file_is_strict_json_and_the_print_holds_its_figures(tmp_path):
    table = compare(
        {"sft": stage(tmp_path / "a", [1.0, 0.0] * 20, [0.0] * 40), "rl": stage(tmp_path / "b", [1.0] * 40, [0.0] * 40)}
    )
    path = write_stages(tmp_path, table)
    assert json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name)) == table
    console = Console(file=io.StringIO(), width=80)
    print_stages(table, console)
    said = console.file.getvalue()
    assert "50.0 [35, 65]" in said and "100.0 [91, 100]" in said
    assert "rl − sft, thinking: +50.0 points [" in said and "(40 problems)" in said
    assert "at once: +0.0 points [−" in said
