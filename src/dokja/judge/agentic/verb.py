"""`dokja judge MODEL --suite tau2`: a model, a simulated user and a benchmark in; records and a summary out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from dokja.engine.packed import Bits
from dokja.engine.recommended import Recommended
from dokja.errors import ConfigError
from dokja.judge.agentic.run import Cast, Plan, run_agents
from dokja.judge.answering import Origin
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.spending import Limits, Spending
from dokja.judge.outcome import Judged, folder_name
from dokja.judge.records import RECORDS, Record, Sampling, Usage, read_records
from dokja.judge.run_endpoint import PLACE
from dokja.judge.settings import Wishes, sampling_for
from dokja.judge.table import summarise, write_summary
from dokja.ledger.hashing import sha256_json
from dokja.ledger.manifest import code_version
from dokja.ledger.progress import Progress
from dokja.tasks.agentic import golden
from dokja.tasks.agentic.dialogue import Chat
from dokja.tasks.agentic.domain import Scenario, load_domains, split_name
from dokja.tasks.packs.definition import Definition
from dokja.tasks.packs.load import find_definition
from dokja.text.chat import Mode

USER_SAMPLING = Sampling(0.0, 1.0, 2048, None, weights="")
"""How the customers speak: greedily, as officially."""


def is_agentic(suite: str) -> bool:
    """Whether a suite is one for agents. ConfigError for a pack that is not known."""
    return find_definition(split_name(suite)[0]).agent


@dataclass(frozen=True)
class _Player:
    """Who is judged, and what is recorded of them; `chat` None replays the official actions."""

    origin: Origin
    mode: Mode
    sampling: Sampling
    at_once: int
    beside: Path
    chat: Chat | None = None


def judge_agents(
    model: str | Path | Endpoint,
    suites: Sequence[str],
    *,
    user: Endpoint | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    wishes: Wishes | None = None,
    seed: int = 0,
    weights: Bits | None = None,
    at_once: int = 8,
    limits: Limits | None = None,
    out: str | Path | None = None,
    log_path: Path | None = None,
) -> Judged:
    """Judge an agent: the model of a folder, an endpoint, or `golden`, which replays the official actions to check the
    benchmark itself. A killed run continues where it stopped.

    `user` plays the customers, greedily; it also judges sentences where a scenario's reward needs that. `wishes` win
    over what the pack prescribes, and name one mode at most. `at_once` conversations of a folder's model are held at a
    time; an endpoint's by its own `concurrency`. `limits` are of agent and customers together. Records go to `out`,
    else into the model's folder, or beside those of other endpoints. Raises DokjaError sentences of the loader, the
    domains, the endpoints and the runner.
    """
    wishes = wishes or Wishes()
    if wishes.modes is not None and len(wishes.modes) != 1:
        raise ConfigError("Agents are judged in one mode at a time. Name it: --modes think, or --modes direct.")
    if user is None and model != golden.NAME:
        raise ConfigError(
            "Somebody has to play the customers: name an endpoint with --user http://host:port/v1#model. "
            "The EXAONE reports took gpt-4.1-2025-04-14; scores move with it."
        )
    domains = [domain for suite in suites for domain in load_domains(suite, data, limit)]
    pack = find_definition(split_name(suites[0])[0])
    repeats = wishes.repeats or (1 if model == golden.NAME else pack.repeats)
    prices = {"agent": model.prices if isinstance(model, Endpoint) else None, "user": user.prices if user else None}
    spending = Spending(limits or Limits())
    for who, priced in ((model, prices["agent"]), (user, prices["user"])):
        if isinstance(who, Endpoint):
            spending.priced_in(priced, f"the endpoint {who.name}")

    def spent(record: Record) -> None:
        spending.add(record.usage, prices["agent"])
        spending.add(Usage(**(record.dialogue or {}).get("user_usage", {})), prices["user"])

    suite = sha256_json([[d.sha256, [s.id for s in d.scenarios]] for d in domains])

    async def run() -> tuple[Path, list[Record], _Player]:
        async with AsyncExitStack() as stack:
            player = await _player(model, stack, pack, wishes, weights, at_once)
            folder = player.beside / f"judge-agents-{suite[:8]}" if out is None else Path(out)
            customer = None if user is None or player.chat is None else await _open(user, stack)
            name = golden.NAME if user is None else user.url
            plan = Plan(player.mode, player.sampling, repeats, seed, player.at_once, name, customer, spending.over)
            total = repeats * sum(len(domain.scenarios) for domain in domains)
            there = len(read_records(folder)) if (folder / RECORDS).exists() else 0
            with Progress(total, "judge", log_path, start=min(there, total)) as progress:
                cast = _cast(player.chat, customer)
                records = await run_agents(domains, cast, folder, plan, player.origin, progress, spent)
            return folder, records, player

    folder, records, player = asyncio.run(run())
    settings = {
        "suite_sha256": suite,
        "packs": list(suites),
        "limit": limit,
        "tasks": list(dict.fromkeys(record.task for record in records)),
        "repeats": repeats,
        "modes": [player.mode],
        "seed": seed,
        "user": golden.NAME if user is None else user.url,
        **asdict(player.sampling),
    }
    if spending.currency:
        settings |= {"cost": spending.cost, "currency": spending.currency}
    summary = summarise(records, (), settings)
    write_summary(folder, summary)
    return Judged(folder, records, summary)


def _cast(agent: Chat | None, user: Chat | None) -> Cast:
    def play(scenario: Scenario) -> tuple[Chat, Chat]:
        if agent is None or user is None:
            script = golden.Golden(scenario)
            return script.agent, script.user
        return agent, user

    return play


async def _open(user: Endpoint, stack: AsyncExitStack) -> Chat:
    """The customers, over an endpoint that stays open."""
    from dokja.judge.agentic.endpoint_chat import EndpointChat
    from dokja.judge.endpoint.client import Client

    client = await stack.enter_async_context(Client(user))
    return EndpointChat(client, "direct" if "direct" in user.modes else user.modes[0], USER_SAMPLING)


async def _player(
    model: str | Path | Endpoint,
    stack: AsyncExitStack,
    pack: Definition,
    wishes: Wishes,
    weights: Bits | None,
    at_once: int,
) -> _Player:
    graders = code_version(["tasks"])
    asked: Mode | None = wishes.modes[0] if wishes.modes else None
    if isinstance(model, Endpoint):
        from dokja.judge.agentic.endpoint_chat import EndpointChat
        from dokja.judge.endpoint.client import Client

        mode = asked or model.modes[0]
        how = sampling_for(pack, mode, wishes, Recommended(), "")
        client = await stack.enter_async_context(Client(model))
        origin = Origin(model.url, "", "", graders, model.name)
        chat = EndpointChat(client, mode, how)
        return _Player(origin, mode, how, model.concurrency, PLACE / folder_name(model.name), chat)
    if model == golden.NAME:
        origin = Origin(golden.NAME, sha256_json(golden.NAME), "", graders)
        how = Sampling(0.0, 1.0, 1, None, weights="")
        return _Player(origin, asked or "direct", how, at_once, PLACE / golden.NAME)
    return _local(Path(model), pack, wishes, asked, weights, at_once, graders)


def _local(
    model: Path,
    pack: Definition,
    wishes: Wishes,
    asked: Mode | None,
    weights: Bits | None,
    at_once: int,
    graders: str,
) -> _Player:
    from dokja.engine.load import load_engine
    from dokja.judge.agentic.engine_chat import EngineChat
    from dokja.model.spec import ModelSpec

    engine, tokenizer, info = load_engine(model, slots=at_once, weights=weights)
    style = info["style"]
    if not style.tools:
        raise ConfigError(f"{model} was never taught to call tools, so it cannot serve customers. Name another model.")
    mode: Mode = asked or ("think" if style.thinking else "direct")
    how = sampling_for(pack, mode, wishes, info["sampling"], weights or "fp32")
    chat = EngineChat(engine, tokenizer, style, mode, how, ModelSpec.from_dict(info["spec"]).context)
    origin = Origin(info["name"], info["sha256"], style.sha256, graders)
    beside = model if model.is_dir() else model.parent / f"{model.stem}-judge"
    return _Player(origin, mode, how, at_once, beside, chat)
