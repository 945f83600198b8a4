"""Running a suite: items in, records out, whoever answers them.

What a request's seed is, and so what is sampled, follows from the suite's seed and the question alone: neither order,
nor batch mates, nor a kill in between changes an answer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dokja.engine.answers import grade_answer
from dokja.errors import ConfigError, DataError, DokjaError
from dokja.judge.answering import Answerer, Item, Origin, Said, request_seed
from dokja.judge.endpoint.judging import asks_a_judge, heard, judge_of
from dokja.judge.records import JudgeWords, Record, RecordLog, Sampling
from dokja.tasks.problem import Grade, Problem
from dokja.tasks.splits import image_sha256
from dokja.text.chat import MODES, Mode


class Unfinished(DokjaError):
    """Some items have no answer. Those that have one are recorded, and the same call asks for the rest."""


class Progress(Protocol):
    """Anything that wants to know how far the suite is."""

    def update(self, step: int, text: str = "") -> object:
        """`step` answers are done."""


def items_of(problems: Sequence[Problem], modes: Sequence[Mode], repeats: int, sampling: Sampling) -> list[Item]:
    """Every problem in every mode `repeats` times, all drawn alike; repeats of a problem stand together."""
    return [Item(p, mode, repeat, sampling) for mode in modes for p in problems for repeat in range(repeats)]


def run_suite(
    items: Sequence[Item], answerer: Answerer, out_dir: str | Path, *, seed: int = 0, progress: Progress | None = None
) -> list[Record]:
    """Ask for all items and grade the answers; returns the records in the items' order.

    Answers already in `out_dir` are not asked again; those whose grader failed are graded again. Raises DataError where
    they are of another model, template, sampling or suite, ConfigError where the figures cannot be meant, Unfinished
    where some items got no answer.
    """
    _check(items)
    with RecordLog(out_dir) as log:
        _check_origin(log, items, answerer.origin, seed)
        _grade_again(log, items)
        left = [item for item in items if item.key not in log.records]
        why = None
        if left:
            answerer.check(left)
            why = answerer.answer(left, seed, _Keeper(log, answerer.origin, seed, items, progress).keep)
        missing = sum(item.key not in log.records for item in items)
        if missing and why:
            raise Unfinished(
                f"{len(items) - missing} of {len(items)} answers are recorded at {log.path}, {missing} are not: {why}. "
                "The same command asks for the rest."
            )
        if missing:
            raise DataError(f"The engine returned without {missing} of {len(items)} answers. Run the command again.")
        log.settle(item.key for item in items)
        return [log.records[item.key] for item in items]


class _Keeper:
    """Grades answers and records them; several threads may do so at once."""

    def __init__(
        self, log: RecordLog, origin: Origin, seed: int, items: Sequence[Item], progress: Progress | None
    ) -> None:
        self._log, self._origin, self._seed, self._progress = log, origin, seed, progress
        self._done = sum(item.key in log.records for item in items)
        self._lock = threading.Lock()
        # programs and proofs have limits of time, which more of them than cores would run into for no fault of theirs
        self._cores = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._started = time.perf_counter()

    def keep(self, item: Item, said: Said) -> None:
        """See `answering.Keep`."""
        seconds = time.perf_counter() - self._started
        with nullcontext() if asks_a_judge(item.problem.task) else self._cores:
            grade, words = _grade(item.problem, said.answer, said.finish, said.truncated)
        record = self._record(item, said, grade, words, seconds)
        with self._lock:
            self._log.append(record)
            self._done += 1
            if self._progress is not None:
                self._progress.update(self._done)

    def _record(self, item: Item, said: Said, grade: Grade, words: JudgeWords | None, seconds: float) -> Record:
        problem, origin = item.problem, self._origin
        return Record(
            task=problem.task,
            problem_id=problem.id,
            level=problem.level,
            language=problem.language,
            mode=item.mode,
            repeat=item.repeat,
            prompt=problem.prompt,
            prompt_sha256=said.prompt_sha256,
            raw=said.raw,
            reasoning=said.reasoning,
            answer=said.answer,
            extracted=_extracted(said.answer, grade),
            reference=str(problem.reference),
            score=grade.score,
            reason=grade.reason,
            detail=grade.detail,
            finish=said.finish,
            forced=said.forced,
            wrong_mode=said.wrong_mode,
            seed=request_seed(self._seed, item.key),
            sampling=item.sampling,
            seconds=round(seconds, 4),
            model=origin.model,
            model_sha256=origin.model_sha256,
            template_sha256=origin.template_sha256,
            grader_version=origin.grader_version,
            usage=said.usage,
            images=tuple(map(image_sha256, problem.images)),
            endpoint=origin.endpoint,
            times=said.times,
            judge=words,
        )


def _grade(problem: Problem, answer: str, finish: str, truncated: bool) -> tuple[Grade, JudgeWords | None]:
    """The grade, and what a judging model said to it."""
    if finish == "content_filter":
        return Grade(0.0, "refused", "the endpoint's filter ended the answer"), None
    with heard() as words:
        grade = grade_answer(problem, answer, truncated=truncated)
    return grade, words[-1] if words else None


def _extracted(answer: str, grade: Grade) -> str | None:
    return answer.strip() if grade.reason in ("right", "wrong") else None


def _grade_again(log: RecordLog, items: Sequence[Item]) -> None:
    """A grader that failed (no sandbox, a judging model that was away) may do better now; the answers are there."""
    for item in items:
        old = log.records.get(item.key)
        if old is None or old.reason != "grader_failed":
            continue
        grade, words = _grade(item.problem, old.answer, old.finish, old.finish != "stop")
        if grade.reason != "grader_failed":
            log.append(
                replace(
                    old, score=grade.score, reason=grade.reason, detail=grade.detail, judge=words,
                    extracted=_extracted(old.answer, grade),
                )
            )  # fmt: skip


def _check(items: Sequence[Item]) -> None:
    unknown = [i.mode for i in items if i.mode not in MODES]
    if unknown or not items:
        raise ConfigError(f"These items ask nothing, or in a mode that is none {unknown[:1]}. Use {', '.join(MODES)}.")
    for sampling in dict.fromkeys(i.sampling for i in items):
        if sampling.budget is not None and not 0 < sampling.budget < sampling.max_tokens:
            raise ConfigError(
                f"The thinking budget ({sampling.budget}) leaves no room for an answer in max_tokens "
                f"({sampling.max_tokens}). Lower it."
            )
    if len({item.key for item in items}) != len(items):
        raise ConfigError("Two problems of this suite have the same id, so their answers could not be told apart.")


def _check_origin(log: RecordLog, items: Sequence[Item], origin: Origin, seed: int) -> None:
    """Refuse to mix answers that were not drawn in the same way. Further modes and repeats may lie there."""
    suite = {(i.problem.task, i.problem.id) for i in items}
    samplings = {(i.problem.task, i.mode): i.sampling for i in items}
    for record in log.records.values():
        judge = judge_of(record.task) if record.judge is not None else None
        if (record.task, record.problem_id) not in suite:
            other = f"another suite (it holds {record.problem_id})"
        elif record.model_sha256 != origin.model_sha256 or (record.endpoint and record.model != origin.model):
            other = f"another model ({record.model}, {record.model_sha256[:12]})"
        elif record.template_sha256 != origin.template_sha256:
            other = "another chat template"
        elif record.grader_version != origin.grader_version:
            other = "another version of the graders"
        elif record.sampling != samplings.get((record.task, record.mode), record.sampling):
            other = f"another sampling ({record.sampling})"
        elif record.seed != request_seed(seed, record.key):
            other = f"another seed than {seed}"
        elif record.judge is not None and judge is not None and judge.ask and judge.judge != record.judge.model:
            other = f"another judging model ({record.judge.model})"
        else:
            continue
        raise DataError(f"The records at {log.path} are of {other}. Judge into another folder, or remove them.")
