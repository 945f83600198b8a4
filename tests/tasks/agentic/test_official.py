"""The benchmark's own data: its actions earn the reward, and one action less or other does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from dokja.tasks.agentic.dialogue import hold
from dokja.tasks.agentic.domain import Domain, Scenario, load_domains
from dokja.tasks.agentic.golden import Golden
from dokja.tasks.agentic.reward import Verdict, assess
from dokja.tasks.agentic.world import DESKS

FEW = 4
"""Scenarios of a domain that a quick run looks at."""


def play(domain: Domain, scenario: Scenario, alter: Callable[[Golden], None] = lambda script: None) -> Verdict:
    async def both() -> Verdict:
        script = Golden(scenario)
        alter(script)
        held = await hold(domain, scenario, script.agent, script.user)
        assert held.ended == "user_stop"
        return await assess(domain, scenario, held.turns, held.ended)

    return asyncio.run(both())


def writes(scenario: Scenario) -> list[int]:
    """The places of the actions that may change the database."""
    tools = DESKS[scenario.task.partition("/")[2]].tools()
    return [n for n, a in enumerate(scenario.part("actions")) if a["name"] in tools and tools[a["name"]].writes]


def check(domain: Domain) -> tuple[int, int]:
    """(scenarios, altered ones that lost the reward); fails where the official actions do not earn it."""
    lost = 0
    for scenario in domain.scenarios:
        assert play(domain, scenario).grade.reason == "right", scenario.id
        if places := writes(scenario):
            lost += play(domain, scenario, _without(places[-1])).grade.score == 0
        if scenario.part("communicate_info"):
            silent = play(domain, scenario, lambda script: script.said.clear())
            assert silent.parts["COMMUNICATE"] == 0 and silent.grade.score == 0, scenario.id
    return len(domain.scenarios), lost


def _without(place: int) -> Callable[[Golden], None]:
    def alter(script: Golden) -> None:
        del script.actions[place]

    return alter


@pytest.mark.shared
@pytest.mark.parametrize("name", DESKS)
def test_official_actions_earn_the_reward(name: str, shared_packs: Path) -> None:
    (domain,) = load_domains(f"tau2/{name}", limit=FEW)
    assert check(domain)[0] == FEW


@pytest.mark.shared
@pytest.mark.slow
def test_all_fifty_airline_scenarios_are_won_by_their_actions_and_lost_without_one(shared_packs: Path) -> None:
    (domain,) = load_domains("tau2/airline")
    changed = [scenario for scenario in domain.scenarios if writes(scenario)]
    assert check(domain) == (50, len(changed)) and len(changed) >= 25
    for scenario in changed:
        assert play(domain, scenario, _other_row).grade.score == 0


def _other_row(script: Golden) -> None:
    """The last change on something that does not exist."""
    place = writes(script.scenario)[-1]
    action = dict(script.actions[place])
    key = "reservation_id" if "reservation_id" in action["arguments"] else "user_id"
    script.actions[place] = {**action, "arguments": {**action["arguments"], key: "NOBODY"}}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["retail", "telecom"])
def test_all_other_scenarios_are_won_by_their_actions(name: str, shared_packs: Path) -> None:
    (domain,) = load_domains(f"tau2/{name}")
    for scenario in domain.scenarios:
        assert play(domain, scenario).grade.reason == "right", scenario.id
    assert len(domain.scenarios) == 114
