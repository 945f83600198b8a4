"""The hash chain: whatever is done to a line is found."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dokja.errors import DataError
from dokja.ledger.chain import append, append_once, read_chain, verify
from dokja.ledger.hashing import sha256_json


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for step in range(5):
        append(tmp_path, {"kind": "checkpoint", "step": step, "이름": "독자"})
    return tmp_path


def lines(run: Path) -> list[str]:
    return (run / "ledger.jsonl").read_text(encoding="utf-8").splitlines()


def rewrite(run: Path, new: list[str]) -> None:
    (run / "ledger.jsonl").write_text("".join(f"{line}\n" for line in new), encoding="utf-8")


def test_a_chain_as_written_has_no_problems(run: Path) -> None:
    assert verify(run) == []
    entries = read_chain(run)
    assert [entry["n"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry["prev"] for entry in entries[1:]] == [entry["hash"] for entry in entries[:-1]]
    assert entries[2]["이름"] == "독자"


def test_no_ledger_yet_is_no_problem(tmp_path: Path) -> None:
    assert verify(tmp_path) == [] and read_chain(tmp_path) == []


def edit(line: str, **change: Any) -> str:
    return json.dumps({**json.loads(line), **change}, ensure_ascii=False)


def rehash(line: str, **change: Any) -> str:
    body = {**json.loads(line), **change}
    del body["hash"]
    return json.dumps({**body, "hash": sha256_json(body)}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("tamper", "word"),
    [
        (lambda old: [*old[:2], edit(old[2], step=99), *old[3:]], "line 3 was edited"),
        (lambda old: [*old[:2], rehash(old[2], step=99), *old[3:]], "line 4 does not follow"),
        (lambda old: [*old[:2], *old[3:]], "line 3 does not follow"),
        (lambda old: old[1:], "line 1 does not follow"),
        (lambda old: [*old[:2], old[3], old[2], old[4]], "line 3"),
        (lambda old: [*old[:2], old[1], *old[2:]], "line 3"),
        (lambda old: [*old[:2], "{}", *old[3:]], "line 3 is not a ledger entry"),
        (lambda old: [*old[:4], rehash(old[4], n=9)], "line 5 is entry 9 where 4 should be"),
    ],
    ids=["edited", "edited and rehashed", "removed", "first removed", "swapped", "repeated", "no entry", "renumbered"],
)
def test_tampering_is_found(run: Path, tamper, word: str) -> None:  # type: ignore[no-untyped-def]
    rewrite(run, tamper(lines(run)))
    problems = verify(run)
    assert any(word in problem for problem in problems), problems


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_torn_last_line_is_reported_then_dropped_with_a_notice(
    run: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = run / "ledger.jsonl"
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[:keep])
    assert len(verify(run)) == 1 and "torn" in verify(run)[0]
    with caplog.at_level(logging.WARNING):
        append(run, {"kind": "checkpoint", "step": 4})
    assert "torn last line" in caplog.text
    assert verify(run) == [] and [entry["step"] for entry in read_chain(run)] == [0, 1, 2, 3, 4]


def test_an_append_to_a_damaged_chain_is_refused(run: Path) -> None:
    rewrite(run, [*lines(run)[:2], "garbage", *lines(run)[3:]])
    with pytest.raises(DataError, match="line 3"):
        append(run, {"kind": "more"})


def test_the_same_event_is_entered_once(run: Path) -> None:
    entry = {"kind": "manifest", "stage": "sft", "key": "abc", "sha256": "1"}
    first = append_once(run, entry, ("stage", "key"))
    before = lines(run)
    assert append_once(run, entry, ("stage", "key")) == first and lines(run) == before
    append_once(run, {**entry, "key": "def"}, ("stage", "key"))
    append_once(run, {**entry, "kind": "release"}, ("stage", "key"))
    assert len(lines(run)) == len(before) + 2 and verify(run) == []


@pytest.mark.parametrize("entry", [{"step": 1}, {"kind": "x", "hash": "1"}, {"kind": "x", "n": 1}])
def test_an_entry_may_not_pose_as_the_chain(tmp_path: Path, entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="kind"):
        append(tmp_path, entry)
    assert not (tmp_path / "ledger.jsonl").exists()
