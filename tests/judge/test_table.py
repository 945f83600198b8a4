import io
import json

import pytest
from rich.console import Console
from test_records import record

from dokja.judge.records import Usage
from dokja.judge.stats import mean_over_problems, paired_difference
from dokja.judge.table import headline, headline_sentence, print_table, summarise, write_summary


def answers(task, language, mode, scores, **kw):
    """One record per score; scores of one inner list are repeats of a problem."""
    return [
        record(task=task, language=language, mode=mode, problem_id=f"{task}-{language}-{i}", repeat=j, score=s,
               reason="right" if s == 1 else "wrong", **kw)
        for i, repeats in enumerate(scores)
        for j, s in enumerate(repeats)
    ]  # fmt: skip


def suite():
    return [
        *answers("add", "ko", "think", [[1.0]] * 9 + [[0.0]], usage=Usage(5, 30, 20)),
        *answers("add", "en", "think", [[1.0]] * 10, usage=Usage(5, 10, 4)),
        *answers("add", "ko", "direct", [[0.0]] * 10),
        *answers("add", "en", "direct", [[1.0]] + [[0.0]] * 9),
        *answers("parrot", "ko", "think", [[1.0]] * 10),
        *answers("parrot", "en", "think", [[1.0]] * 10),
        *answers("parrot", "ko", "direct", [[1.0]] * 10),
        *answers("parrot", "en", "direct", [[1.0]] * 10),
    ]


def test_headline_figures_are_those_counted_by_hand():
    head = headline(suite(), {"add"})
    assert head.think.value == pytest.approx(39 / 40) and head.direct.value == pytest.approx(21 / 40)
    assert head.gap_needs_steps.value == pytest.approx(18 / 20) and head.gap_needs_steps.n == 20
    assert head.ko_minus_en["think"].value == pytest.approx(-1 / 20)
    assert head.ko_minus_en["direct"].value == pytest.approx(-1 / 20)
    expected = paired_difference([[1.0]] * 9 + [[0.0]] + [[1.0]] * 10, [[0.0]] * 10 + [[1.0]] + [[0.0]] * 9)
    assert head.gap_needs_steps == expected


def test_comparisons_without_both_sides_are_left_out():
    head = headline(answers("add", "ko", "think", [[1.0]]), {"add"})
    assert head.direct is None and head.gap_needs_steps is None and head.ko_minus_en == {}
    assert "at once" not in headline_sentence(head)


def test_order_of_the_records_does_not_change_the_figures():
    assert headline(suite()[::-1], {"add"}) == headline(suite(), {"add"})


def test_rows_partition_the_answers_and_count_what_went_wrong():
    records = suite() + answers("cut", "ko", "think", [[0.0]], wrong_mode=True, forced=True)
    records = [*records, record(task="cut", problem_id="x", reason="truncated", score=0.0)]
    rows = summarise(records, {"add"}).rows
    for group in rows.values():
        assert sum(r.answers for r in group) == len(records)
    cut = next(r for r in rows["task"] if r.task == "cut")
    assert (cut.truncated, cut.wrong_mode, cut.forced, cut.unparseable, cut.problems) == (1, 1, 1, 0, 2)
    ko = next(r for r in rows["cell"] if (r.task, r.language, r.mode) == ("add", "ko", "think"))
    assert (ko.thought_tokens, ko.completion_tokens) == (20, 30) and ko.score == mean_over_problems(
        [[1.0]] * 9 + [[0.0]]
    )


def test_pass_at_k_of_a_row_is_the_mean_over_its_problems():
    row = summarise(answers("add", "ko", "think", [[1, 0, 0, 0], [1, 1, 0, 0]])).rows["overall"][0]
    assert row.pass_at == {1: pytest.approx(3 / 8), 2: pytest.approx((1 / 2 + 5 / 6) / 2), 4: 1.0}
    assert row.pass_hat == {1: pytest.approx(3 / 8), 2: pytest.approx(1 / 12), 4: 0.0}
    assert row.score.value == row.pass_at[1] == pytest.approx(row.cons_at[1])


def test_votes_of_a_row_share_their_ties():
    """Two of four right against one wrong answer given twice: a tie; three of four right: a win."""
    row = summarise(answers("add", "ko", "think", [[1, 1, 0, 0], [1, 1, 1, 0]], extracted="7")).rows["overall"][0]
    assert row.cons_at == {1: pytest.approx(5 / 8), 2: pytest.approx(5 / 8), 4: pytest.approx(3 / 4)}


def test_summary_file_is_strict_json_with_every_row(tmp_path):
    path = write_summary(tmp_path, summarise(suite(), {"add"}, {"repeats": 1}))
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read["headline"]["think"]["value"] == pytest.approx(39 / 40) and read["settings"]["needs_steps"] == ["add"]
    assert len(read["rows"]["cell"]) == 8 and read["rows"]["overall"][0]["pass_at"] == {"1": pytest.approx(39 / 40)}


def test_printed_table_shows_each_family_and_the_headline():
    console = Console(file=io.StringIO(), width=160)
    print_table(summarise(suite(), {"add"}), console)
    text = console.file.getvalue()
    assert "90 [60, 98]" in text and "parrot" in text and "0 of 80 answers in the wrong mode" in text


def test_nothing_to_summarise_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match="no records"):
        summarise([])
