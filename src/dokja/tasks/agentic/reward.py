"""The official evaluation of a conversation, from its transcript alone.

| part          | 1 where                                                                                          |
|---------------|--------------------------------------------------------------------------------------------------|
| DB            | the databases end as they do after the official actions on fresh ones                              |
| COMMUNICATE   | every string that must be said stands in the agent's words (case and thousands' commas aside)      |
| ACTION        | every official action was called, with the arguments that count                                    |
| ENV_ASSERTION | every assertion about the end is true                                                              |
| NL_ASSERTION  | a language model finds every sentence about the conversation true                                  |

The reward is the product of the parts in the scenario's basis; a conversation that did not end as it should earns 0.
The other parts are worked out as well, to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dokja.tasks.agentic.dialogue import Chat, Ending, Turn
from dokja.tasks.agentic.domain import Domain, Scenario
from dokja.tasks.agentic.world import Side, World
from dokja.tasks.problem import Grade, Reason
from dokja.text.chat import Message, ToolCall

PARTS = ("DB", "COMMUNICATE", "ACTION", "ENV_ASSERTION", "NL_ASSERTION")
_ENDED: dict[Ending, tuple[Reason, str]] = {
    "max_steps": ("truncated", "the conversation did not end within its steps"),
    "too_many_errors": ("wrong", "too many calls of tools were refused"),
    "agent_error": ("unparseable", "the agent wrote an empty message or a call that cannot be read"),
    "agent_cut": ("truncated", "a limit of tokens cut the agent off"),
    "user_error": ("grader_failed", "the simulated user wrote an empty message or a call that cannot be read"),
    "user_cut": ("grader_failed", "a limit of tokens cut the simulated user off"),
}


@dataclass(frozen=True)
class Verdict:
    """The grade, every part by name, and what was found wanting."""

    grade: Grade
    parts: Mapping[str, float]


async def assess(
    domain: Domain, scenario: Scenario, turns: Sequence[Turn], ended: Ending, judge: Chat | None = None
) -> Verdict:
    """The verdict on a conversation. `judge` decides on NL_ASSERTION; without one a scenario whose basis holds it is
    `grader_failed`."""
    wants: dict[str, list[str]] = {}
    world = replay(domain, scenario, turns)
    if not world.same_as(_golden(domain, scenario)):
        wants["DB"] = ["the database ends otherwise than after the official actions"]
    said = [turn.content.lower().replace(",", "") for turn in turns if turn.who == "agent"]
    wants["COMMUNICATE"] = [
        f"never said: {needed}"
        for needed in scenario.part("communicate_info")
        if not any(needed.lower() in words for words in said)
    ]
    made = [call for turn in turns for call in turn.calls]
    wants["ACTION"] = [
        f"never called: {action['name']}"
        for action in scenario.part("actions")
        if not any(_matches(action, call) for call in made)
    ]
    wants["ENV_ASSERTION"] = [
        f"not true at the end: {assertion['func_name']}"
        for assertion in scenario.part("env_assertions")
        if not world.holds(assertion)
    ]
    sentences = scenario.part("nl_assertions")
    asked = "NL_ASSERTION" in scenario.basis
    if asked and sentences and judge is not None:
        wants["NL_ASSERTION"] = [f"judged untrue: {s}" for s in sentences if not await _true(judge, s, turns)]
    elif asked and sentences:
        detail = "NL_ASSERTION needs a language model that judges, and none was given"
        return Verdict(Grade(0.0, "grader_failed", detail), {p: float(not wants.get(p)) for p in PARTS if p in wants})
    parts = {part: float(not wants.get(part)) for part in PARTS if part != "NL_ASSERTION" or part in wants}
    if ended != "user_stop":
        reason, detail = _ENDED[ended]
        return Verdict(Grade(0.0, reason, detail), parts)
    lacking = [want for part in scenario.basis for want in wants.get(part, ())]
    return Verdict(Grade(float(not lacking), "wrong" if lacking else "right", "; ".join(lacking)), parts)


def replay(domain: Domain, scenario: Scenario, turns: Iterable[Turn]) -> World:
    """The world as a conversation leaves it: its calls made again on a fresh one."""
    world = domain.world()
    world.set_up(scenario.initial_state)
    for turn in turns:
        if turn.who != "tool":
            for call in turn.calls:
                world.call(turn.who, call.name, call.arguments)
    return world


def _golden(domain: Domain, scenario: Scenario) -> World:
    """The world after the official actions; one that its tool refuses changes nothing, as officially."""
    world = domain.world()
    world.set_up(scenario.initial_state)
    for action in scenario.part("actions"):
        world.call(side_of(action), action["name"], action["arguments"])
    return world


def side_of(action: Mapping[str, Any]) -> Side:
    """Who makes an official action."""
    return "user" if action.get("requestor") == "user" else "agent"


def _matches(action: Mapping[str, Any], call: ToolCall) -> bool:
    """Names are equal and so are the arguments that count: those named, else those of the call."""
    if call.name != action["name"]:
        return False
    counts = action.get("compare_args")
    names = call.arguments.keys() if counts is None else set(counts)
    made = {name: value for name, value in call.arguments.items() if name in names}
    return made == {name: value for name, value in action["arguments"].items() if name in names}


_JUDGE = """You read a conversation between a customer and an agent, and say whether one sentence about it is true.
Answer with the one word TRUE or FALSE."""


async def _true(judge: Chat, sentence: str, turns: Sequence[Turn]) -> bool:
    """Whether the judge finds a sentence true; anything but a clear answer is none."""
    lines = [f"{t.who}: {t.content or ', '.join(c.json() for c in t.calls)}" for t in turns]
    asked = "\n".join(["<conversation>", *lines, "</conversation>", "", f"Sentence: {sentence}"])
    reply = await judge((Message("system", _JUDGE), Message("user", asked)), (), key=f"judge/{sentence}", seed=0)
    words = re.findall(r"\w+", reply.message.content)
    return bool(words) and words[-1].upper() == "TRUE"
