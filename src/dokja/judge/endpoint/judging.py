"""The model that judges answers no rule can judge: an endpoint behind `tasks.graders.judged`.

`JudgingModel` speaks from a thread of its own, so that graders in any thread can ask it. What it was asked and what it
said goes into the record of the answer: `heard` collects it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from dokja.errors import ConfigError
from dokja.judge.endpoint.client import FIRST_WAIT, Client
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.spending import Spending
from dokja.judge.records import JudgeWords
from dokja.tasks.graders.judged import Judged
from dokja.tasks.problem import Problem
from dokja.tasks.registry import LOADED, find_task

MAX_TOKENS = 4096
"""Of a verdict, the thought before it included."""
_HEARD: ContextVar[list[JudgeWords] | None] = ContextVar("heard", default=None)


@contextlib.contextmanager
def heard() -> Iterator[list[JudgeWords]]:
    """What judging models say in this thread meanwhile."""
    words: list[JudgeWords] = []
    token = _HEARD.set(words)
    try:
        yield words
    finally:
        _HEARD.reset(token)


class JudgingModel:
    """`with JudgingModel(endpoint) as judge: judge.ask(prompt)`. Asked at temperature 0 and always with one seed."""

    def __init__(
        self, endpoint: Endpoint, spending: Spending | None = None, *, seed: int = 0, first_wait: float = FIRST_WAIT
    ) -> None:
        """Raises ConfigError where the key or aiohttp is missing, or a limit of cost cannot be kept."""
        self.endpoint, self.name, self._spending, self._seed = endpoint, endpoint.url, spending, seed
        self._client = Client(endpoint, first_wait=first_wait)
        if spending is not None:
            spending.priced_in(endpoint.prices, f"the judging model {endpoint.name}")

    def __enter__(self) -> JudgingModel:
        """Raises Stopped where it does not answer or does not take the key."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
            self._run(self._client.models())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, prompt: str) -> str:
        """Its words, without its thought. Raises Failed or Stopped where it has none."""
        e = self.endpoint
        body = {
            "model": e.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
            "seed": self._seed, e.length: MAX_TOKENS,
        }  # fmt: skip
        reply, times = self._run(self._client.chat(body, random.Random(prompt)))
        if self._spending is not None:
            self._spending.add(reply.usage, e.prices)
        if (words := _HEARD.get()) is not None:
            words.append(JudgeWords(self.name, prompt, reply.raw, reply.usage, times.seconds))
        return str(reply.content)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def judge_of(task: str) -> Judged | None:
    """The grader of a task that a model judges; None for every other task."""
    grader = getattr(find_task(task), "grader", None)
    return grader if isinstance(grader, Judged) else None


def asks_a_judge(task: str) -> bool:
    """Whether a model judges the answers of this task, and there is one."""
    found = judge_of(task)
    return found is not None and found.ask is not None


@contextlib.contextmanager
def judged_by(judge: JudgingModel | None, problems: Iterable[Problem]) -> Iterator[None]:
    """Meanwhile the answers to these problems that a model must judge are judged by this one. Raises ConfigError where
    there are such problems and no model."""
    needing = [task for task in dict.fromkeys(p.task for p in problems) if judge_of(task) is not None]
    if needing and judge is None:
        raise ConfigError(
            f"A model judges the answers to {needing[0]}. Name one: --judge-model http://host:port/v1#model."
        )
    before = {task: LOADED[task] for task in needing}
    try:
        for task in needing:
            found: Any = LOADED[task]
            assert judge is not None
            LOADED[task] = replace(found, grader=replace(found.grader, judge=judge.name, ask=judge.ask))
        yield
    finally:
        LOADED.update(before)
