"""`dokja judge MODEL --suite tau2`: a model, a simulated user and a benchmark in; records and a summary out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError
from dokja.judge.agentic.run import Cast, Plan, run_agents
from dokja.judge.answering import Origin
from dokja.judge.records import RECORDS, Sampling, read_records
from dokja.judge.table import Summary, summarise, write_summary
from dokja.ledger.hashing import sha256_json
from dokja.ledger.manifest import code_version
from dokja.ledger.progress import Progress
from dokja.tasks.agentic import golden
from dokja.tasks.agentic.dialogue import Chat
from dokja.tasks.agentic.domain import Domain, Scenario, load_domains
from dokja.tasks.packs.load import find_definition
from dokja.text.chat import Mode

USER_TOKENS = 2048
"""A message of the simulated user may have so many."""


@dataclass(frozen=True)
class Agents:
    """What judging agents left: the folder, and what its records add up to."""

    folder: Path
    summary: Summary


def is_agentic(suite: str) -> bool:
    """Whether a suite is one for agents. ConfigError for a pack that is not known."""
    return find_definition(suite.partition("/")[0]).agent


@dataclass(frozen=True)
class _Player:
    """Who is judged, and what has to be recorded of them."""

    origin: Origin
    sampling: Sampling
    mode: Mode
    at_once: int
    folder: Path
    chat: Chat | None
    """None: the official actions."""


def judge_agents(
    model: str | Path,
    suites: Sequence[str],
    *,
    user: str | None = None,
    endpoints: str | Path | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    modes: Sequence[Mode] | None = None,
    repeats: int = 1,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int = 2048,
    budget: int | None = None,
    seed: int = 0,
    weights: Any = None,
    at_once: int = 8,
    out: str | Path | None = None,
    log_path: Path | None = None,
) -> Agents:
    """Judge an agent: the model of a folder, an endpoint (`http://…/v1#model`, or a row of `endpoints`), or `golden`,
    which replays the official actions to check the benchmark itself. A killed run continues where it stopped.

    `user` is the endpoint that plays the customers, greedily; it also judges sentences where a scenario's reward needs
    that. `modes` names one mode at most, by default the model's own. Records go to `out`, else into the model's folder.
    Raises DokjaError sentences of the loader, the domains, the endpoint and the runner.
    """
    if modes is not None and len(modes) != 1:
        raise ConfigError("Agents are judged in one mode at a time. Name it: --modes think, or --modes direct.")
    if user is None and str(model) != golden.NAME:
        raise ConfigError(
            "Somebody has to play the customers: name an endpoint with --user http://host:port/v1#model. "
            "The EXAONE reports took gpt-4.1-2025-04-14; scores move with it."
        )
    domains = [domain for suite in suites for domain in load_domains(suite, data, limit)]
    how = Sampling(temperature or 0.0, 1.0 if top_p is None else top_p, max_tokens, budget)
    mode = modes[0] if modes else None
    suite = sha256_json([[d.sha256, [s.id for s in d.scenarios]] for d in domains])
    inside = f"judge-agents-{suite[:8]}"

    async def run() -> list[Any]:
        async with AsyncExitStack() as stack:
            player = await _player(model, endpoints, stack, how, temperature, top_p, mode, weights, at_once, inside)
            folder = Path(out) if out is not None else player.folder
            simulated = None
            if player.chat is not None:
                assert user is not None
                simulated = await _endpoint(user, endpoints, stack, Sampling(0.0, 1.0, USER_TOKENS, None))
            plan = Plan(player.mode, player.sampling, repeats, seed, player.at_once, user or golden.NAME, simulated)
            total = repeats * sum(len(domain.scenarios) for domain in domains)
            there = len(read_records(folder)) if (folder / RECORDS).exists() else 0
            with Progress(total, "judge", log_path, start=min(there, total)) as progress:
                cast = _cast(player.chat, simulated)
                records = await run_agents(domains, cast, folder, plan, player.origin, progress)
        return [folder, records, player]

    folder, records, player = asyncio.run(run())
    settings = {
        "suite_sha256": suite,
        "packs": list(suites),
        "limit": limit,
        "tasks": [scenario_task(domain) for domain in domains],
        "repeats": repeats,
        "modes": [player.mode],
        "seed": seed,
        "user": user or golden.NAME,
        **asdict(player.sampling),
    }
    summary = summarise(records, (), settings)
    write_summary(folder, summary)
    return Agents(folder, summary)


def scenario_task(domain: Domain) -> str:
    """What the records of a domain call its task."""
    return domain.scenarios[0].task if domain.scenarios else domain.name


def _cast(agent: Chat | None, user: Chat | None) -> Cast:
    def play(scenario: Scenario) -> tuple[Chat, Chat]:
        if agent is None or user is None:
            script = golden.Golden(scenario)
            return script.agent, script.user
        return agent, user

    return play


async def _endpoint(text: str, table: str | Path | None, stack: AsyncExitStack, sampling: Sampling) -> Chat:
    """An open endpoint that answers at once, for the customers' part."""
    from dokja.judge.agentic.endpoint_chat import EndpointChat
    from dokja.judge.endpoint.client import Client
    from dokja.judge.endpoint.description import read_endpoint

    client = await stack.enter_async_context(Client(read_endpoint(text, table)))
    return EndpointChat(client, "direct", sampling)


async def _player(
    model: str | Path,
    table: str | Path | None,
    stack: AsyncExitStack,
    how: Sampling,
    temperature: float | None,
    top_p: float | None,
    mode: Mode | None,
    weights: Any,
    at_once: int,
    inside: str,
) -> _Player:
    graders = code_version(["tasks"])
    if str(model) == golden.NAME:
        origin = Origin(golden.NAME, sha256_json(golden.NAME), "", graders)
        return _Player(origin, how, mode or "direct", at_once, Path(inside), None)
    if not Path(model).exists():
        from dokja.judge.agentic.endpoint_chat import EndpointChat
        from dokja.judge.endpoint.client import Client
        from dokja.judge.endpoint.description import read_endpoint

        endpoint = read_endpoint(str(model), table)
        asked = mode or endpoint.modes[0]
        client = await stack.enter_async_context(Client(endpoint))
        origin = Origin(endpoint.url, sha256_json([endpoint.base_url, endpoint.model]), "", graders)
        folder = Path(f"{inside}-{endpoint.name.replace('/', '-')}")
        return _Player(origin, how, asked, endpoint.concurrency, folder, EndpointChat(client, asked, how))
    return _local(Path(model), how, temperature, top_p, mode, weights, at_once, inside, graders)


def _local(
    model: Path,
    how: Sampling,
    temperature: float | None,
    top_p: float | None,
    mode: Mode | None,
    weights: Any,
    at_once: int,
    inside: str,
    graders: str,
) -> _Player:
    from dokja.engine.load import load_engine
    from dokja.judge.agentic.engine_chat import EngineChat
    from dokja.model.spec import ModelSpec

    engine, tokenizer, info = load_engine(model, slots=at_once, weights=weights)
    style, recommended = info["style"], info["sampling"]
    asked = mode or ("think" if style.thinking else "direct")
    if temperature is None:
        how = replace(how, temperature=recommended.temperature, top_k=recommended.top_k)
    how = replace(how, top_p=recommended.top_p if top_p is None else top_p, weights=weights or "fp32")
    context = ModelSpec.from_dict(info["spec"]).context
    chat = EngineChat(engine, tokenizer, style, asked, how, context)
    origin = Origin(info["name"], info["sha256"], style.sha256, graders)
    beside = model if model.is_dir() else model.parent
    return _Player(origin, how, asked, at_once, beside / inside, chat)
