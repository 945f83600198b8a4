"""Records: what was asked, what came back and how it was graded, one JSON line per answer.

A record alone suffices to grade again, to count again and to look at an answer in ten years. The file grows while the
suite runs, so a killed run loses at most the answer in hand; a torn last line is dropped when the run continues.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from dokja.errors import DataError
from dokja.ledger.atomic import write_atomic
from dokja.text.chat import Mode

RECORDS = "records.jsonl"


class Key(NamedTuple):
    """What makes an answer of a suite the same answer."""

    task: str
    problem_id: str
    mode: str
    repeat: int


@dataclass(frozen=True)
class Usage:
    """Tokens: read, written, of the written ones those before the thought was closed, of those read the ones that an
    endpoint knew already."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True)
class Times:
    """One answer of an endpoint: seconds of the request that brought it, and how many were sent. Streamed, also when
    its first and its last part came, and the tokens of the first."""

    seconds: float
    tries: int = 1
    first_token: float | None = None
    last_token: float | None = None
    first_tokens: int = 0


@dataclass(frozen=True)
class JudgeWords:
    """What a judging model was asked about an answer, and what it said."""

    model: str
    prompt: str
    said: str
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> JudgeWords:
        """Read a record's `judge`."""
        return cls(**{**raw, "usage": Usage(**raw["usage"])})


@dataclass(frozen=True)
class Sampling:
    """How answers were drawn: temperature 0 is greedy, `budget` closes a thought after so many tokens, `weights` says
    what the model's were kept in, for that changes answers too."""

    temperature: float
    top_p: float
    max_tokens: int
    budget: int | None
    top_k: int = 0
    weights: str = "fp32"
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0

    def draws(self) -> dict[str, Any]:
        """How tokens are drawn and how many at most, under the names that an engine's request has."""
        return {name: value for name, value in vars(self).items() if name not in ("budget", "weights")}


@dataclass(frozen=True)
class Record:
    """One answer to one problem. `raw` is everything the model wrote, markers included; `answer` what a user sees."""

    task: str
    problem_id: str
    level: int
    language: str
    mode: Mode
    repeat: int
    prompt: str
    prompt_sha256: str
    raw: str
    reasoning: str
    answer: str
    extracted: str | None
    reference: str
    score: float
    reason: str
    detail: str
    finish: str
    forced: bool
    wrong_mode: bool
    seed: int
    sampling: Sampling
    seconds: float
    """From the start of the stream of requests to the end of this answer."""
    model: str
    model_sha256: str
    template_sha256: str
    grader_version: str
    usage: Usage = field(default_factory=Usage)
    images: tuple[str, ...] = ()
    """SHA-256 of every image of the prompt, as `tasks.splits.image_sha256` has it."""
    endpoint: str = ""
    """Name of the endpoint that answered; then `model` is its address and its name for the model."""
    times: Times | None = None
    judge: JudgeWords | None = None
    dialogue: dict[str, Any] | None = None
    """Of an agent's task: every turn, how it ended, the parts of the reward, the simulated user; see `agents`."""

    @property
    def key(self) -> Key:
        """Identity inside a suite."""
        return Key(self.task, self.problem_id, self.mode, self.repeat)

    def to_line(self) -> str:
        """The record as one line of JSON, newline included."""
        return json.dumps(vars(self), ensure_ascii=False, default=vars) + "\n"

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Record:
        """Read one line's object. Keys of later versions are left out; a missing key raises TypeError."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in raw.items() if k in known}
        values["images"] = tuple(raw.get("images", ()))
        values["usage"] = Usage(**raw.get("usage", {}))
        values["sampling"] = Sampling(**raw["sampling"])
        values["times"] = Times(**raw["times"]) if raw.get("times") else None
        values["judge"] = JudgeWords.from_dict(raw["judge"]) if raw.get("judge") else None
        return cls(**values)


def read_records(path: str | Path) -> list[Record]:
    """All records of a file or of a folder's `records.jsonl`, in the order written; a torn last line is left out.

    Raises DataError where a line before the last cannot be read: that is damage, not a kill.
    """
    path = _file(path)
    if not path.exists():
        raise DataError(f"There are no records at {path}. Run `dokja judge` first, or give the folder it wrote.")
    whole, _torn = _lines(path)
    return [_parse(line, number, path) for number, line in enumerate(whole, 1)]


class RecordLog:
    """The growing `records.jsonl` of a folder: opened, it drops a torn tail and knows what is there already."""

    def __init__(self, folder: str | Path) -> None:
        self.path = _file(folder)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.records: dict[Key, Record] = {}
        if self.path.exists():
            whole, torn = _lines(self.path)
            for number, line in enumerate(whole, 1):
                record = _parse(line, number, self.path)
                self.records[record.key] = record
            if torn:
                with open(self.path, "r+b") as file:
                    file.truncate(self.path.stat().st_size - len(torn))
        self._file = open(self.path, "ab")  # noqa: SIM115 - lives as long as the log

    def append(self, record: Record) -> None:
        """Add one record; once this returns, killing the process does not lose it."""
        self._file.write(record.to_line().encode())
        self._file.flush()
        self.records[record.key] = record

    def settle(self, order: Iterable[Key]) -> None:
        """Put a finished file into `order`, atomically, so that it does not tell in which order answers came back."""
        ordered = [self.records[key] for key in order]
        placed = {record.key for record in ordered}
        rest = [record for key, record in self.records.items() if key not in placed]
        self._file.close()
        write_atomic(self.path, "".join(record.to_line() for record in [*ordered, *rest]).encode())
        self._file = open(self.path, "ab")  # noqa: SIM115

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".jsonl" else path / RECORDS


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """Whole lines, and what follows the last newline."""
    *whole, torn = path.read_bytes().split(b"\n")
    return whole, torn


def _parse(line: bytes, number: int, path: Path) -> Record:
    try:
        return Record.from_dict(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise DataError(
            f"Line {number} of {path} is not a record ({err}). Restore the file, or remove it to judge afresh."
        ) from err
