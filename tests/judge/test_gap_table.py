import io
from datetime import date

import pytest
from rich.console import Console

from dokja.errors import DataError
from dokja.judge.gap_table import gaps, print_gaps, split_dates
from dokja.judge.index import score

PARTS = ("mmlu_pro", "hle", "gpqa_diamond", "aime_2025", "ifbench", "scicode", "livecodebench", "aa_lcr")


def field():
    """Three models that get better every four months, a late one as good as the second, one that was half measured."""
    levels = {"one": (20, 1), "two": (40, 5), "three": (60, 9), "late": (40, 11), "part": (50, 10)}
    out = {
        name: {**{p: level + n for n, p in enumerate(PARTS)}, "released": date(2025, month, 1)}
        for name, (level, month) in levels.items()
    }
    del out["part"]["hle"]
    return out


def table():
    inputs, released = split_dates(field())
    rows, rate = gaps(score("aaii-2.2", inputs), released)
    return {row.model: row for row in rows}, rate


def test_every_estimator_says_its_name_and_what_it_compares_with():
    rows, rate = table()
    late = rows["late"]
    assert [g.method for g in late.gaps] == ["linear_rate", "linear_rate", "catch_up", "capability"]
    assert late.share == pytest.approx(43.5 / 63.5)
    assert late.gaps[0].months == pytest.approx((1 - late.share) / 0.03)
    assert late.gaps[1].months == pytest.approx((1 - late.share) / rate)
    assert rate == pytest.approx(5 / 63.5, rel=0.02)
    assert late.gaps[2].months == late.gaps[3].months == pytest.approx(6.05, abs=0.01)


def test_a_partial_score_has_an_ability_and_nothing_else():
    row = table()[0]["part"]
    assert row.share is None and row.gaps[:3] == (None, None, None)
    assert row.gaps[3].passed_by == "three" and row.gaps[3].months == pytest.approx(1.0, abs=0.05)


def test_the_leader_leads_and_is_at_the_frontier():
    row = table()[0]["three"]
    assert row.share == 1 and row.gaps[0].months == 0 and row.gaps[2].months is None


def test_two_models_are_too_few_for_abilities():
    inputs, released = split_dates({k: v for k, v in field().items() if k in ("one", "two")})
    rows, _ = gaps(score("aaii-2.2", inputs), released)
    assert all(row.gaps[3] is None for row in rows)


def test_the_table_tells_leading_from_not_knowing():
    console = Console(file=io.StringIO(), width=140)
    rows, rate = table()
    print_gaps(list(rows.values()), rate, console)
    lines = {line.split()[0]: line.split() for line in console.file.getvalue().splitlines() if line.strip()}
    assert lines["three"][1:] == ["100.0", "%", "0.0", "0.0", "leads", "leads"]
    assert lines["part"][1:] == ["–", "–", "–", "–", "1.0"]


def test_a_date_in_quotes_is_refused():
    with pytest.raises(DataError, match="without quotes"):
        split_dates({"m": {"released": "2025-07-15"}})
