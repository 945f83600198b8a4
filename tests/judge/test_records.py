import dataclasses
import json

import pytest

from dokja.errors import DataError
from dokja.judge.records import Record, RecordLog, Sampling, Usage, read_records


def record(n: int = 0, **kw) -> Record:
    values = {
        "task": "add", "problem_id": f"p{n}", "level": 1, "language": "ko", "mode": "think", "repeat": 0,
        "prompt": "1 + 1은?", "prompt_sha256": "a", "raw": "둘</think>2<|end|>", "reasoning": "둘", "answer": "2",
        "extracted": "2", "reference": "2", "score": 1.0, "reason": "right", "detail": "", "finish": "stop",
        "forced": False, "wrong_mode": False, "seed": 7, "sampling": Sampling(0.0, 1.0, 64, None), "seconds": 0.5,
        "model": "m", "model_sha256": "b", "template_sha256": "c", "grader_version": "d", "usage": Usage(5, 4, 2),
    }  # fmt: skip
    return Record(**{**values, **kw})


def test_records_come_back_as_they_were_written(tmp_path):
    odd = record(1, raw="줄\n바꿈\u2028 \x00 <|end|>", extracted=None, detail='"', sampling=Sampling(0.7, 0.9, 8, 4))
    with RecordLog(tmp_path) as log:
        log.append(record(0))
        log.append(odd)
    assert read_records(tmp_path) == read_records(tmp_path / "records.jsonl") == [record(0), odd]


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_torn_tail_is_dropped_wherever_it_was_cut(tmp_path, cut):
    with RecordLog(tmp_path) as log:
        log.append(record(0))
        log.append(record(1))
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_records(path) == [record(0)]
    with RecordLog(tmp_path) as log:
        assert list(log.records.values()) == [record(0)]
        log.append(record(2))
    assert read_records(path) == [record(0), record(2)]


def test_damage_before_the_last_line_is_named_and_nothing_is_lost(tmp_path):
    path = tmp_path / "records.jsonl"
    for damage in ("{", "[1]", json.dumps({"task": "add"})):
        path.write_text(record(0).to_line() + damage + "\n" + record(1).to_line())
        before = path.read_bytes()
        with pytest.raises(DataError, match="Line 2"):
            read_records(path)
        with pytest.raises(DataError, match="Line 2"):
            RecordLog(tmp_path)
        assert path.read_bytes() == before


def test_missing_records_say_what_to_run(tmp_path):
    with pytest.raises(DataError, match="dokja judge"):
        read_records(tmp_path)


def test_settling_orders_the_file_and_loses_nothing(tmp_path):
    with RecordLog(tmp_path) as log:
        for n in (2, 0, 3, 1):
            log.append(record(n))
        log.settle([record(n).key for n in (0, 1, 2)])
        log.append(record(4))
    assert [r.problem_id for r in read_records(tmp_path)] == ["p0", "p1", "p2", "p3", "p4"]


def test_keys_of_later_versions_are_left_out():
    line = {**dataclasses.asdict(record(0)), "invented_later": 1}
    assert Record.from_dict(line) == record(0)
