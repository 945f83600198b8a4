"""Running a suite: problems in, records out. One stream of requests to the engine, which does the batching.

What a request's seed is, and so what is sampled, follows from the suite's seed and the question alone: neither order,
nor batch mates, nor a kill in between changes an answer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dokja.engine.answers import closing_ids, encode_prompt, grade_answer, read_answer, stop_ids
from dokja.engine.api import Completion, Request
from dokja.errors import ConfigError, DataError
from dokja.judge.records import Key, Record, RecordLog, Sampling, Usage
from dokja.ledger.manifest import code_version
from dokja.tasks.problem import Problem
from dokja.tasks.splits import image_sha256
from dokja.text.chat import MODES, Mode, text_of
from dokja.text.images import ImageConfig, Patches
from dokja.text.style import Style
from dokja.text.styles import DOKJA
from dokja.text.tokenizer import Tokenizer


class Engine(Protocol):
    """The part of the engine the judge uses."""

    def complete(self, requests: Any, on_done: Any = None) -> list[Completion]:
        """Answer all requests; `on_done` hears of each completion as it is done."""


class Progress(Protocol):
    """Anything that wants to know how far the suite is."""

    def update(self, step: int, text: str = "") -> object:
        """`step` answers are done."""


@dataclass(frozen=True)
class Item:
    """One answer to ask for."""

    problem: Problem
    mode: Mode
    repeat: int

    @property
    def key(self) -> Key:
        """Identity of its record."""
        return Key(self.problem.task, self.problem.id, self.mode, self.repeat)


def request_seed(seed: int, key: Key) -> int:
    """63 bits out of what is asked; the same question gets the same randomness in any order, after any restart."""
    text = "\t".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Origin:
    """What all records of one run share, besides how they are sampled."""

    model: str
    model_sha256: str
    template_sha256: str
    grader_version: str


def run_suite(
    problems: Sequence[Problem],
    engine: Engine,
    tokenizer: Tokenizer,
    out_dir: str | Path,
    *,
    modes: Sequence[Mode] = MODES,
    repeats: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
    budget: int | None = None,
    model_id: str,
    model_sha256: str,
    seed: int = 0,
    progress: Progress | None = None,
    images: ImageConfig | None = None,
    style: Style = DOKJA,
    top_k: int = 0,
    context: int | None = None,
    weights: str = "fp32",
) -> list[Record]:
    """Ask every problem in every mode `repeats` times and grade the answers; returns the records in that order.

    `max_tokens` bounds an answer, thought included; a thought that reaches `budget` tokens is closed for the model and
    its record says `forced`. `images` is the image config of a model that sees, `style` the chat format, `weights`
    what the engine keeps the model's in. A prompt that leaves no room in `context` is not asked: it counts as
    truncated. Answers already in `out_dir` are not asked again. Raises DataError where those
    are of another model, template, sampling or suite, ConfigError where the figures cannot be meant.
    """
    _check(modes, repeats, max_tokens, budget, style)
    sampling = Sampling(temperature, top_p, max_tokens, budget, top_k, weights)
    origin = Origin(model_id, model_sha256, style.sha256, code_version(["tasks"]))
    items = [Item(p, mode, repeat) for mode in modes for p in problems for repeat in range(repeats)]
    if len({item.key for item in items}) != len(items):
        raise ConfigError("Two problems of this suite have the same id, so their answers could not be told apart.")
    with RecordLog(out_dir) as log:
        _check_origin(log, {(p.task, p.id) for p in problems}, origin, sampling, seed)
        open_items = {"\t".join(map(str, item.key)): item for item in items if item.key not in log.records}
        prompts = {name: _prompt(item, tokenizer, images, style) for name, item in open_items.items()}
        started = time.perf_counter()
        done = len(items) - len(open_items)

        def on_done(completion: Completion) -> None:
            nonlocal done
            item, prompt = open_items[completion.id], prompts[completion.id]
            seconds = time.perf_counter() - started
            log.append(_record(item, prompt, completion, tokenizer, style, origin, sampling, seed, seconds))
            done += 1
            if progress is not None:
                progress.update(done)

        fits = [n for n in open_items if context is None or len(prompts[n].ids) < context]
        for name in open_items.keys() - set(fits):
            on_done(Completion(name, [], [], "length", False, len(prompts[name].ids)))
        requests = [_request(n, open_items[n], prompts[n], tokenizer, style, sampling, seed) for n in fits]
        if requests:
            engine.complete(requests, on_done=on_done)
        missing = sum(item.key not in log.records for item in items)
        if missing:
            raise DataError(f"The engine returned without {missing} of {len(items)} answers. Run the command again.")
        log.settle(item.key for item in items)
        return [log.records[item.key] for item in items]


def _check(modes: Sequence[Mode], repeats: int, max_tokens: int, budget: int | None, style: Style) -> None:
    unknown = [m for m in modes if m not in MODES]
    if unknown or not modes:
        raise ConfigError(f"modes is {list(modes)}. Use some of {', '.join(MODES)}.")
    if lacking := [m for m in modes if not style.supports(m)]:
        raise ConfigError(
            f"A model of the {style.name} format cannot answer in the mode {lacking[0]}. Use {', '.join(style.modes)}."
        )
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}. Use 1 for one answer per problem, more for pass@k.")
    if budget is not None and not 0 < budget < max_tokens:
        raise ConfigError(
            f"The thinking budget ({budget}) leaves no room for an answer in max_tokens ({max_tokens}). Lower it."
        )


@dataclass(frozen=True)
class _Prompt:
    ids: list[int]
    images: tuple[Patches, ...]
    sha256: str
    """of the rendered text, and of the pixels where there are images"""


def _prompt(item: Item, tokenizer: Tokenizer, images: ImageConfig | None, style: Style) -> _Prompt:
    messages, thinking = item.problem.messages, item.mode == "think"
    ids, shown = encode_prompt(messages, tokenizer, images, thinking, style)
    digest = hashlib.sha256(text_of(style.render(messages, thinking=thinking, add_generation_prompt=True)).encode())
    for pixels in (image for message in messages for image in message.images):
        digest.update(f"{pixels.shape}".encode() + pixels.tobytes())
    return _Prompt(ids, shown, digest.hexdigest())


def _request(
    name: str, item: Item, prompt: _Prompt, tokenizer: Tokenizer, style: Style, sampling: Sampling, seed: int
) -> Request:
    budget = sampling.budget if item.mode == "think" else None
    return Request(
        id=name,
        prompt=prompt.ids,
        images=prompt.images,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=request_seed(seed, item.key),
        stop=stop_ids(style, tokenizer),
        think_budget=budget,
        think_close=closing_ids(style, tokenizer) if budget else (),
    )


def _record(
    item: Item,
    prompt: _Prompt,
    completion: Completion,
    tokenizer: Tokenizer,
    style: Style,
    origin: Origin,
    sampling: Sampling,
    seed: int,
    seconds: float,
) -> Record:
    problem = item.problem
    answer = read_answer(completion, tokenizer, item.mode, style)
    grade = grade_answer(problem, answer.content, truncated=completion.finish != "stop")
    return Record(
        task=problem.task,
        problem_id=problem.id,
        level=problem.level,
        language=problem.language,
        mode=item.mode,
        repeat=item.repeat,
        prompt=problem.prompt,
        prompt_sha256=prompt.sha256,
        raw=answer.raw,
        reasoning=answer.reasoning,
        answer=answer.content,
        extracted=answer.content.strip() if grade.reason in ("right", "wrong") else None,
        reference=str(problem.reference),
        score=grade.score,
        reason=grade.reason,
        detail=grade.detail,
        finish=completion.finish,
        forced=completion.forced,
        wrong_mode=answer.wrong_mode,
        seed=request_seed(seed, item.key),
        sampling=sampling,
        seconds=round(seconds, 4),
        model=origin.model,
        model_sha256=origin.model_sha256,
        template_sha256=origin.template_sha256,
        grader_version=origin.grader_version,
        usage=Usage(len(prompt.ids), len(completion.tokens), answer.reasoning_tokens),
        images=tuple(map(image_sha256, problem.images)),
    )


def _check_origin(log: RecordLog, suite: set[tuple[str, str]], origin: Origin, sampling: Sampling, seed: int) -> None:
    """Refuse to mix answers that were not drawn in the same way. Further modes and repeats may lie there."""
    for record in log.records.values():
        if (record.task, record.problem_id) not in suite:
            other = f"another suite (it holds {record.problem_id})"
        elif record.model_sha256 != origin.model_sha256:
            other = f"another model ({record.model}, {record.model_sha256[:12]})"
        elif record.template_sha256 != origin.template_sha256:
            other = "another chat template"
        elif record.grader_version != origin.grader_version:
            other = "another version of the graders"
        elif record.sampling != sampling:
            other = f"another sampling ({record.sampling})"
        elif record.seed != request_seed(seed, record.key):
            other = f"another seed than {seed}"
        else:
            continue
        raise DataError(f"The records at {log.path} are of {other}. Judge into another folder, or remove them.")
