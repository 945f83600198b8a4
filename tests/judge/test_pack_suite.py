"""Benchmark packs on the judge's road: the same records, the same graders, the same resumption."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge_scripted import TOKENIZER, spell

from dokja.engine.answers import grade_answer
from dokja.engine.api import Completion, Request
from dokja.errors import ConfigError
from dokja.judge.local import EngineAnswerer
from dokja.judge.records import Sampling, read_records
from dokja.judge.runner import items_of, run_suite
from dokja.judge.suite import build_suite, pack_suite
from dokja.judge.table import summarise
from dokja.text.chat import END


class Says:
    """An engine that says one thing to every question, and counts them."""

    def __init__(self, text: str, stop_after: int | None = None) -> None:
        self.text, self.asked, self.stop_after = text, 0, stop_after

    def complete(self, requests, on_done=None):  # type: ignore[no-untyped-def]
        for request in requests:
            if self.asked == self.stop_after:
                raise KeyboardInterrupt
            self.asked += 1
            on_done(self._answer(request))

    def _answer(self, request: Request) -> Completion:
        ids = spell(self.text + END)
        return Completion(request.id, ids, [0.0] * len(ids), "stop", False, len(request.prompt))


def ask(folder: Path, engine: Says, suite, **more):  # type: ignore[no-untyped-def]
    answerer = EngineAnswerer(engine, TOKENIZER, model_id="m", model_sha256="0" * 64, **more)
    return run_suite(items_of(suite.problems, ("direct",), 1, Sampling(0.0, 1.0, 512, None)), answerer, folder)


def test_core_ko_en_is_asked_graded_and_counted(tmp_path: Path) -> None:
    suite = pack_suite(["core-ko-en"], limit=3)
    records = ask(tmp_path, Says("A"), suite, context=400)
    assert len(records) == len(suite.problems) == 54
    reasons = {r.reason for r in records}
    assert {"right", "wrong", "unparseable", "truncated"} <= reasons
    unasked = [r for r in records if r.usage.prompt_tokens >= 400]
    assert unasked and all((r.reason, r.finish, r.raw) == ("truncated", "length", "") for r in unasked)
    summary = summarise(records)
    assert {row.task for row in summary.rows["task"]} == {p.task for p in suite.problems}
    assert summary.rows["overall"][0].truncated == len(unasked)


def test_records_alone_suffice_to_grade_again(tmp_path: Path) -> None:
    suite = pack_suite(["core-ko-en"], limit=2)
    ask(tmp_path, Says("정답: ②"), suite)
    by_id = {p.id: p for p in suite.problems}
    for record in read_records(tmp_path):
        problem = by_id[record.problem_id]
        assert record.reference == problem.reference
        again = grade_answer(problem, record.answer, truncated=record.finish != "stop")
        # the time that a program took is no part of its verdict
        assert (again.score, again.reason) == (record.score, record.reason)


def test_a_killed_run_asks_nothing_twice(tmp_path: Path) -> None:
    suite = pack_suite(["core-ko-en"], limit=2, languages=("ko",))
    engines = [Says("A", stop_after=5), Says("A", stop_after=7), Says("A")]
    for engine in engines[:2]:
        with pytest.raises(KeyboardInterrupt):
            ask(tmp_path, engine, suite)
    records = ask(tmp_path, engines[2], suite)
    assert sum(engine.asked for engine in engines) == len(records) == 18


def test_a_suite_of_packs_has_an_identity() -> None:
    suite, again = (pack_suite(["core-ko-en"], limit=2) for _ in range(2))
    assert suite.sha256 == again.sha256 != pack_suite(["core-ko-en"], limit=3).sha256
    assert suite.sha256 != build_suite(per_cell=1).sha256
    with pytest.raises(ConfigError, match="No benchmark"):
        pack_suite([])
