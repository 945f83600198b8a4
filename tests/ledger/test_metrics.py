"""metrics.jsonl after kills and restarts equals that of a run which was never stopped."""

import json
from pathlib import Path

import pytest

from dokja.ledger.metrics import TIMING_KEYS, MetricsLog, read_metrics


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "deep" / "metrics.jsonl")
    log.write(1, loss=2.5, note="가")
    log.write(2, loss=2.25)
    assert read_metrics(log.path) == [{"step": 1, "loss": 2.5, "note": "가"}, {"step": 2, "loss": 2.25}]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_tail_is_dropped_and_the_next_line_stands_alone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(4):
        log.write(step, loss=1.0)
    log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2]
    MetricsLog(path).write(3, loss=1.0)
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2, 3]


def test_a_resumed_run_writes_the_file_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = MetricsLog(tmp_path / "whole.jsonl")
    for step in range(10):
        whole.write(step, loss=1 / (step + 1))
    killed = MetricsLog(tmp_path / "killed.jsonl")
    for step in range(8):
        killed.write(step, loss=1 / (step + 1))
    resumed = MetricsLog(tmp_path / "killed.jsonl")
    resumed.truncate_after(4)
    for step in range(5, 10):
        resumed.write(step, loss=1 / (step + 1))
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_truncating_to_before_the_first_step_leaves_an_empty_file(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write(0, loss=1.0)
    log.truncate_after(-1)
    assert read_metrics(log.path) == [] and log.path.read_bytes() == b""


def test_values_that_are_not_finite_stay_valid_json(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write(0, loss=float("nan"), norm=float("inf"))

    def refuse(name: str) -> None:
        raise ValueError(name)

    assert json.loads(log.path.read_text(), parse_constant=refuse) == {"step": 0, "loss": None, "norm": None}


def test_no_metrics_file_has_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []
    assert "loss" not in TIMING_KEYS and "tokens_per_second" in TIMING_KEYS
