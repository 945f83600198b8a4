"""Conversations: who sees what, how they end, and what they earn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from agentic_small import CANCEL, write_pack

from dokja.errors import ConfigError, DataError
from dokja.tasks.agentic.dialogue import Dialogue, Reply, Turn, hold, view
from dokja.tasks.agentic.domain import Domain, Scenario, load_domains
from dokja.tasks.agentic.golden import Golden
from dokja.tasks.agentic.prompts import GREETING, agent_prompt, user_prompt
from dokja.tasks.agentic.reward import Verdict, assess
from dokja.text.chat import Message, ToolCall


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "small")


def domain(pack: Path, name: str) -> Domain:
    return load_domains(f"{pack}/{name}")[0]


def says(*messages: str | ToolCall | Reply) -> Any:
    """A side that says its lines one after another, the last one for ever."""
    lines = list(messages)
    seen: list[list[Message]] = []

    async def chat(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, key: str, seed: int) -> Reply:
        seen.append(list(messages))
        line = lines.pop(0) if len(lines) > 1 else lines[0]
        if isinstance(line, Reply):
            return line
        if isinstance(line, ToolCall):
            return Reply(Message("assistant", tool_calls=(line,)))
        return Reply(Message("assistant", line))

    chat.seen = seen  # type: ignore[attr-defined]
    return chat


LOOK = ToolCall("get_reservation_details", {"reservation_id": "AAA111"})
DO = ToolCall(CANCEL["name"], CANCEL["arguments"])


def talk(domain: Domain, scenario: Scenario, agent: Any, user: Any, **limits: int) -> tuple[Dialogue, Verdict]:
    async def both() -> tuple[Dialogue, Verdict]:
        held = await hold(domain, scenario, agent, user, **limits)
        assert held.ended is not None
        return held, await assess(domain, scenario, held.turns, held.ended)

    return asyncio.run(both())


def test_official_actions_earn_everything_in_every_domain(pack: Path) -> None:
    for found in load_domains(str(pack)):
        for scenario in found.scenarios:
            script = Golden(scenario)
            held, verdict = talk(found, scenario, script.agent, script.user)
            assert verdict.grade.score == 1 and verdict.grade.reason == "right", scenario.id
            assert held.ended == "user_stop" and set(verdict.parts.values()) == {1.0}


def test_each_part_is_lost_by_what_it_is_about(pack: Path) -> None:
    air = domain(pack, "airline")
    cancel = air.scenarios[0]
    user = says("Cancel AAA111.", "Thanks ###STOP###")
    _, verdict = talk(air, cancel, says("It costs 1,500."), user)
    assert verdict.grade.reason == "wrong" and verdict.grade.detail.startswith("the database ends otherwise")
    assert verdict.parts == {"DB": 0.0, "COMMUNICATE": 1.0, "ACTION": 0.0, "ENV_ASSERTION": 1.0}
    _, verdict = talk(air, cancel, says(LOOK, DO, "Done."), says("Cancel.", "###STOP###"))
    assert verdict.grade.score == 0 and verdict.grade.detail == "never said: 1500"
    _, verdict = talk(air, cancel, says(DO, "It is $1,500."), says("Cancel.", "###STOP###"))
    assert verdict.grade.score == 1 and verdict.parts["ACTION"] == 0  # looking first is no part of the basis
    _, verdict = talk(air, air.scenarios[1], says(DO, "Done."), says("Cancel.", "###STOP###"))
    assert verdict.grade.score == 0 and verdict.parts["DB"] == 0
    phones = domain(pack, "telecom")
    _, verdict = talk(phones, phones.scenarios[0], says("Hm."), says("No data.", "###STOP###"))
    assert verdict.grade.detail == "not true at the end: assert_mobile_data_status"
    _, verdict = talk(phones, phones.scenarios[1], says("Hm."), says("No service.", "###STOP###"))
    assert verdict.grade.detail == "never called: transfer_to_human_agents"
    hand = ToolCall("transfer_to_human_agents", {"summary": "in other words"})
    _, verdict = talk(phones, phones.scenarios[1], says(hand, "You are handed over."), says("Hm.", "###TRANSFER###"))
    assert verdict.grade.score == 1


@pytest.mark.parametrize(
    ("agent", "user", "ended", "reason"),
    [
        (says("Hello?"), says("Hello."), "max_steps", "truncated"),
        (says(ToolCall("nothing", {})), says("Go."), "too_many_errors", "wrong"),
        (says(""), says("Go."), "agent_error", "unparseable"),
        (says(Reply(Message("assistant", "lo"), "length")), says("Go."), "agent_cut", "truncated"),
        (says("Hello?"), says(" "), "user_error", "grader_failed"),
        (says("Hello?"), says(Reply(Message("assistant", "lo"), "length")), "user_cut", "grader_failed"),
    ],
)
def test_a_conversation_that_ends_otherwise_earns_nothing(
    pack: Path, agent: Any, user: Any, ended: str, reason: str
) -> None:
    air = domain(pack, "airline")
    held, verdict = talk(air, air.scenarios[1], agent, user, max_steps=30)
    assert (held.ended, verdict.grade.score, verdict.grade.reason) == (ended, 0.0, reason)
    assert verdict.parts["DB"] == 1 and verdict.grade.detail


def test_limits_are_as_published_ten_errors_and_steps_of_messages_and_answers(pack: Path) -> None:
    air = domain(pack, "airline")
    held, _ = talk(air, air.scenarios[1], says(ToolCall("nothing", {})), says("Go."))
    assert sum(turn.error for turn in held.turns) == 10
    held, _ = talk(air, air.scenarios[1], says(LOOK), says("Go."), max_steps=9)
    assert len(held.turns) == 1 + 9 and held.turns[-1].who == "tool"
    held, _ = talk(air, air.scenarios[1], says("Hello?"), says("Hello."))
    assert len(held.turns) == 1 + 200


def test_each_side_sees_its_own_calls_and_the_others_words(pack: Path) -> None:
    phones = domain(pack, "telecom")
    agent = says(ToolCall("get_customer_by_id", {"customer_id": "C1"}), "Switch data on.", "Good bye.")
    user = says("No data.", ToolCall("toggle_data", {}), "It is on.", "###STOP###")
    held, _ = talk(phones, phones.scenarios[0], agent, user)
    assert [(t.who, t.to) for t in held.turns] == [
        ("agent", None), ("user", None), ("agent", None), ("tool", "agent"), ("agent", None), ("user", None),
        ("tool", "user"), ("user", None), ("agent", None), ("user", None),
    ]  # fmt: skip
    last = agent.seen[-1]
    assert [m.role for m in last] == ["system", "assistant", "user", "assistant", "tool", "assistant", "user"]
    assert last[1].content == GREETING and last[-1].content == "It is on." and "Cy Park" in last[4].content
    last = user.seen[-1]
    assert [m.role for m in last] == [
        "system", "user", "assistant", "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert "Mobile data: on" in last[5].content and last[4].tool_calls == (ToolCall("toggle_data", {}),)


def test_a_user_without_tools_has_none_to_call(pack: Path) -> None:
    air = domain(pack, "airline")
    held, _ = talk(air, air.scenarios[1], says("Hello?"), says(ToolCall("toggle_data", {}), "Bye ###STOP###"))
    assert held.turns[2].content == "Error: There are no tools here." and held.turns[2].error


def test_thoughts_go_back_to_who_thought_them_alone() -> None:
    turns = [Turn("agent", "Hello"), Turn("user", "Hi"), Turn("agent", "Yes?", reasoning="a customer")]
    assert view(turns, "agent", "s")[-1].reasoning == "a customer"
    assert view(turns, "user", "s")[-1] == Message("user", "Yes?")


def test_turns_survive_a_record() -> None:
    turns = [
        Turn("agent", "", "hm", (DO,)),
        Turn("tool", "Error: no", to="agent", call="cancel_reservation", error=True),
        Turn("user", "Bye"),
    ]
    assert [Turn.from_dict(json.loads(json.dumps(turn.to_dict()))) for turn in turns] == turns


def test_prompts_hold_policy_guidelines_and_story(pack: Path) -> None:
    phones = domain(pack, "telecom")
    told = user_prompt(phones, phones.scenarios[0])
    assert "# simulation_guidelines_tools" in told and "You are old." in told and "You are Ann." in told
    policy = agent_prompt(phones)
    assert "# main_policy of telecom" in policy and "# tech_support_manual of telecom" in policy
    assert "# policy of airline" in agent_prompt(domain(pack, "airline"))


def test_sentences_need_a_model_that_judges_them(pack: Path) -> None:
    path = pack / "data" / "airline" / "tasks.json"
    rows = json.loads(path.read_text())
    rows[1]["evaluation_criteria"]["reward_basis"] = ["DB", "NL_ASSERTION"]
    path.write_text(json.dumps(rows))
    air = domain(pack, "airline")
    turns = [Turn("agent", GREETING), Turn("user", "Bye ###STOP###")]

    def judged(judge: Any) -> Verdict:
        return asyncio.run(assess(air, air.scenarios[1], turns, "user_stop", judge))

    assert judged(None).grade.reason == "grader_failed"
    judge = says("TRUE")
    assert judged(judge).grade.score == 1 and "The agent refuses." in judge.seen[0][-1].content
    assert judged(says("FALSE")).grade.detail == "judged untrue: The agent refuses."
    assert judged(says("UNTRUE")).grade.score == 0 and judged(says("It depends.")).grade.score == 0


def test_data_is_pinned_and_damage_is_named(pack: Path, tmp_path: Path) -> None:
    known = {found.name: found.sha256 for found in load_domains(str(pack))}
    pack = write_pack(tmp_path / "pinned", known)
    assert [found.sha256 for found in load_domains(str(pack))] == list(known.values())
    policy = pack / "data" / "airline" / "policy.md"
    policy.rename(policy.with_suffix(".txt"))
    assert domain(pack, "airline").sha256 == known["airline"]  # the ending makes no difference
    policy.with_suffix(".txt").write_text("Other words.\n")
    with pytest.raises(DataError, match=r"small/airline is not what small 1 was defined on"):
        domain(pack, "airline")
    (pack / "data" / "telecom" / "main_policy.md").unlink()
    with pytest.raises(DataError, match="main_policy is missing"):
        domain(pack, "telecom")
    (pack / "data" / "retail" / "db.json").write_text("{")
    with pytest.raises(DataError, match=r"db of .* cannot be read"):
        domain(pack, "retail")


def test_names_and_limits_that_mean_nothing_are_refused(pack: Path) -> None:
    with pytest.raises(ConfigError, match="no domain 'bank'"):
        load_domains(f"{pack}/bank")
    with pytest.raises(ConfigError, match="no benchmark for agents"):
        load_domains("gsm8k")
    with pytest.raises(ConfigError, match="asks nothing"):
        load_domains(str(pack), limit=0)
    assert len(load_domains(f"{pack}/airline", limit=1)[0].scenarios) == 1
