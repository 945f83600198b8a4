"""Conversations of a pack to records. Many are held at once; a killed run goes on where it stopped, conversation by
conversation, and a record alone suffices to grade it again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError, DataError, DokjaError
from dokja.judge.answering import Origin, request_seed
from dokja.judge.records import Key, Record, RecordLog, Sampling, Usage
from dokja.judge.runner import Progress
from dokja.tasks.agentic.dialogue import Chat, Dialogue, Reply, Turn, hold
from dokja.tasks.agentic.domain import Domain, Scenario
from dokja.tasks.agentic.prompts import agent_prompt, story, user_prompt
from dokja.tasks.agentic.reward import Verdict, assess
from dokja.text.chat import Mode

Cast = Callable[[Scenario], tuple[Chat, Chat]]
"""Who plays agent and user in a scenario."""


@dataclass(frozen=True)
class Plan:
    """How conversations are held. `user` names the simulated user, `judge` decides on sentences (NL_ASSERTION)."""

    mode: Mode
    sampling: Sampling
    repeats: int
    seed: int
    at_once: int
    user: str
    judge: Chat | None = None
    over: Callable[[], str | None] = lambda: None
    """Which limit of spending is met, in words; no conversation begins then."""


@dataclass(frozen=True)
class _Item:
    domain: Domain
    scenario: Scenario
    key: Key


async def run_agents(
    domains: Sequence[Domain],
    cast: Cast,
    out_dir: str | Path,
    plan: Plan,
    origin: Origin,
    progress: Progress | None = None,
    spent: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Hold every scenario's conversation `repeats` times and grade it; returns the records in that order.

    Conversations that are in `out_dir` are not held again; `spent` hears of every one, those included. Raises DataError
    where those are of another model, user, data or sampling, and, once all others are done, where conversations could
    not be held or a limit was met.
    """
    if plan.repeats < 1 or plan.at_once < 1:
        raise ConfigError(f"{plan.repeats} repeats of which {plan.at_once} at once ask nothing. Use 1 or more of each.")
    items = [
        _Item(domain, scenario, Key(scenario.task, scenario.id, plan.mode, repeat))
        for domain in domains
        for scenario in domain.scenarios
        for repeat in range(plan.repeats)
    ]
    with RecordLog(out_dir) as log:
        _check_origin(log, items, plan, origin)
        left = [item for item in items if item.key not in log.records]
        gate, started, done = asyncio.Semaphore(plan.at_once), time.perf_counter(), len(items) - len(left)
        failures: list[str] = []
        for record in log.records.values():
            spent(record)

        async def one(item: _Item) -> None:
            nonlocal done
            async with gate:
                if plan.over() is not None:
                    return
                agent, user = cast(item.scenario)
                seed = request_seed(plan.seed, item.key)
                name = "/".join(map(str, item.key[1:]))
                try:
                    talk = await hold(item.domain, item.scenario, agent, user, key=name, seed=seed)
                    assert talk.ended is not None
                    verdict = await assess(item.domain, item.scenario, talk.turns, talk.ended, plan.judge)
                except DokjaError:
                    raise  # it would meet every other conversation as well
                except Exception as error:  # one broken conversation must not lose the others
                    failures.append(f"{item.scenario.id}: {type(error).__name__}: {error}")
                    return
                seconds = time.perf_counter() - started
                log.append(record := _record(item, talk, verdict, plan, origin, seed, seconds))
                spent(record)
                done += 1
                if progress is not None:
                    progress.update(done)

        try:
            async with asyncio.TaskGroup() as group:
                for item in left:
                    group.create_task(one(item))
        except* DokjaError as errors:
            raise errors.exceptions[0] from None
        if failures:
            raise DataError(
                f"{len(failures)} of {len(items)} conversations could not be held ({failures[0][:300]}). "
                "The others are kept: type the same command again."
            )
        if done < len(items):
            raise DataError(
                f"{plan.over()}: {len(items) - done} of {len(items)} conversations are left. Raise the limit and type "
                "the same command again."
            )
        log.settle(item.key for item in items)
        return [log.records[item.key] for item in items]


async def regrade(domain: Domain, record: Record, judge: Chat | None = None) -> Verdict:
    """The verdict on a record's conversation, worked out anew. DataError for a record of no conversation, or of a
    scenario that the domain does not have."""
    if record.dialogue is None:
        raise DataError(f"The record of {record.problem_id} holds no conversation.")
    scenario = next((s for s in domain.scenarios if s.id == record.problem_id), None)
    if scenario is None:
        raise DataError(f"There is no scenario {record.problem_id} in {domain.name}. Use the data it was held on.")
    turns = [Turn.from_dict(turn) for turn in record.dialogue["turns"]]
    return await assess(domain, scenario, turns, record.dialogue["ended"], judge)


def _record(
    item: _Item, talk: Dialogue, verdict: Verdict, plan: Plan, origin: Origin, seed: int, seconds: float
) -> Record:
    scenario, replies = item.scenario, talk.replies["agent"]
    told = (agent_prompt(item.domain), user_prompt(item.domain, scenario))
    words = [turn.content for turn in talk.turns[1:] if turn.who == "agent" and turn.content]
    reference = {"criteria": scenario.criteria, "initial_state": scenario.initial_state}
    return Record(
        task=scenario.task,
        problem_id=scenario.id,
        level=1,
        language="en",
        mode=plan.mode,
        repeat=item.key.repeat,
        prompt=story(scenario),
        prompt_sha256=hashlib.sha256("\0".join(told).encode()).hexdigest(),
        raw="\n\n".join(reply.raw for reply in replies if reply.raw),
        reasoning="\n\n".join(turn.reasoning for turn in talk.turns if turn.who == "agent" and turn.reasoning),
        answer=words[-1] if words else "",
        extracted=None,
        reference=json.dumps(reference, ensure_ascii=False),
        score=verdict.grade.score,
        reason=verdict.grade.reason,
        detail=verdict.grade.detail,
        finish="stop" if talk.ended == "user_stop" else str(talk.ended),
        forced=False,
        wrong_mode=False,
        seed=seed,
        sampling=plan.sampling,
        seconds=round(seconds, 4),
        model=origin.model,
        model_sha256=origin.model_sha256,
        template_sha256=origin.template_sha256,
        grader_version=origin.grader_version,
        usage=_usage(replies),
        endpoint=origin.endpoint,
        dialogue={
            "turns": [turn.to_dict() for turn in talk.turns],
            "ended": talk.ended,
            "parts": dict(verdict.parts),
            "basis": list(scenario.basis),
            "user": plan.user,
            "user_usage": vars(_usage(talk.replies["user"])),
            "data_sha256": item.domain.sha256,
            "agent_seconds": round(sum(reply.seconds for reply in replies), 4),
        },
    )


def _usage(replies: Sequence[Reply]) -> Usage:
    return Usage(
        sum(reply.prompt_tokens for reply in replies),
        sum(reply.completion_tokens for reply in replies),
        sum(reply.reasoning_tokens for reply in replies),
    )


def _check_origin(log: RecordLog, items: Sequence[_Item], plan: Plan, origin: Origin) -> None:
    """Refuse to mix conversations that were not held in the same way. Further modes and repeats may lie there."""
    data = {item.scenario.id: item.domain.sha256 for item in items}
    for record in log.records.values():
        held: dict[str, Any] = record.dialogue or {}
        if record.problem_id not in data:
            other = f"another suite (it holds {record.problem_id})"
        elif (record.model, record.model_sha256) != (origin.model, origin.model_sha256):
            other = f"another model ({record.model})"
        elif held.get("user") != plan.user:
            other = f"another simulated user ({held.get('user')})"
        elif held.get("data_sha256") != data[record.problem_id]:
            other = "another version of the benchmark's data"
        elif record.template_sha256 != origin.template_sha256:
            other = "another chat template"
        elif record.grader_version != origin.grader_version:
            other = "another version of the graders"
        elif record.sampling != plan.sampling:
            other = f"another sampling ({record.sampling})"
        elif record.seed != request_seed(plan.seed, record.key):
            other = f"another seed than {plan.seed}"
        else:
            continue
        raise DataError(f"The records at {log.path} are of {other}. Judge into another folder, or remove them.")
